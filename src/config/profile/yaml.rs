//! A profile as a configuration file: every value quoted where it could be read as anything else,
//! every decision that is the operator's in a comment.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{Endpoint, Offer, Profile};
use crate::config::check::url::{is_loopback, is_protected};
use crate::config::scalar::MAX_TEXT;
use crate::config::well_known;

/// The text of the file.
pub(super) fn render(profile: &Profile) -> String {
    let sections = [
        preface(profile),
        listeners(profile),
        upstream(profile),
        authorization_server(profile),
        signing_keys(profile),
        ISSUERS.to_owned(),
        applications(profile),
        rest(profile),
    ];
    sections.join("\n")
}

fn preface(profile: &Profile) -> String {
    let url = scalar(origin(&profile.premises.upstream).as_str());
    let read = profile.premises.metadata.first().map(String::as_str).unwrap_or_default();
    format!(
        "\
# Cambio in front of {url}, by what its metadata say:
# {read}
#
# Written by `cambio init`. `cambio check` finds faults in this file, `cambio doctor` asks whether it
# fits what runs. Look for \"To decide\": there the choice is yours. Relative paths are relative to
# this file.
"
    )
}

fn listeners(profile: &Profile) -> String {
    let address = |address: SocketAddr| match address {
        SocketAddr::V4(address) => address.to_string(),
        SocketAddr::V6(address) => format!("\"{address}\""),
    };
    let (listen, admin) = (address(profile.premises.listen), address(profile.premises.admin));
    format!(
        "\
# To decide: where clients, or whatever stands before Cambio, connect.
listen:
  - address: {listen}
    # For HTTPS, and HTTP/2:
    # tls: {{ certificate: {{ file: tls.crt }}, private_key: {{ file: tls.key }} }}

# For operators: /metrics /livez /readyz /status /revoke. Keep it off public networks.
admin: {{ address: {admin} }}
"
    )
}

fn upstream(profile: &Profile) -> String {
    let premises = &profile.premises;
    let url = scalar(&origin(&premises.upstream));
    let mut text = format!(
        "\
# The identity provider. `Host` reaches it as clients send it. X-Forwarded-Proto, X-Forwarded-Host,
# X-Forwarded-For and Forwarded are Cambio's own, by its listener (`http` where that has no `tls`):
# the identity provider has to trust them from Cambio, and from nobody else.
upstream:
  url: {url}
"
    );
    match &premises.ca {
        Some(ca) => writeln!(text, "  ca: {{ file: {} }}", scalar(ca)),
        None if premises.upstream.scheme() == "https" => {
            writeln!(text, "  # ca: {{ file: ca.pem }} # Trusted instead of the system's roots.")
        }
        None if is_protected(&premises.upstream) => Ok(()),
        None => writeln!(
            text,
            "  # Plain http to another machine: secrets and tokens go there in the clear."
        ),
    }
    .unwrap_or_default();
    text
}

fn authorization_server(profile: &Profile) -> String {
    let issuer = scalar(&profile.issuer);
    let mut text = String::from(
        "\
# What the identity provider is to its clients, and where. Its paths stay what they are.
authorization_server:
  # Its own issuer, to the byte: `iss` of what Cambio mints, and what subject tokens must have in
  # `aud`, unless their issuer has an `alias` for it.
",
    );
    if is_loopback(&profile.issuer_url) {
        text += "  # To decide: only this machine can call it by that name. Where the identity provider takes its name
  # from the request, say what clients call it: `cambio init --public-url URL`.
";
    } else if profile.issuer_url.scheme() != "https" {
        text += "  # To decide: it is not https, and relying parties may refuse that. Where the identity provider takes
  # its name from the request, say what clients call it: `cambio init --public-url URL`.
";
    }
    let _ = writeln!(text, "  issuer: {issuer}");
    text += "  overlay: true # Cambio's keys and grant are merged into the documents below.\n";
    if profile.is_signed {
        text += "  # ATTENTION: the metadata are signed (`signed_metadata`), and Cambio can't sign them anew. They pass
  # as they are, without Cambio's grant. Have the identity provider leave the signed form out.
";
    }
    if let Some(url) = keys_elsewhere(profile) {
        text += "  # The identity provider's keys lie on another host, and are fetched there.\n";
        let _ = writeln!(text, "  upstream_jwks: {}", scalar(url.as_str()));
    }
    text += "  endpoints:\n";
    remark(&mut text, "token_endpoint", &profile.token);
    let _ = writeln!(text, "    token: [{}]", scalar(&profile.token.path));
    keys(&mut text, profile);
    metadata(&mut text, profile);
    inquiry(&mut text, "introspection", &profile.introspection);
    inquiry(&mut text, "revocation", &profile.revocation);
    text += "  # To decide: an exchange whose subject token names none of the issuers below is rejected. `forward`
  # sends it to the identity provider instead.
  # unknown_issuers: forward
";
    text
}

