//! Where metadata documents lie: OpenID Connect Discovery §4.1 and RFC 8414 §3.1.

const OPENID: &str = "/.well-known/openid-configuration";
const OAUTH: &str = "/.well-known/oauth-authorization-server";

/// Where an issuer whose URL has this path has its metadata: as OpenID Connect says, then as
/// RFC 8414 does.
pub fn of_issuer(path: &str) -> [String; 2] {
    let path = path.trim_end_matches('/');
    [format!("{path}{OPENID}"), format!("{OAUTH}{path}")]
}

/// Where servers put the metadata of an issuer whose URL has this path: where they should, by the one
/// rule under the other's name (RFC 8414 §5), and at the root.
pub fn around(path: &str) -> Vec<String> {
    let path = path.trim_end_matches('/');
    let [openid, oauth] = of_issuer(path);
    let odd = [format!("{OPENID}{path}"), format!("{path}{OAUTH}")];
    distinct([openid, oauth].into_iter().chain(odd).chain(of_issuer("")))
}

/// Where to look for the metadata of a server of which one path is known, likeliest first. It may be
/// the path of the issuer, or that of the document.
pub fn candidates(path: &str) -> Vec<String> {
    let document = path.to_owned();
    match issuer_of(path) {
        Some(issuer) => distinct([document].into_iter().chain(of_issuer(&issuer))),
        None if path.trim_end_matches('/').is_empty() => around(path),
        None => {
            let mut places = around(path);
            // What lies at the root is more likely another issuer's.
            places.insert(places.len() - 2, document);
            places
        }
    }
}

fn distinct(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for place in all {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

/// The path of the issuer whose document lies there, if that is a place for such documents.
fn issuer_of(path: &str) -> Option<String> {
    [OPENID, OAUTH].into_iter().find_map(|name| {
        let (before, after) = path.split_once(name)?;
        let is_whole = after.is_empty() || after.starts_with('/');
        is_whole.then(|| format!("{before}{}", after.trim_end_matches('/')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_an_issuer_leads_to_all_places_that_servers_use() {
        for path in ["", "/"] {
            assert_eq!(
                candidates(path),
                ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"]
            );
        }
        for (path, whole) in [("/realms/x", "/realms/x"), ("/realms/x/", "/realms/x/")] {
            assert_eq!(
                candidates(path),
                [
                    "/realms/x/.well-known/openid-configuration",
                    "/.well-known/oauth-authorization-server/realms/x",
                    "/.well-known/openid-configuration/realms/x",
                    "/realms/x/.well-known/oauth-authorization-server",
                    whole,
                    "/.well-known/openid-configuration",
                    "/.well-known/oauth-authorization-server",
                ]
            );
        }
    }

    #[test]
    fn a_path_of_a_document_comes_first_and_leads_to_its_siblings_alone() {
        for (document, issuer) in [
            ("/.well-known/openid-configuration", ""),
            ("/a/b/.well-known/openid-configuration", "/a/b"),
            ("/.well-known/oauth-authorization-server/a/b", "/a/b"),
            ("/a/.well-known/oauth-authorization-server", "/a"),
        ] {
            let places = candidates(document);
            assert_eq!(places[0], document);
            for place in of_issuer(issuer) {
                assert!(places.contains(&place), "{document}: {places:?}");
            }
            assert!(places.len() <= 3, "{document}: {places:?}");
        }
        // Another name that begins alike.
        assert_eq!(candidates("/.well-known/openid-configurations").len(), 7);
    }
}
