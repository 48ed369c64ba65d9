//! Who may change anything by the admin listener: whoever has its token; or, where none is
//! configured, whoever is on this machine and no web page.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, HeaderMap, ORIGIN};
use http::uri::Authority;
use http::{StatusCode, Uri};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::secret::sha256;

/// Why somebody may not.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Denied {
    #[error("requests of web pages (with `Origin`) are refused")]
    Browser,
    #[error("`Authorization: Bearer` with the configured `admin.token` is needed")]
    Token,
    #[error("only this machine may do that, as long as no `admin.token` is configured")]
    Remote,
    #[error(
        "`Host` must be `localhost` or an IP address, as long as no `admin.token` is configured"
    )]
    Host,
}

impl Denied {
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Browser | Self::Remote | Self::Host => StatusCode::FORBIDDEN,
        }
    }
}

/// `token` is the configured one.
pub fn permit(
    peer: IpAddr,
    uri: &Uri,
    headers: &HeaderMap,
    token: Option<&SecretString>,
) -> Result<(), Denied> {
    if headers.contains_key(ORIGIN) {
        return Err(Denied::Browser);
    }
    if let Some(token) = token {
        return if has_token(headers, token) { Ok(()) } else { Err(Denied::Token) };
    }
    if !peer.to_canonical().is_loopback() {
        return Err(Denied::Remote);
    }
    // A name that leads here may be a stranger's: a page of that name is no stranger to itself.
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let is_one = host.as_ref().is_some_and(is_nobodys_name) && hosts.next().is_none();
    if is_one && uri.authority().is_none_or(is_nobodys_name) { Ok(()) } else { Err(Denied::Host) }
}

/// Hashes are of one length, and tell nothing by how far they are alike.
fn has_token(headers: &HeaderMap, token: &SecretString) -> bool {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Some((scheme, shown)) = value.as_bytes().split_at_checked("Bearer ".len()) else {
        return false;
    };
    let is_same = sha256(shown).ct_eq(&sha256(token.expose_secret().as_bytes()));
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(is_same)
}

fn is_nobodys_name(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_plain = !authority.as_str().contains('@');
    is_plain && (host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn of(peer: &str, fields: Fields<'_>, token: Option<&str>) -> Result<(), Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let token = token.map(SecretString::from);
        permit(peer.parse().unwrap(), &Uri::from_static("/revoke"), &headers, token.as_ref())
    }

    #[test]
    fn without_a_token_this_machine_alone_may() {
        let fields: Fields<'_> = &[("host", "127.0.0.1:9464")];
        for peer in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(of(peer, fields, None), Ok(()), "{peer}");
        }
        for peer in
            ["192.0.2.1", "10.0.0.1", "::ffff:192.0.2.1", "2001:db8::1", "0.0.0.0", "fe80::1"]
        {
            assert_eq!(of(peer, fields, None), Err(Denied::Remote), "{peer}");
        }
    }

    #[test]
    fn without_a_token_the_host_is_nobodys_name() {
        for host in ["localhost", "LocalHost:9464", "127.0.0.1", "[::1]:9464", "192.0.2.1:80"] {
            assert_eq!(of("127.0.0.1", &[("host", host)], None), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "localhost.",
            "evil@127.0.0.1",
            "",
        ] {
            assert_eq!(of("127.0.0.1", &[("host", host)], None), Err(Denied::Host), "{host}");
        }
        assert_eq!(of("127.0.0.1", &[], None), Err(Denied::Host));
        let two = [("host", "127.0.0.1"), ("host", "127.0.0.1")];
        assert_eq!(of("127.0.0.1", &two, None), Err(Denied::Host));
        let mut headers = HeaderMap::new();
        headers.insert(HOST, "127.0.0.1".parse().unwrap());
        let peer = "127.0.0.1".parse().unwrap();
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        assert_eq!(permit(peer, &uri("http://127.0.0.1/revoke"), &headers, None), Ok(()));
        let named = uri("http://evil.example/revoke");
        assert_eq!(permit(peer, &named, &headers, None), Err(Denied::Host));
    }

    #[test]
    fn with_a_token_whoever_shows_it_may_and_nobody_else() {
        let host = ("host", "cambio.example");
        for value in ["Bearer s3cret", "bearer s3cret"] {
            let fields = [host, ("authorization", value)];
            assert_eq!(of("192.0.2.1", &fields, Some("s3cret")), Ok(()), "{value}");
        }
        for value in
            ["s3cret", "Bearer s3cre", "Bearer s3crett", "Bearer  s3cret", "Basic s3cret", ""]
        {
            let fields = [host, ("authorization", value)];
            for peer in ["192.0.2.1", "127.0.0.1"] {
                assert_eq!(of(peer, &fields, Some("s3cret")), Err(Denied::Token), "{value}");
            }
        }
        assert_eq!(of("127.0.0.1", &[host], Some("s3cret")), Err(Denied::Token));
        let right = ("authorization", "Bearer s3cret");
        assert_eq!(of("127.0.0.1", &[host, right, right], Some("s3cret")), Err(Denied::Token));
    }

    #[test]
    fn no_web_page_may() {
        for origin in ["https://evil.example", "null", "http://127.0.0.1:9464"] {
            let local = [("host", "127.0.0.1"), ("origin", origin)];
            assert_eq!(of("127.0.0.1", &local, None), Err(Denied::Browser));
            let shown = [("authorization", "Bearer s3cret"), ("origin", origin)];
            assert_eq!(of("127.0.0.1", &shown, Some("s3cret")), Err(Denied::Browser));
        }
    }
}
