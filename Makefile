# Everything that is done to this tree by hand or by CI. `make` alone lists it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
export PATH := $(or $(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH)

# `make test CLIENTS=no` leaves out what needs Python, Node and further Debian packages: other
# people's clients and identity providers.
CLIENTS ?= yes
TESTS := $(patsubst tests/%.rs,%,$(wildcard tests/*.rs)) $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))
WITHOUT_CLIENTS := --lib --bins $(addprefix --test ,$(filter-out idp,$(TESTS)))

.DEFAULT_GOAL := help
.PHONY: help demo test check fmt clippy doc deny golden soak chaos abuse pressure bench fuzz mutants secrecy release reproducible setup setup-servers setup-clients

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

demo: setup ## one token exchange on this machine, with both tokens decoded
	cargo run --quiet -- dev --once

ifeq ($(CLIENTS),no)
test: setup setup-servers
	cargo test $(WITHOUT_CLIENTS)
	@echo "NOT RUN, as CLIENTS=no: tests/idp (real clients and real identity providers)" >&2
else
test: setup setup-servers setup-clients ## every test (CLIENTS=no: those that need nobody else's software)
	cargo test
endif

check: fmt clippy doc test deny ## what CI gates on

fmt: ## formatting
	cargo fmt --check

clippy: setup ## lints, warnings denied
	cargo clippy --quiet --all-targets -- -D warnings

doc: setup ## documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --document-private-items

deny: ## licences, bans and sources of everything in the tree
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check licenses bans sources; \
	else echo "NOT CHECKED: licences, bans and sources. Install with: .ci/setup deny" >&2; fi

golden: setup ## rewrites the golden files; review the diff
	UPDATE_GOLDEN=1 cargo test $(WITHOUT_CLIENTS)

# `make soak KILLS=10000 SEED=5` says how long, and repeats a run.
KILLS ?= 2000
SEED ?= $(shell date +%s)
soak: setup ## kill -9 under load, KILLS times (2000), with an account of what survived
	CAMBIO_KILLS=$(KILLS) CAMBIO_SEED=$(SEED) cargo test --test e2e refresh_kill

# `make chaos ROUNDS=50` measures each kind for longer, KINDS="hangs html" these alone.
ROUNDS ?= 30
KINDS ?=
chaos: setup ## what issuers that misbehave, and tokens that nobody signed, cost others
	CAMBIO_CHAOS=$(ROUNDS) CAMBIO_CHAOS_KINDS="$(KINDS)" cargo test --release --test e2e -- chaos keys_flood --nocapture --test-threads 1

abuse: setup ## every case of request smuggling, every way (the tests send each one way)
	CAMBIO_CASES=all cargo test --test abuse -- --nocapture smuggling:: downgrade::

# Figures are worth something on a machine that does nothing else. Two thousand clients need as many open files.
TOKENS ?= 1000000
SECONDS_EACH ?= 5
pressure: setup ## floods, slow clients, goodput and memory of a release build: the full size (TOKENS, SECONDS_EACH)
	cargo bench --no-run --bench pressure
	@status=0; ulimit -n 8192; \
	CAMBIO_BINARY=$(CURDIR)/target/release/cambio CAMBIO_SECONDS=$(SECONDS_EACH) \
	    cargo test --test abuse -- --nocapture --test-threads 1 http2:: slow:: || status=1; \
	CAMBIO_TOKENS=$(TOKENS) cargo bench --bench pressure || status=1; \
	exit $$status

secrecy: setup setup-servers setup-clients ## the whole suite at its most talkative, searched for secrets
	.ci/secrecy

bench: setup ## benchmarks
	cargo bench

# `make fuzz SECONDS=600 TARGETS="pem yaml"` says how long, and which of tests/fuzz/fuzz_targets.
SECONDS := 60
TARGETS ?= $(patsubst tests/fuzz/fuzz_targets/%.rs,%,$(wildcard tests/fuzz/fuzz_targets/*.rs))
fuzz: setup ## every fuzz target for SECONDS (60), one after the other
	@.ci/setup fuzz
	@tests/fuzz/run $(SECONDS) $(TARGETS)

# `make mutants FILES='src/jwt/*.rs' SHARD=1/8` says which, and how large a part of them.
FILES ?= src/jwt/**/*.rs src/exchange/**/*.rs src/oauth/**/*.rs
SHARD ?= 0/1
mutants: setup ## mutation testing of FILES (jwt, exchange, oauth), or of their SHARD (0/1)
	@.ci/setup mutants
	@tests/mutants/run $(SHARD) $(FILES)

release: setup ## what is shipped, into dist/: binary, SBOM, checksums
	@.ci/setup sbom
	.ci/release dist

reproducible: setup ## the last commit built twice at different places: the same bytes?
	@.ci/setup sbom
	.ci/reproducible

setup:
	@.ci/setup build

setup-servers: setup
	@.ci/setup servers

setup-clients: setup
	@.ci/setup clients
	@.ci/setup idps
