//! A grant that is refreshed again and again, of which a test changes one thing.

use aws_lc_rs::digest::{SHA256, digest};
use cambio::exchange::client::Authentication;
use cambio::exchange::error::{Reason, Refusal};
use cambio::exchange::family::{End, Family};
use cambio::exchange::mint::Kept;
use cambio::exchange::opaque::OpaqueAccessToken;
use cambio::exchange::policy::{Policy, UnknownIssuers};
use cambio::exchange::refresh::{self, Refused};
use cambio::exchange::request::{Recognised, TokenPathRequest};
use cambio::exchange::token_id::Entropy;
use cambio::exchange::{self, Granted, Record};
use cambio::secret::StoredSecret;
use cambio::time::Timestamp;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Exchange, NOW, OURS, SECRET, authenticate, decode, encode, signing_keys};

pub const REFRESH: &str = "refresh_token";
/// Of a family, in seconds.
pub const LIFETIME: u64 = 24 * 3600;
/// Another application, which may do all that the first one may.
const OTHER: (&str, &str) = ("other", "the-secret-of-another-application");

/// A granted refresh, or exchange.
pub struct Answer {
    pub granted: Granted,
    /// Of the access token, or what it stands for.
    pub claims: Value,
    pub opaque: Option<OpaqueAccessToken>,
    /// The refresh token in it.
    pub token: String,
    pub record: Record,
}

/// An exchange that was granted, what is kept of it, and the configuration as it is now.
pub struct Refreshing {
    /// The configuration of now. A change of it is a reload.
    pub estate: Exchange,
    /// Whether the configuration still has the issuer.
    pub has_issuer: bool,
    pub family: Option<Family>,
    /// Whether an operator has revoked what the family descends from.
    pub is_cut_off: bool,
    /// Beside grant type and token.
    pub parameters: Vec<(String, String)>,
    pub now: u64,
    /// The token that counts.
    pub token: String,
    /// What the exchange gave.
    pub exchanged: Value,
    client: (&'static str, &'static str),
}

/// Random numbers that nobody had before.
pub fn entropy() -> Entropy {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let seed = DRAWN.fetch_add(1, Ordering::Relaxed);
    let mut octets = [0; Entropy::OCTETS];
    for (at, chunk) in octets.chunks_mut(32).enumerate() {
        let input = [seed.to_be_bytes(), (at as u64).to_be_bytes()].concat();
        chunk.copy_from_slice(digest(&SHA256, &input).as_ref());
    }
    Entropy::from_octets(octets)
}

impl Refreshing {
    pub fn new() -> Self {
        Self::after(|_| {})
    }