/// Where the keys are, where they lie past the upstream.
fn keys_elsewhere(profile: &Profile) -> Option<&url::Url> {
    let jwks = profile.jwks.as_ref()?;
    let is_past = jwks.elsewhere.is_some() && profile.premises.no_keys.is_some();
    let is_short = jwks.url.as_str().len() <= MAX_TEXT;
    (is_past && is_short && is_protected(&jwks.url)).then_some(&jwks.url)
}

fn keys(text: &mut String, profile: &Profile) {
    let Some(jwks) = &profile.jwks else {
        *text += "    # ATTENTION: the metadata have no `jwks_uri`, so that nobody would find Cambio's keys. Give
    # applications `access_token: { format: opaque }`, or name the path here.
    # jwks: /jwks
";
        return;
    };
    if keys_elsewhere(profile).is_some() {
        *text += "    # Here the keys are served with Cambio's, and the metadata lead here.\n";
    } else {
        remark(text, "jwks_uri", jwks);
        if let Some(why) = &profile.premises.no_keys {
            let why = super::printable(why);
            let _ = writeln!(
                text,
                "    # ATTENTION: no key set is to be had at this path from the upstream ({why}).\n    \
                 # Relying parties find Cambio's keys only where the identity provider's are asked for here."
            );
        }
    }
    let _ = writeln!(text, "    jwks: {}", scalar(&jwks.path));
}

fn metadata(text: &mut String, profile: &Profile) {
    let places = &profile.premises.metadata;
    let expected = well_known::of_issuer(profile.issuer_url.path());
    if !expected.iter().any(|place| places.contains(place)) {
        let [openid, oauth] = expected.map(|place| scalar(&place));
        let _ = writeln!(
            text,
            "    # Clients that know the issuer alone look at {openid}\n    \
             # or {oauth}, where nothing was found."
        );
    }
    let places: Vec<String> = places.iter().map(|place| scalar(place)).collect();
    match places.as_slice() {
        [one] => {
            let _ = writeln!(text, "    metadata: [{one}]");
        }
        several => {
            *text += "    metadata:\n";
            for place in several {
                let _ = writeln!(text, "      - {place}");
            }
        }
    }
}

/// Introspection or revocation.
fn inquiry(text: &mut String, name: &str, offer: &Offer) {
    match offer {
        Offer::At(endpoint) => {
            remark(text, &format!("{name}_endpoint"), endpoint);
            let _ = writeln!(text, "    {name}: {}", scalar(&endpoint.path));
        }
        Offer::Unnamed => {
            let _ = writeln!(text, "    # No {name}: the metadata have no `{name}_endpoint`.");
        }
        Offer::Unusable(why) => {
            let _ = writeln!(text, "    # No {name}: {}.", super::printable(why));
        }
    }
}

/// What is to be known of an endpoint that is not where the others are.
fn remark(text: &mut String, name: &str, endpoint: &Endpoint) {
    if let Some(origin) = &endpoint.elsewhere {
        let _ = writeln!(
            text,
            "    # ATTENTION: `{name}` lies on {origin}. What clients send there\n    \
             # does not come by, unless that name, too, leads to Cambio."
        );
    }
    if endpoint.has_query {
        let _ = writeln!(text, "    # `{name}` has a query, too; Cambio goes by the path alone.");
    }
}

