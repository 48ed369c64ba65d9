//! Where a token is to be used: `resource` (RFC 8707 §2) and `audience` (RFC 8693 §2.1).

use url::Url;

/// Whether `value` may stand in a `resource` parameter: an absolute URI without a fragment.
pub fn is_resource(value: &str) -> bool {
    // The URL parser drops tabs, line ends and outer blanks, which no URI may have.
    let clean = value.bytes().all(|b| b.is_ascii_graphic());
    clean && !value.contains('#') && Url::parse(value).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_an_absolute_uri_without_a_fragment() {
        for good in ["https://api.example", "https://api.example/v1?x=1", "urn:example:api"] {
            assert!(is_resource(good), "{good}");
        }
        for bad in ["", "api", "/v1", "//api.example", "https://a#b", "https://a\n", " urn:a:b"] {
            assert!(!is_resource(bad), "{bad:?}");
        }
    }
}
