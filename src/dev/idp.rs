//! The stand-in identity provider: OAuth 2.0 as it was before RFC 8693.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::StandInError;
use super::loopback::{self, Answers, Loopback, Reply};
use crate::clock;
use crate::jwt::algorithm::Algorithm;
use crate::jwt::sign::{SigningKey, generate_pem};

/// Its client from the start.
pub const CLIENT_ID: &str = "legacy-app";
/// What the clients may ask for.
pub const SCOPE: &str = "legacy";
/// What its tokens are for.
pub const AUDIENCE: &str = "urn:stand-in:api";

const TOKEN: &str = "/oauth2/token";
const JWKS: &str = "/oauth2/jwks";
const INTROSPECTION: &str = "/oauth2/introspect";
const REVOCATION: &str = "/oauth2/revoke";
const OPENID_CONFIGURATION: &str = "/.well-known/openid-configuration";
const OAUTH_METADATA: &str = "/.well-known/oauth-authorization-server";
const ECHO: &str = "/echo";
const ECHO_BODY: &str = "/echo/body";

/// How many requests are remembered.
const REMEMBERED: usize = 4096;

/// A request as it arrived.
#[derive(Clone)]
pub struct Received {
    pub method: Method,
    /// Path and query to the byte.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received({} {})", self.method, self.target)
    }
}

/// An identity provider on loopback that has never heard of token exchange.
pub struct StandInIdp {
    inside: Arc<Inside>,
    server: Loopback,
    client_secret: String,
}

impl std::fmt::Debug for StandInIdp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandInIdp").field("server", &self.server).finish_non_exhaustive()
    }
}

struct Inside {
    /// The `issuer` of its metadata and the `iss` of its tokens; unset it is what `Host` says.
    issuer: Option<String>,
    key: SigningKey,
    book: Mutex<Book>,
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Book {
    /// Secrets of the clients.
    clients: HashMap<String, String>,
    /// Tokens that are still good, with their claims.
    tokens: HashMap<String, Value>,
    received: VecDeque<Received>,
}

impl StandInIdp {
    /// With `issuer` in its metadata and tokens, or by default the origin under which it is called.
    pub async fn start(issuer: Option<String>) -> Result<Self, StandInError> {
        let pem = generate_pem(Algorithm::RS256)?;
        let key = SigningKey::from_pkcs8_pem(pem.as_bytes(), Algorithm::RS256, None, None)?;
        let secret = random()?;
        let inside = Arc::new(Inside { issuer, key, book: Mutex::default() });
        let server = Loopback::start(Arc::clone(&inside)).await?;
        let idp = Self { inside, server, client_secret: secret.clone() };
        idp.register(CLIENT_ID, secret);
        Ok(idp)
    }

    /// Makes it know another client.
    pub fn register(&self, client_id: &str, secret: String) {
        self.inside.book().clients.insert(client_id.to_owned(), secret);
    }

    /// `http://127.0.0.1:port`.
    pub fn origin(&self) -> String {
        self.server.origin()
    }

    /// The secret of [`CLIENT_ID`], made anew at each start.
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The latest requests, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.inside.book().received.iter().cloned().collect()
    }

    /// Forgets the requests so far.
    pub fn forget_received(&self) {
        self.inside.book().received.clear();
    }

    /// The `kid` that it signs with.
    pub fn kid(&self) -> &str {
        self.inside.key.kid()
    }

    pub async fn go_down(&self) -> io::Result<()> {
        self.server.go_down().await
    }

    pub async fn come_up(&self) -> io::Result<()> {
        self.server.come_up().await
    }
}

impl Answers for Inside {
    async fn answer(&self, request: Request<Bytes>) -> Reply {
        self.remember(&request);
        let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            TOKEN => self.form(&request, Self::token),
            INTROSPECTION => self.form(&request, Self::introspect),
            REVOCATION => self.form(&request, Self::revoke),
            JWKS if is_get => {
                let set = json!({ "keys": [self.key.jwk()] });
                loopback::document(&request, "application/jwk-set+json", set.to_string())
            }
            OPENID_CONFIGURATION | OAUTH_METADATA if is_get => {
                let metadata = self.metadata(request.headers());
                loopback::document(&request, "application/json", metadata.to_string())
            }
            ECHO => echo(&request),
            ECHO_BODY => echo_body(request),
            _ => loopback::empty(StatusCode::NOT_FOUND),
        }
    }
}

/// A form's parameters; a repeated one has its first value.
type Parameters = HashMap<String, String>;