    /// After an exchange in an estate that is changed. Its application may refresh in any case.
    pub fn after(change: impl FnOnce(&mut Exchange)) -> Self {
        let mut estate = Exchange::new().parameter("scope", "read write");
        estate.application.grant_types.push(REFRESH.to_owned());
        change(&mut estate);
        let mut fresh = Self {
            has_issuer: true,
            family: None,
            is_cut_off: false,
            parameters: Vec::new(),
            now: NOW,
            token: String::new(),
            exchanged: Value::Null,
            client: ("portal", SECRET),
            estate,
        };
        let policy = fresh.policy();
        let (form, mut record) = (fresh.estate.form(), Record::default());
        let client = authenticate(&policy, "portal", SECRET);
        let pending = exchange::begin(&form, client, &policy, &mut record).unwrap();
        let now = Timestamp::from_secs(NOW);
        let approved = pending.approve(&fresh.estate.keys, now, &mut record).unwrap();
        let issued = approved.mint(&signing_keys(), &policy, &entropy(), now, &mut record);
        let issued = issued.unwrap();
        assert_eq!(record.family, issued.kept.family.as_ref().map(|family| family.id));
        fresh.family = issued.kept.family;
        fresh.token = issued.granted.refresh_token.unwrap().to_string();
        fresh.exchanged = decode(&issued.granted.access_token).1;
        fresh
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn parameter(self, name: &str, value: &str) -> Self {
        self.with(|one| one.parameters.push((name.to_owned(), value.to_owned())))
    }

    /// Calls as another application from now on.
    pub fn as_other(&mut self) {
        self.client = OTHER;
    }

    pub fn as_rightful(&mut self) {
        self.client = ("portal", SECRET);
    }

    pub fn policy(&self) -> Policy {
        let mut other = self.estate.application.clone();
        other.name = "Other".into();
        other.client_id = OTHER.0.to_owned();
        let secret = StoredSecret::from_plain(OTHER.1.as_bytes());
        other.authentication = Authentication::Secrets(vec![secret]);
        let issuer = self.has_issuer.then(|| Arc::new(self.estate.issuer.clone()));
        let applications = [self.estate.application.clone(), other];
        Policy::new(OURS, UnknownIssuers::Reject, issuer, applications)
    }

    pub fn family(&self) -> &Family {
        self.family.as_ref().unwrap()
    }

    pub fn ended(&self) -> Option<End> {
        self.family().ended
    }

    /// What is kept, as it is written down.
    pub fn kept(&self) -> Vec<u8> {
        self.family().to_bytes()
    }

    /// Presents a refresh token, and keeps what the server would keep.
    pub fn attempt(&mut self, token: &str) -> Result<Answer, Refusal> {
        let mut parameters = vec![
            ("grant_type".to_owned(), REFRESH.to_owned()),
            ("refresh_token".to_owned(), token.to_owned()),
        ];
        parameters.extend(self.parameters.clone());
        let body = encode(&parameters);
        let recognised = TokenPathRequest {
            method: "POST",
            query: None,
            content_types: &[b"application/x-www-form-urlencoded"],
            is_encoded: false,
            body: body.as_bytes(),
        }
        .recognise()?;
        let Recognised::Refresh(form) = recognised else { panic!("not a refresh") };
        let (policy, mut record) = (self.policy(), Record::default());
        let client = authenticate(&policy, self.client.0, self.client.1);
        let pending = refresh::begin(&form, client, &mut record)?;
        // What is read is what was written.
        let family = self.family.as_ref().filter(|family| family.id == pending.family());
        let family = family.map(|family| Family::from_bytes(&family.to_bytes()).unwrap());
        let now = Timestamp::from_secs(self.now);
        let judged = pending.judge(family.as_ref(), self.is_cut_off, &policy, now, &mut record);
        let approved = match judged {
            Ok(approved) => approved,
            Err(Refused { refusal, ends }) => {
                if let Some(end) = ends {
                    self.end(end);
                }
                return Err(refusal);
            }
        };
        let issued = approved.mint(&signing_keys(), &policy, &entropy(), now, &mut record)?;
        let Kept { family: rotated, opaque } = issued.kept;
        if let Some(rotated) = rotated {
            assert_eq!(rotated.sequence, self.family().sequence + 1);
            self.family = Some(rotated);
        }
        let granted = issued.granted;
        Ok(Answer {
            claims: match &opaque {
                Some(opaque) => serde_json::from_slice(&opaque.claims).unwrap(),
                None => decode(&granted.access_token).1,
            },
            opaque,
            token: granted.refresh_token.as_ref().unwrap().to_string(),
            granted,
            record,
        })
    }

    /// As every store does it.
    pub fn end(&mut self, end: End) {
        let family = self.family.as_mut().unwrap();
        if family.ended.is_none() || end == End::Revoked {
            family.ended = Some(end);
        }
    }

    pub fn present(&mut self, token: &str) -> Result<Answer, Reason> {
        self.attempt(token).map_err(|refusal| refusal.outcome().reason)
    }

    /// Asserts that the token that counts is refreshed, and goes on with its successor.
    #[track_caller]
    pub fn refreshed(&mut self) -> Answer {
        let token = self.token.clone();
        match self.present(&token) {
            Ok(answer) => {
                self.token.clone_from(&answer.token);
                answer
            }
            Err(reason) => panic!("refused: {reason:?}"),
        }
    }

    /// Asserts that a token is refused, for exactly this reason.
    #[track_caller]
    pub fn refuses(&mut self, token: &str, reason: Reason) {
        match self.present(token) {
            Ok(answer) => panic!("granted instead of {reason:?}: {}", answer.claims),
            Err(actual) => assert_eq!(actual, reason),
        }
    }

    /// Asserts that the token that counts is refused for this reason, and that the attempt changes
    /// nothing of what is kept.
    #[track_caller]
    pub fn refuses_for_now(&mut self, reason: Reason) {
        let (token, before) = (self.token.clone(), self.kept());
        self.refuses(&token, reason);
        assert!(self.kept() == before, "the attempt has changed the family");
    }
}
