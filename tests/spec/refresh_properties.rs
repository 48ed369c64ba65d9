//! Properties of refreshing: a family does as a naive model of it does, grants only narrow, and what
//! is kept gives no token away.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cambio::exchange::error::Reason;
use cambio::exchange::family::{End, Family, PREFIX, Presented, RefreshToken};
use cambio::oauth::scope::Scope;
use cambio::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use serde_json::json;

use crate::refresh_support::Refreshing;
use crate::support::{Exchange, NOW, mapping};

const LIFETIME: u64 = 60;

/// What may happen to a family.
#[derive(Clone, Debug)]
enum Event {
    /// One of the tokens that it ever had is presented; the newest more often than others.
    Presented(Index),
    Newest,
    Preceding,
    /// One of them with another client's credentials.
    Stolen(Index),
    /// One that somebody made of one of them.
    MadeUp(Index, usize),
    Later(u64),
    /// The clock is set back.
    Earlier(u64),
    Revoked,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any::<Index>().prop_map(Event::Presented),
        8 => Just(Event::Newest),
        4 => Just(Event::Preceding),
        1 => any::<Index>().prop_map(Event::Stolen),
        1 => (any::<Index>(), 0..64_usize).prop_map(|(token, at)| Event::MadeUp(token, at)),
        6 => (0..12_u64).prop_map(Event::Later),
        1 => (0..12_u64).prop_map(Event::Earlier),
        1 => Just(Event::Revoked),
    ]
}

/// A family in a few lines: every token that it had, in order.
struct Model {
    tokens: Vec<String>,
    grace: u64,
    idle: Option<u64>,
    rotated_at: u64,
    idle_until: Option<u64>,
    ended: Option<End>,
}

impl Model {
    /// What comes of the `nth` token: the position of the one that is handed out, or why there is
    /// none.
    fn present(&mut self, nth: usize, now: u64) -> Result<usize, Reason> {
        let newest = self.tokens.len() - 1;
        if self.ended == Some(End::Revoked) {
            return Err(Reason::RefreshRevoked);
        }
        let has_grace = self.grace > 0 && now <= self.rotated_at + self.grace;
        if nth != newest && !(nth + 1 == newest && has_grace) {
            self.ended = Some(End::Revoked);
            return Err(Reason::RefreshReused);
        }
        let is_idle = self.idle_until.is_some_and(|until| until <= now);
        if self.ended == Some(End::Expired) || NOW + LIFETIME <= now || is_idle {
            self.ended = Some(End::Expired);
            return Err(Reason::RefreshExpired);
        }
        if nth != newest {
            return Ok(newest);
        }
        self.rotated_at = now;
        self.idle_until = self.idle.map(|idle| now + idle);
        Ok(newest + 1)
    }
}

fn begun(grace: u64, idle: Option<u64>) -> (Refreshing, Model) {
    let one = Refreshing::after(|estate| {
        let settings = &mut estate.application.refresh_token;
        settings.lifetime = Duration::from_secs(LIFETIME);
        settings.grace = Duration::from_secs(grace);
        settings.idle = idle.map(Duration::from_secs);
    });
    let tokens = vec![one.token.clone()];
    let idle_until = idle.map(|idle| NOW + idle);
    (one, Model { tokens, grace, idle, rotated_at: NOW, idle_until, ended: None })
}