impl Inside {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, request: &Request<Bytes>) {
        let target = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
        let mut book = self.book();
        if book.received.len() == REMEMBERED {
            book.received.pop_front();
        }
        book.received.push_back(Received {
            method: request.method().clone(),
            target,
            headers: request.headers().clone(),
            body: request.body().clone(),
        });
    }

    /// The checks that the three endpoints share: a form by POST, from the client (RFC 6749 §2.3.1).
    fn form(
        &self,
        request: &Request<Bytes>,
        answer: fn(&Self, &str, &Parameters, &HeaderMap) -> Reply,
    ) -> Reply {
        if request.method() != Method::POST {
            let mut reply = loopback::empty(StatusCode::METHOD_NOT_ALLOWED);
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return reply;
        }
        let content_type = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_form = content_type
            .is_some_and(|value| value.starts_with(b"application/x-www-form-urlencoded"));
        if !is_form {
            return error(StatusCode::BAD_REQUEST, "invalid_request", "only forms are accepted");
        }
        let mut parameters = Parameters::new();
        for (name, value) in url::form_urlencoded::parse(request.body()) {
            parameters.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        let authorization = request.headers().get(AUTHORIZATION);
        let Some(client_id) = self.client(authorization, &parameters) else {
            let mut reply =
                error(StatusCode::UNAUTHORIZED, "invalid_client", "client authentication failed");
            let challenge = HeaderValue::from_static("Basic realm=\"stand-in\"");
            reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            return reply;
        };
        answer(self, &client_id, &parameters, request.headers())
    }

    fn client(
        &self,
        authorization: Option<&HeaderValue>,
        parameters: &Parameters,
    ) -> Option<String> {
        let presented = match authorization {
            Some(value) => basic(value),
            None => {
                parameters.get("client_id").cloned().zip(parameters.get("client_secret").cloned())
            }
        };
        let (id, secret) = presented?;
        (self.book().clients.get(&id) == Some(&secret)).then_some(id)
    }

    /// RFC 6749 §4.4, and nothing else.
    fn token(&self, client_id: &str, parameters: &Parameters, headers: &HeaderMap) -> Reply {
        match parameters.get("grant_type").map(String::as_str) {
            Some("client_credentials") => self.client_credentials(client_id, parameters, headers),
            Some(_) => error(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "unsupported grant_type requested",
            ),
            None => error(StatusCode::BAD_REQUEST, "invalid_request", "grant_type is missing"),
        }
    }

    fn client_credentials(
        &self,
        client_id: &str,
        parameters: &Parameters,
        headers: &HeaderMap,
    ) -> Reply {
        let scope = parameters.get("scope").map_or(SCOPE, String::as_str);
        if scope != SCOPE {
            return error(StatusCode::BAD_REQUEST, "invalid_scope", "unknown scope");
        }
        let Ok(jwt_id) = random() else {
            return loopback::empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        let now = clock::now().as_secs();
        let claims = json!({
            "iss": self.issuer(headers),
            "sub": client_id,
            "client_id": client_id,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 3600,
            "jti": jwt_id,
            "scope": scope,
        });
        let Ok(token) = self.key.sign("at+jwt", &claims) else {
            return loopback::empty(StatusCode::INTERNAL_SERVER_ERROR);
        };
        self.book().tokens.insert(token.clone(), claims);
        private(&json!({
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": 3600,
            "scope": scope,
        }))
    }

    /// RFC 7662 §2.2.
    fn introspect(&self, _: &str, parameters: &Parameters, _: &HeaderMap) -> Reply {
        let Some(token) = parameters.get("token") else {
            return error(StatusCode::BAD_REQUEST, "invalid_request", "token is missing");
        };
        let known = self.book().tokens.get(token).cloned();
        let now = clock::now().as_secs();
        let lives =
            |claims: &Value| claims.get("exp").and_then(Value::as_u64).is_some_and(|exp| now < exp);
        match known.filter(lives) {
            Some(mut claims) => {
                if let Value::Object(members) = &mut claims {
                    members.insert("active".into(), true.into());
                    members.insert("token_type".into(), "Bearer".into());
                }
                private(&claims)
            }
            None => private(&json!({ "active": false })),
        }
    }

    /// RFC 7009 §2.2: 200 also for what was never issued.
    fn revoke(&self, _: &str, parameters: &Parameters, _: &HeaderMap) -> Reply {
        match parameters.get("token") {
            Some(token) => {
                self.book().tokens.remove(token);
                loopback::empty(StatusCode::OK)
            }
            None => error(StatusCode::BAD_REQUEST, "invalid_request", "token is missing"),
        }
    }

    /// RFC 8414 §2, and the same for `OpenID` Connect. As real ones do, it builds the URLs of its
    /// endpoints from `Host` and `X-Forwarded-Proto`.
    fn metadata(&self, headers: &HeaderMap) -> Value {
        let origin = origin(headers);
        json!({
            "issuer": self.issuer(headers),
            "token_endpoint": format!("{origin}{TOKEN}"),
            "jwks_uri": format!("{origin}{JWKS}"),
            "introspection_endpoint": format!("{origin}{INTROSPECTION}"),
            "revocation_endpoint": format!("{origin}{REVOCATION}"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "scopes_supported": [SCOPE],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.key.algorithm().as_str()],
        })
    }

    fn issuer(&self, headers: &HeaderMap) -> String {
        self.issuer.clone().unwrap_or_else(|| origin(headers))
    }
}

fn origin(headers: &HeaderMap) -> String {
    let field = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = field(HeaderName::from_static("x-forwarded-proto")).unwrap_or("http");
    format!("{scheme}://{}", field(HOST).unwrap_or("localhost"))
}

/// The percent-decoded halves of `Authorization: Basic` (RFC 6749 §2.3.1).
fn basic(value: &HeaderValue) -> Option<(String, String)> {
    let encoded = value.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let plain = |half: &str| {
        let pair = format!("={half}");
        url::form_urlencoded::parse(pair.as_bytes()).next().map(|(_, value)| value.into_owned())
    };
    plain(id).zip(plain(secret))
}

/// What was asked, as JSON: method, target, header fields in order, and the body in base64.
fn echo(request: &Request<Bytes>) -> Reply {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    loopback::json(
        StatusCode::OK,
        &json!({
            "method": request.method().as_str(),
            "target": request.uri().path_and_query().map(ToString::to_string),
            "headers": headers,
            "body": STANDARD.encode(request.body()),
        }),
    )
}

/// The body, under the content type with which it came.
fn echo_body(request: Request<Bytes>) -> Reply {
    let (head, body) = request.into_parts();
    let mut reply = Reply::new(body.into());
    if let Some(content_type) = head.headers.get(CONTENT_TYPE) {
        reply.headers_mut().insert(CONTENT_TYPE, content_type.clone());
    }
    reply
}

/// RFC 6749 §5.2.
fn error(status: StatusCode, code: &str, description: &str) -> Reply {
    no_store(loopback::json(status, &json!({ "error": code, "error_description": description })))
}

fn private(value: &Value) -> Reply {
    no_store(loopback::json(StatusCode::OK, value))
}

/// RFC 6749 §5.1.
fn no_store(mut reply: Reply) -> Reply {
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

fn random() -> io::Result<String> {
    let mut octets = [0; 24];
    rand::fill(&mut octets).map_err(|_| io::Error::other("the system has no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(idp: &StandInIdp, path: &str, body: &str) -> (u16, Value) {
        let answer = reqwest::Client::new()
            .post(format!("{}{path}", idp.origin()))
            .basic_auth(CLIENT_ID, Some(idp.client_secret()))
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    #[tokio::test]
    async fn its_tokens_live_until_they_are_revoked() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let idp = StandInIdp::start(None).await.unwrap();
        let (status, granted) = post(&idp, TOKEN, "grant_type=client_credentials").await;
        assert_eq!(status, 200);
        let query = format!("token={}", granted["access_token"].as_str().unwrap());
        assert_eq!(post(&idp, INTROSPECTION, &query).await.1["active"], true);
        assert_eq!(post(&idp, REVOCATION, &query).await.0, 200);
        assert_eq!(post(&idp, INTROSPECTION, &query).await, (200, json!({ "active": false })));
    }

    #[tokio::test]
    async fn it_knows_its_clients_by_their_secrets() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let idp = StandInIdp::start(None).await.unwrap();
        idp.register("other", "other's secret".to_owned());
        let status = async |id: &str, secret: &str| {
            let form = [("token", "x"), ("client_id", id), ("client_secret", secret)];
            let form =
                url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            let request = reqwest::Client::new().post(format!("{}{REVOCATION}", idp.origin()));
            let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            request.body(form).send().await.unwrap().status().as_u16()
        };
        assert_eq!(status(CLIENT_ID, idp.client_secret()).await, 200);
        assert_eq!(status("other", "other's secret").await, 200);
        for (id, secret) in [
            ("other", idp.client_secret()),
            (CLIENT_ID, "other's secret"),
            ("nobody", ""),
            ("", ""),
        ] {
            assert_eq!(status(id, secret).await, 401, "{id}");
        }
    }

    #[tokio::test]
    async fn it_knows_no_token_exchange() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let idp = StandInIdp::start(None).await.unwrap();
        let body = "grant_type=urn:ietf:params:oauth:grant-type:token-exchange";
        let (status, refused) = post(&idp, TOKEN, body).await;
        assert_eq!((status, &refused["error"]), (400, &json!("unsupported_grant_type")));
        assert_eq!(idp.received().len(), 1);
        assert_eq!(idp.received()[0].body, body);
    }
}
