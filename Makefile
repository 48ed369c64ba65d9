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
.PHONY: help demo test check fmt clippy doc deny golden soak secrecy bench release reproducible setup setup-servers setup-clients

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

secrecy: setup setup-servers setup-clients ## the whole suite at its most talkative, searched for secrets
	.ci/secrecy

bench: setup ## benchmarks
	cargo bench

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
