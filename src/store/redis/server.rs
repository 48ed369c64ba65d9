//! Settings as the client library wants them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redis::{Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisResult};
use redis::{ConnectionInfo, TlsCertificates};
use rustls_pki_types::CertificateDer;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::config::RedisSettings;

/// How a server may be named to anybody.
pub(super) fn address(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(6379))
}

fn is_tls(url: &Url) -> bool {
    url.scheme() == "rediss"
}

/// The client of one server, with its database and credentials.
pub(super) fn client(settings: &RedisSettings, url: &Url) -> RedisResult<Client> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port().unwrap_or(6379);
    let addr = if is_tls(url) {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let database = url.path().trim_matches('/').parse().unwrap_or(0);
    let mut redis = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.expose_secret());
    }
    let info: ConnectionInfo = addr.into_connection_info()?.set_redis_settings(redis);
    match &settings.ca {
        Some(ca) if is_tls(url) => Client::build_with_tls(info, certificates(ca)),
        _ => Client::open(info),
    }
}

fn certificates(ca: &[CertificateDer<'static>]) -> TlsCertificates {
    let mut pem = String::new();
    for certificate in ca {
        let base64 = STANDARD.encode(certificate);
        let _ = writeln!(pem, "-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----");
    }
    TlsCertificates { client_tls: None, root_cert: Some(pem.into_bytes()) }
}