fn signing_keys(profile: &Profile) -> String {
    let algorithm = profile.premises.algorithm.as_str();
    let key = scalar(&profile.premises.signing_key);
    let theirs = match profile.algorithms.as_slice() {
        [] => "the identity provider's".to_owned(),
        some => format!("the identity provider's ({})", some.join(", ")),
    };
    format!(
        "\
# Cambio's own key: another one than {theirs}, and it may be of another
# algorithm. To decide: resource servers that accept one algorithm alone need a key of that one, from
# `cambio keys generate`.
signing_keys:
  - algorithm: {algorithm}
    private_key: {{ file: {key} }}
"
    )
}

const ISSUERS: &str = "\
# To decide: whose tokens are accepted.
# trusted_token_issuers:
#   - name: partner # What metrics and logs call it.
#     issuer: https://third-party.example # `iss` of its tokens, to the byte.
#     discovery: true # Its keys by its metadata; or jwks_endpoint, certificate, jwks.
#     alias: https://partner.example/our-name # What its tokens have in `aud`, if not the issuer above.
#     subject_prefix: \"partner:\" # Put before `sub`, so that nobody there is taken for somebody here.
";

const APPLICATIONS: &str = "\
# To decide: who may exchange them, and for what.
# applications:
#   - client_id: portal
#     client_secret: { env: PORTAL_SECRET } # Or { file }, or { hash } from `cambio hash-secret`.
#     type: traditional_web # Or standard_oidc; `mobile` is public, and has no secret.
#     allowed_grant_types: [urn:ietf:params:oauth:grant-type:token-exchange] # And refresh_token.
#     trusted_token_issuers: [partner] # Default: all.
#     audiences: [https://api.example.com] # `aud` of its tokens. Default: its client_id.
#     scopes: [read] # What it may ask for. Default: none.
";

/// Comes after [`APPLICATIONS`].
const VOUCHED_FOR: &str = "\
#   # A client whose secret the identity provider knows, and Cambio does not.
#   - client_id: svc1 # Or \"*\": every client that is not named here.
#     authentication: upstream
#     audiences: [https://api.example.com]
";

fn rest(profile: &Profile) -> String {
    let mut text = String::new();
    if profile.introspection.endpoint().is_some() {
        text += "\
# To decide: which clients of the identity provider may introspect tokens that are for others.
# resource_servers:
#   - client_id: api
#     audiences: [https://api.example.com]

";
    }
    text += "\
# To decide: where refresh tokens, opaque tokens and revocations are kept. By default in the folder
# `state` beside this file, for one Cambio alone; several share a Redis.
# store:
#   redis: { url: \"rediss://redis.example.com:6379\", password: { env: REDIS_PASSWORD } }
";
    text
}

fn applications(profile: &Profile) -> String {
    let mut text = APPLICATIONS.to_owned();
    // Somebody has to say whether the secret is right.
    if profile.introspection.endpoint().or(profile.revocation.endpoint()).is_some() {
        text += VOUCHED_FOR;
    }
    text
}

/// Scheme, host and port.
fn origin(url: &url::Url) -> String {
    url.origin().ascii_serialization()
}

/// A text as a YAML scalar of printable ASCII: plain where it can mean nothing else, else in double
/// quotes (YAML 1.2.2 §7.3.1).
fn scalar(text: &str) -> String {
    let plain = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '~' | '-'))
    };
    let is_plain = match text.split_once("://") {
        Some(("http" | "https", rest)) => {
            let (host, path) = rest.split_once(':').unwrap_or((rest, "/"));
            !path.is_empty() && plain(host) && plain(path)
        }
        Some(_) => false,
        None if text.starts_with('/') => plain(text),
        // No number and no word that means something has a letter, and then a dot.
        None => {
            text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.contains('.') && plain(text)
        }
    };
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            other => {
                let _ = write!(quoted, "\\U{:08x}", u32::from(other));
            }
        }
    }
    quoted.push('"');
    quoted
}
