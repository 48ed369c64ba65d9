//! How long a fetched document is fresh (RFC 9111 §4.2), within bounds of our own.

use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, HeaderMap};

/// However little an issuer allows, so that it isn't asked all the time.
pub(super) const MIN_TTL: Duration = Duration::from_mins(1);
/// However much an issuer allows, so that a withdrawn key is noticed.
pub(super) const MAX_TTL: Duration = Duration::from_hours(24);
/// Where the issuer says nothing.
pub(super) const DEFAULT_TTL: Duration = Duration::from_mins(5);

/// The time to live that the answer with these fields asks for.
pub(super) fn ttl(headers: &HeaderMap) -> Duration {
    let mut max_age: Option<u64> = None;
    let directives = headers
        .get_all(CACHE_CONTROL)
        .into_iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','));
    for directive in directives {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let name = name.trim();
        if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            return MIN_TTL;
        }
        if name.eq_ignore_ascii_case("max-age") {
            let seconds = delta_seconds(value.trim().trim_matches('"')).unwrap_or(0);
            max_age = Some(max_age.map_or(seconds, |other| other.min(seconds)));
        }
    }
    let Some(max_age) = max_age else { return DEFAULT_TTL };
    let age = headers.get(AGE).and_then(|age| delta_seconds(age.to_str().ok()?)).unwrap_or(0);
    Duration::from_secs(max_age.saturating_sub(age)).clamp(MIN_TTL, MAX_TTL)
}

/// RFC 9111 §1.2.2: what is too large to be held counts as very large.
fn delta_seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_time_to_live_is_max_age_within_bounds() {
        let cases: [(&[(&'static str, &'static str)], u64); 14] = [
            (&[], 300),
            (&[("cache-control", "public")], 300),
            (&[("cache-control", "max-age=600")], 600),
            (&[("cache-control", "public, Max-Age=\"600\", must-revalidate")], 600),
            (&[("cache-control", "max-age=600"), ("age", "100")], 500),
            (&[("cache-control", "max-age=600"), ("age", "9999")], 60),
            (&[("cache-control", "max-age=600"), ("age", "-1")], 600),
            (&[("cache-control", "max-age=1")], 60),
            (&[("cache-control", "max-age=99999999999999999999999")], 86_400),
            (&[("cache-control", "max-age=-5")], 60),
            (&[("cache-control", "max-age=600, no-store")], 60),
            (&[("cache-control", "no-cache")], 60),
            (&[("cache-control", "max-age=600"), ("cache-control", "max-age=90")], 90),
            (&[("cache-control", "s-maxage=5")], 300),
        ];
        for (fields, seconds) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            assert_eq!(ttl(&headers), Duration::from_secs(seconds), "{fields:?}");
        }
    }
}