fn made_up(token: &str, at: usize) -> String {
    let mut octets = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap();
    octets[at] ^= 0x40;
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(octets))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_family_does_as_its_model_does(
        grace in prop::sample::select(vec![0, 0, 1, 5, 10]),
        idle in prop::sample::select(vec![None, Some(8), Some(30)]),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let (mut one, mut model) = begun(grace, idle);
        for event in events {
            let newest = model.tokens.len() - 1;
            let nth = match event {
                Event::Later(by) => { one.now += by; continue }
                Event::Earlier(by) => { one.now = NOW.max(one.now - by); continue }
                Event::Revoked => {
                    one.end(End::Revoked);
                    model.ended = Some(End::Revoked);
                    continue
                }
                Event::Stolen(token) => {
                    let before = one.kept();
                    one.as_other();
                    let refused = one.present(token.get::<String>(&model.tokens)).err();
                    one.as_rightful();
                    prop_assert_eq!(refused, Some(Reason::RefreshOtherClient));
                    prop_assert!(one.kept() == before);
                    continue
                }
                Event::MadeUp(token, at) => {
                    let before = one.kept();
                    let refused = one.present(&made_up(token.get::<String>(&model.tokens), at)).err();
                    prop_assert_eq!(refused, Some(Reason::RefreshUnknown));
                    prop_assert!(one.kept() == before);
                    continue
                }
                Event::Presented(token) => token.index(model.tokens.len()),
                Event::Newest => newest,
                Event::Preceding => newest.saturating_sub(1),
            };
            let answer = one.present(&model.tokens[nth].clone());
            match (answer, model.present(nth, one.now)) {
                (Ok(answer), Ok(position)) if position > newest => {
                    prop_assert!(!model.tokens.contains(&answer.token));
                    prop_assert!(answer.claims["exp"].as_u64().unwrap() <= NOW + LIFETIME);
                    model.tokens.push(answer.token);
                }
                (Ok(answer), Ok(position)) => prop_assert_eq!(&answer.token, &model.tokens[position]),
                (Err(reason), Err(expected)) => prop_assert_eq!(reason, expected),
                (answer, expected) => {
                    prop_assert!(false, "{:?} instead of {:?}", answer.map(|_| ()), expected);
                }
            }
            prop_assert_eq!(one.ended(), model.ended);
            prop_assert_eq!(one.family().sequence, model.tokens.len() as u64 - 1);
        }
    }

    #[test]
    fn what_is_kept_comes_back_and_gives_no_token_away(
        rotations in 0..6_usize, grace in prop::sample::select(vec![0, 5]), subject in "[a-z\"\\\\ä]{1,20}",
    ) {
        let mut one = Refreshing::after(|estate| {
            estate.claims["sub"] = json!(subject);
            estate.issuer.claims = vec![mapping("email", "email"), mapping("n", "exp")];
            estate.application.refresh_token.grace = Duration::from_secs(grace);
        });
        let mut tokens = vec![one.token.clone()];
        for _ in 0..rotations {
            one.refreshed();
            tokens.push(one.token.clone());
        }
        let kept = one.kept();
        let again = Family::from_bytes(&kept).unwrap();
        prop_assert!(again == *one.family() && again.to_bytes() == kept);
        for cut in 0..kept.len() {
            prop_assert!(Family::from_bytes(&kept[..cut]).is_none());
        }
        let lower: Vec<u8> = kept.to_ascii_lowercase();
        let has = |needle: &[u8]| kept.windows(needle.len()).any(|window| window == needle);
        for token in tokens {
            let octets = URL_SAFE_NO_PAD.decode(&token[PREFIX.len()..]).unwrap();
            // Family, secret, tag: the name of the family is no secret.
            let (secret, tag) = (&octets[16..48], &octets[48..64]);
            for part in [&secret[..16], &secret[16..], secret, tag] {
                prop_assert!(!has(part), "octets of a token");
                let hex = part.iter().fold(String::new(), |hex, b| hex + &format!("{b:02x}"));
                prop_assert!(!lower.windows(hex.len()).any(|window| window == hex.as_bytes()));
                // Whatever stands before it.
                for skipped in 0..3 {
                    for base64 in [URL_SAFE_NO_PAD.encode(&part[skipped..]), STANDARD.encode(&part[skipped..])] {
                        prop_assert!(!has(&base64.as_bytes()[..16]), "a token in base64");
                    }
                }
            }
            prop_assert!(!has(token.as_bytes()) && !has(&token.as_bytes()[PREFIX.len() + 22..]));
        }
    }

    #[test]
    fn grants_only_narrow(
        granted in subsequence(vec!["a", "b", "c"], 0..=3), left in subsequence(vec!["a", "b", "c", "d"], 0..=4),
        asked in proptest::option::of(subsequence(vec!["a", "b", "c", "d"], 1..=3)),
        targets in subsequence(vec!["x", "y", "z"], 1..=3), narrowed in subsequence(vec!["x", "y", "z", "w"], 0..=2),
        kept in subsequence(vec!["w", "x", "y", "z"], 1..=4),
    ) {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut one = Refreshing::after(|estate: &mut Exchange| {
            estate.application.scopes = Scope::parse("a b c").unwrap();
            estate.application.audiences = owned(&["x", "y", "z"]);
            estate.parameters.retain(|(name, _)| name != "scope");
            estate.parameters.push(("scope".to_owned(), granted.join(" ")));
            estate.parameters.extend(targets.iter().map(|one| ("audience".to_owned(), (*one).to_owned())));
        });
        one.estate.application.scopes = Scope::parse(&left.join(" ")).unwrap();
        one.estate.application.audiences = owned(&kept);
        if let Some(asked) = &asked {
            one.parameters.push(("scope".to_owned(), asked.join(" ")));
        }
        one.parameters.extend(narrowed.iter().map(|one| ("resource".to_owned(), (*one).to_owned())));
        let is_within = |some: &[&str], all: &[&str]| some.iter().all(|one| all.contains(one));
        let may_aim = is_within(&targets, &kept) && is_within(&narrowed, &targets);
        let may_do = asked.as_ref().is_none_or(|asked| is_within(asked, &granted) && is_within(asked, &left));
        let token = one.token.clone();
        match one.present(&token) {
            Ok(answer) => {
                prop_assert!(may_aim && may_do);
                let scope = answer.claims.get("scope").map_or("", |scope| scope.as_str().unwrap());
                let scope: Vec<&str> = scope.split_whitespace().collect();
                let expected: Vec<&str> = asked.unwrap_or_else(|| {
                    granted.iter().copied().filter(|one| left.contains(one)).collect()
                });
                prop_assert_eq!(scope, expected);
                let expected = if narrowed.is_empty() { targets } else { narrowed };
                let aud = match answer.claims["aud"].as_array() {
                    Some(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
                    None => vec![answer.claims["aud"].as_str().unwrap()],
                };
                prop_assert_eq!(aud, expected);
            }
            Err(Reason::PolicyWithdrawn) => prop_assert!(!is_within(&targets, &kept)),
            Err(Reason::TargetRefused) => prop_assert!(!is_within(&narrowed, &targets)),
            Err(Reason::ScopeRefused) => prop_assert!(!may_do),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn nothing_random_counts(octets in any::<[u8; 32]>(), more in any::<[u8; 32]>(), text in ".{0,120}") {
        let mut one = Refreshing::new();
        one.refreshed();
        let family = one.family();
        let now = Timestamp::from_secs(NOW);
        let anything = URL_SAFE_NO_PAD.encode([octets, more].concat());
        let of_this = URL_SAFE_NO_PAD.encode([&family.id.0[..], &octets, &more[..16]].concat());
        for text in [anything, of_this] {
            let token = RefreshToken::parse(&format!("{PREFIX}{text}")).unwrap();
            prop_assert_eq!(family.recognise(&token, now), Presented::MadeUp);
            prop_assert!(family.standing(&token, None, now).is_err() && !family.has(&token, now));
            prop_assert!(RefreshToken::parse(&text).is_none());
        }
        prop_assert!(RefreshToken::parse(&text).is_none());
        let prefixed = RefreshToken::parse(&[PREFIX, &text].concat());
        prop_assert!(prefixed.is_none() || text.len() == 86);
        // The family's own secret and tag under another name.
        let renamed = RefreshToken::parse(&made_up(&one.token, usize::from(more[31] % 16))).unwrap();
        prop_assert_eq!(family.recognise(&renamed, now), Presented::MadeUp);
        // A token has one spelling.
        let token = RefreshToken::parse(&one.token).unwrap();
        prop_assert!(*token.to_text() == one.token);
        prop_assert!(family.standing(&token, None, now).is_ok());
    }
}
