//! Families and tokens to keep, each of its own.

use std::io::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cambio::clock;
use cambio::exchange::family::{End, Family, RefreshToken, RefreshTokenSettings};
use cambio::exchange::grant::{CopiedClaim, Grant};
use cambio::exchange::mint::Kept;
use cambio::exchange::opaque::{OpaqueAccessToken, OpaqueId};
use cambio::exchange::subject::Once;
use cambio::exchange::token_id::{Entropy, FamilyId, IssuerTag, JwtId};
use cambio::oauth::scope::Scope;
use cambio::time::Timestamp;
use serde_json::json;

pub const HOUR: Duration = Duration::from_secs(3600);

pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    aws_lc_rs::rand::fill(&mut octets).unwrap();
    octets
}

pub fn entropy() -> Entropy {
    Entropy::from_octets(random())
}

/// A name that nobody else has.
pub fn name(kind: &str) -> String {
    format!("{kind}-{}", URL_SAFE_NO_PAD.encode(random::<12>()))
}

/// What is granted to a client and for a subject that nobody else has.
pub fn grant() -> Grant {
    Grant {
        client_id: name("client"),
        issuer: format!("https://{}.example", name("issuer")),
        subject_of_issuer: "alice".to_owned(),
        subject: name("subject"),
        audiences: vec!["https://api.example.com".to_owned()],
        scope: Scope::parse("read write").unwrap(),
        claims: vec![CopiedClaim {
            minted: "email".to_owned(),
            subject: "email".to_owned(),
            value: json!("alice@example.com"),
        }],
        granted_at: clock::now(),
    }
}

pub const SETTINGS: RefreshTokenSettings = RefreshTokenSettings {
    lifetime: Duration::from_secs(24 * 3600),
    idle: None,
    grace: Duration::from_secs(5),
};

pub fn begin(grant: Grant) -> (Family, RefreshToken) {
    let outlived_by = grant.granted_at.plus(HOUR);
    Family::begin(grant, &SETTINGS, outlived_by, &entropy())
}

/// The family of a new grant.
pub fn family() -> Family {
    begin(grant()).0
}

/// The family, and how it came to its end.
pub fn ended(family: &Family, end: End) -> Family {
    let mut family = family.clone();
    family.ended = Some(end);
    family
}

/// What the family is after `token` was used.
pub fn rotate(family: &Family, token: &RefreshToken) -> (Family, RefreshToken) {
    family.rotated(token, &SETTINGS, &entropy(), clock::now())
}

/// An opaque access token for what was granted, of this family, if any.
pub fn opaque(grant: &Grant, family: Option<FamilyId>, expires_at: Timestamp) -> OpaqueAccessToken {
    let id = JwtId { random: random(), issuer: IssuerTag::of(&grant.issuer), family };
    let mut claims = json!({
        "iss": "https://idp.example.com", "sub": grant.subject, "aud": grant.audiences,
        "client_id": grant.client_id, "iat": grant.granted_at.as_secs(),
        "exp": expires_at.as_secs(), "jti": id.to_string(),
    });
    for CopiedClaim { minted, value, .. } in &grant.claims {
        claims[minted] = value.clone();
    }
    OpaqueAccessToken {
        id: OpaqueId { locator: family.map_or_else(random, |family| family.0), hash: random() },
        claims: claims.to_string().into_bytes(),
        expires_at,
    }
}

/// An opaque access token of the family.
pub fn opaque_of(family: &Family) -> OpaqueAccessToken {
    opaque(&family.grant, Some(family.id), clock::now().plus(HOUR))
}

pub fn kept(family: Option<&Family>, opaque: Option<&OpaqueAccessToken>) -> Kept {
    Kept { family: family.cloned(), opaque: opaque.cloned() }
}

pub fn once() -> Once {
    Once { key: random(), until: clock::now().plus(HOUR) }
}

/// Prints past the harness, which keeps what passing tests print to itself.
pub fn tell(line: &str) {
    writeln!(std::io::stderr(), "{line}").unwrap();
}
