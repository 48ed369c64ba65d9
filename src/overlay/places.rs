//! Where the metadata of an issuer can stand, beside the paths that the configuration names.

use url::Url;

use crate::config::well_known;

/// The paths at which relying parties look for an issuer's metadata: OpenID Connect Discovery §4.1
/// and RFC 8414 §3.1, each with the place that some servers use of the other's form, and the root,
/// where an issuer has a path. None where the issuer's path could be spelt in another way.
pub fn well_known_places(issuer: &str) -> Vec<String> {
    let Some(issuer) = Url::parse(issuer).ok().filter(|issuer| issuer.host_str().is_some()) else {
        return Vec::new();
    };
    let path = issuer.path().trim_end_matches('/');
    let is_plain = path.bytes().all(|b| b.is_ascii_graphic() && !b"%;\\".contains(&b))
        && path.split('/').skip(1).all(|segment| !segment.is_empty());
    if !is_plain {
        return Vec::new();
    }
    well_known::around(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuers_metadata_are_looked_for_where_both_specifications_say() {
        for issuer in ["https://idp.example", "https://idp.example/"] {
            assert_eq!(
                well_known_places(issuer),
                ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]
            );
        }
        for issuer in ["https://idp.example/realms/r", "https://idp.example:8443/realms/r/"] {
            assert_eq!(
                well_known_places(issuer),
                [
                    "/realms/r/.well-known/openid-configuration",
                    "/.well-known/oauth-authorization-server/realms/r",
                    "/.well-known/openid-configuration/realms/r",
                    "/realms/r/.well-known/oauth-authorization-server",
                    "/.well-known/openid-configuration",
                    "/.well-known/oauth-authorization-server",
                ]
            );
        }
        for odd in ["", "idp", "urn:idp", "https://a/b%20c", "https://a/b;c", "https://a//b"] {
            assert!(well_known_places(odd).is_empty(), "{odd}");
        }
    }
}
