//! The phases of a request, as pingora calls them: screen, route, intercept or forward.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use tokio::time::Instant;
use url::Url;

use super::answer::Answer;
use super::contain::contained;
use super::documents::{self, Kind};
use super::forward::{self, Client};
use super::generation::{Generation, Shared};
use super::intercept;
use super::patience;
use super::peer::Attempts;
use super::reply;
use super::route::Route;
use super::screen::{is_last, screen};
use super::stream::STALLED;
use super::token_endpoint::decision_id;
use super::uploads::{self, Upload};
use crate::count::{Counted, Full};
use crate::exchange::error::{Failure, Refusal};
use crate::exchange::inquiry::Purpose;
use crate::store::Use;

/// How long an upgraded connection may be silent.
const LONG_SILENCE: Duration = Duration::from_mins(10);
/// An answer that is no longer leaves the upstream at once, whether its client takes it or not: the
/// socket and the library hold as much.
const SMALL: u64 = 64 * 1024;
/// What is left of a request that was answered early is read for so long, to keep the connection.
const DRAIN: Duration = Duration::from_secs(2);

/// The proxy under one configuration.
#[derive(Debug)]
pub struct Gateway {
    generation: Arc<Generation>,
    shared: Arc<Shared>,
}

impl Gateway {
    pub fn new(generation: Arc<Generation>, shared: Arc<Shared>) -> Self {
        Self { generation, shared }
    }
}

/// What is known of one request on its way.
#[derive(Debug)]
pub struct Visit {
    route: Route,
    client: Client,
    /// The body was read, and a client that waited for it was told to go on.
    is_buffered: bool,
    /// It may ask the store, which is not closed meanwhile.
    store_use: Option<Use>,
    /// It counts among those that wait for the upstream.
    forwarded: Option<Counted>,
    /// Or its body is still to come.
    upload: Option<Upload>,
    /// With the upstream, where the configured time is too short.
    patience: Option<Duration>,
    is_upgrade: bool,
    attempts: Attempts,
    asked_upstream: Option<Instant>,
    upstream_status: Option<u16>,
    upstream_version: Version,
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Visit;

    fn new_ctx(&self) -> Visit {
        Visit {
            route: Route::Other,
            client: Client { address: None, is_tls: false },
            is_buffered: false,
            store_use: None,
            forwarded: None,
            upload: None,
            patience: None,
            is_upgrade: false,
            attempts: Attempts::default(),
            asked_upstream: None,
            upstream_status: None,
            upstream_version: Version::HTTP_11,
        }
    }

    /// None: bodies pass as they are.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, visit: &mut Visit) -> Result<bool> {
        whole(self.receive(session, visit)).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        visit: &mut Visit,
    ) -> Result<Box<HttpPeer>> {
        whole(self.choose_peer(visit)).await
    }

    /// Nothing was sent yet: another address of the same name may be tried for any method.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        visit: &mut Visit,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let has_more = visit.attempts.fail();
        error.set_retry(has_more && is_of_address(error.etype()));
        error
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        whole(async { self.send_on(session, upstream, visit) }).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        is_end: bool,
        visit: &mut Visit,
    ) -> Result<()> {
        whole(async { self.pass_body(body, is_end, visit) }).await
    }

    /// Before the library makes it one that it can send on, under another version.
    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        upstream: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        visit.upstream_version = upstream.version;
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        upstream: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        whole(async { self.hand_back(session, upstream, visit) }).await
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        _body: &mut Option<Bytes>,
        is_end: bool,
        visit: &mut Visit,
    ) -> Result<Option<Duration>> {
        // How long its client takes to take it is no matter of the upstream's.
        if is_end {
            visit.forwarded = None;
        }
        if visit.upload.is_some() {
            uploads::went_on();
        }
        Ok(None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        visit: &mut Visit,
    ) -> FailToProxy {
        let status = status_of(error);
        if let Some(status) = status
            && session.response_written().is_none_or(|head| head.status.is_informational())
        {
            session.set_keepalive(None);
            // A client that is gone by now hears nothing.
            let _ = reply::write(session, failed(status, visit.route)).await;
        }
        let error_code = status.map_or(0, |status| status.as_u16());
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, visit: &mut Visit) {
        // Nothing more is taken from a connection on which something came before its turn.
        session.as_downstream_mut().set_pipelining_enabled(false);
        let Some(asked) = visit.asked_upstream else { return };
        let took = asked.elapsed();
        self.shared.metrics.upstream(&session.req_header().method, visit.upstream_status, took);
        if let Some(error) = error.filter(|error| is_of_upstream(error)) {
            tracing::warn!(
                kind = error.etype().as_str(),
                why = before_request(error),
                "the upstream did not answer as it should"
            );
        }
    }

    /// Texts of the library may quote what passed.
    fn suppress_error_log(&self, _session: &Session, _visit: &Visit, _error: &Error) -> bool {
        true
    }
}

impl Gateway {
    /// Answers, or lets the request go on. Whether it was answered.
    async fn receive(&self, session: &mut Session, visit: &mut Visit) -> Result<bool> {
        visit.client = client(session);
        let is_upgrade = forward::is_websocket(session.req_header());
        session.set_read_timeout(Some(if is_upgrade { LONG_SILENCE } else { STALLED }));
        session.set_write_timeout(Some(STALLED));
        session.set_total_drain_timeout(Some(DRAIN));
        // What comes behind a request is then left for later, and is no fault of the request. It is
        // of the tunnel that an upgrade may lead to.
        session.as_downstream_mut().set_pipelining_enabled(!is_upgrade);
        if let Err(refused) = screen(session.req_header()) {
            session.set_keepalive(None);
            return answered(session, Answer::plain(refused.status, refused.text)).await;
        }
        // The library looks at the first of several fields.
        if is_last(&session.req_header().headers) {
            session.set_keepalive(None);
        }
        visit.route = self.route(session.req_header());
        let is_buffered = matches!(
            visit.route,
            Route::Token | Route::Suspect | Route::Introspection | Route::Revocation
        );
        forward::strip_request(session.req_header_mut(), !is_buffered);
        // A client of HTTP/1.0 knows no interim answers (RFC 9110 §15.2), so it can't wait for one.
        if session.req_header().version == Version::HTTP_10 {
            session.set_ignore_info_resp(true);
            session.req_header_mut().remove_header(&EXPECT);
        }
        visit.is_upgrade = is_upgrade;
        visit.patience = if is_upgrade {
            Some(LONG_SILENCE)
        } else if !is_buffered && intercept::is_large(session) {
            // An upstream that is still being sent a body is as silent as the client may be.
            Some(STALLED + self.generation.config.upstream.read_timeout)
        } else {
            None
        };
        visit.is_buffered = is_buffered;
        visit.store_use = is_buffered.then(|| self.shared.store.begin());
        let limits = self.generation.config.limits;
        let answer = match visit.route {
            Route::Token | Route::Suspect => {
                let endpoint = &self.shared.token_endpoint;
                let client = visit.client;
                intercept::token_request(session, &self.generation, endpoint, client).await?
            }
            Route::Introspection => self.inquiry(Purpose::Introspection, session, visit).await?,
            Route::Revocation => self.inquiry(Purpose::Revocation, session, visit).await?,
            Route::Jwks => self.document(Kind::Jwks, session, visit).await,
            Route::Metadata(_) => self.document(Kind::Metadata, session, visit).await,
            Route::WellKnown => self.document(Kind::WellKnown, session, visit).await,
            Route::Other => last_hop(session.req_header()),
        };
        let busy = || failed(StatusCode::SERVICE_UNAVAILABLE, visit.route);
        let answer = match answer {
            Some(answer) => answer,
            None if visit.is_buffered || session.as_downstream_mut().is_body_empty() => {
                visit.forwarded = self.shared.wait_for_upstream(&limits);
                if visit.forwarded.is_some() {
                    return Ok(false);
                }
                busy()
            }
            None => {
                visit.upload = self.shared.begin_upload(&limits);
                if visit.upload.is_some() {
                    uploads::went_on();
                    return Ok(false);
                }
                busy()
            }
        };
        self.keep_or_close(session);
        answered(session, answer).await
    }

    /// Where the upstream is asked, this time.
    async fn choose_peer(&self, visit: &mut Visit) -> Result<Box<HttpPeer>> {
        visit.asked_upstream.get_or_insert_with(Instant::now);
        if visit.is_upgrade {
            self.expect_answer(visit);
        }
        self.generation.upstream.peer(&mut visit.attempts, visit.patience, visit.is_upgrade).await
    }

    /// From here on the upstream is waited for as long as is configured.
    fn expect_answer(&self, visit: &Visit) {
        let configured = self.generation.config.upstream.read_timeout;
        patience::expect_by(visit.patience.map(|_| Instant::now() + configured));
    }

    /// The head as the upstream gets it.
    fn send_on(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        visit: &Visit,
    ) -> Result<()> {
        if visit.is_buffered {
            upstream.remove_header(&EXPECT);
        }
        // A chunked body without a chunk, or a stream of HTTP/2 without data: some servers insist
        // on a length.
        let request = session.req_header();
        let has_length = request.headers.contains_key(CONTENT_LENGTH);
        let is_bodiless =
            matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::DELETE);
        let may_lack_length = request.headers.contains_key(TRANSFER_ENCODING)
            || (request.version == Version::HTTP_2 && !has_length && !is_bodiless);
        if may_lack_length && session.as_downstream_mut().is_body_empty() {
            upstream.insert_header(CONTENT_LENGTH, 0)?;
        }
        // Servers that answer without waiting for such a body, or that expect none, may take it for
        // the next request, and its answer for that of the next client (RFC 9110 §9.3.1, §10.1.1).
        let has_body = !session.as_downstream_mut().is_body_empty();
        if upstream.headers.contains_key(EXPECT) || (is_bodiless && has_body) {
            upstream.insert_header(CONNECTION, "close")?;
        }
        forward::complete_request(upstream, session.req_header(), visit.client)?;
        // HTTP/1.0 may leave it out, and HTTP/1.1 may not (RFC 9112 §3.2).
        if !upstream.headers.contains_key(HOST)
            && let Some(host) = self.own_host()
        {
            upstream.insert_header(HOST, host)?;
        }
        Ok(())
    }

    /// Whom a client means that names nobody.
    fn own_host(&self) -> Option<HeaderValue> {
        let config = &self.generation.config;
        let issuer = Url::parse(config.policy.authorization_server()).ok();
        documents::host(issuer.as_ref().filter(|_| config.overlay).unwrap_or(&config.upstream.url))
    }

    /// One piece of a body on its way to the upstream.
    fn pass_body(&self, body: &mut Option<Bytes>, is_end: bool, visit: &mut Visit) -> Result<()> {
        // The library would write the last chunk for it, and once more for the end: the second one is
        // the beginning of the connection's next request.
        if is_end && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        if is_end {
            self.expect_answer(visit);
        }
        let Some(upload) = &mut visit.upload else { return Ok(()) };
        uploads::went_on();
        let (came, most) =
            (body.as_ref().map_or(0, Bytes::len), self.generation.config.limits.forwarded_requests);
        if is_end {
            uploads::came();
            visit.upload = None;
            let is_answered = visit.upstream_status.is_some_and(|status| status >= 200);
            visit.forwarded = (!is_answered).then(|| self.shared.forwarded.join());
        } else if !self.shared.uploads.go_on(upload, came, most) {
            let timeout = StatusCode::REQUEST_TIMEOUT.as_u16();
            return Err(Error::explain(ErrorType::HTTPStatus(timeout), "too slow").into_down());
        }
        Ok(())
    }

    /// The head of an answer as the client gets it.
    fn hand_back(
        &self,
        session: &mut Session,
        upstream: &mut ResponseHeader,
        visit: &mut Visit,
    ) -> Result<()> {
        self.keep_or_close(session);
        visit.upstream_status = Some(upstream.status.as_u16());
        if upstream.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req() {
            let what = "a switch of protocols that nobody asked for";
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, what).into_up());
        }
        // It is no request any more, and may last for hours.
        if upstream.status == StatusCode::SWITCHING_PROTOCOLS {
            visit.forwarded = None;
            visit.upload = None;
            uploads::came();
        }
        if upstream.status == StatusCode::SWITCHING_PROTOCOLS || !upstream.status.is_informational()
        {
            visit.patience = None;
            patience::expect_by(None);
        } else if patience::deadline().is_some() {
            self.expect_answer(visit);
        }
        if is_soon_whole(&session.req_header().method, upstream) {
            visit.forwarded = None;
        }
        // Nor does it know chunks (RFC 9112 §6.1): there the body ends with the connection.
        let is_chunked = upstream.headers.contains_key(TRANSFER_ENCODING);
        if is_chunked && session.req_header().version == Version::HTTP_10 {
            upstream.remove_header(&TRANSFER_ENCODING);
            session.set_keepalive(None);
        }
        forward::complete_response(upstream, visit.upstream_version)
    }

    /// A client that is told to close does not send its next request in vain.
    fn keep_or_close(&self, session: &mut Session) {
        if self.shared.is_stopping.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        }
    }

    async fn document(&self, kind: Kind, session: &Session, visit: &Visit) -> Option<Answer> {
        let request = session.req_header();
        if request.method != Method::GET && request.method != Method::HEAD {
            return last_hop(request);
        }
        // Large as these are, a request that needs none of them should not have the room for them.
        let answer = Box::pin(self.generation.documents.answer(kind, request, visit.client)).await;
        answer.unwrap_or_else(|Full| Some(failed(StatusCode::SERVICE_UNAVAILABLE, visit.route)))
    }

    async fn inquiry(
        &self,
        purpose: Purpose,
        session: &mut Session,
        visit: &Visit,
    ) -> Result<Option<Answer>> {
        let (generation, shared) = (&self.generation, &self.shared);
        Box::pin(intercept::inquiry(session, generation, shared, purpose, visit.client)).await
    }

    fn route(&self, request: &RequestHeader) -> Route {
        let routes = &self.generation.routes;
        let route = routes.of(request.raw_path());
        let is_token = |route| matches!(route, Route::Token | Route::Suspect);
        let mut others = forward::other_targets(&request.headers);
        // Of several nobody knows which counts, and to play them all through would cost too much.
        let leads_to_token = !is_token(route)
            && others
                .next()
                .is_some_and(|other| others.next().is_some() || is_token(routes.of(other)));
        if leads_to_token { Route::Suspect } else { route }
    }
}

/// A phase that panics fails as one does that can't go on: the request is answered with 500.
async fn whole<T>(phase: impl Future<Output = Result<T>>) -> Result<T> {
    let panicked = || Err(Error::explain(ErrorType::InternalError, "a panic").into_in());
    contained(phase).await.unwrap_or_else(panicked)
}

/// Who is at the other end of the connection.
fn client(session: &Session) -> Client {
    let digest: Option<&Digest> = session.digest();
    Client {
        address: session
            .client_addr()
            .and_then(|address| address.as_inet())
            .map(std::net::SocketAddr::ip),
        is_tls: digest.is_some_and(|digest| digest.ssl_digest.is_some()),
    }
}

async fn answered(session: &mut Session, answer: Answer) -> Result<bool> {
    reply::write(session, answer).await.map(|()| true)
}

/// Whether another address of the same name may do better.
const fn is_of_address(kind: &ErrorType) -> bool {
    matches!(
        kind,
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeTimedout
    )
}

/// Whether the upstream is rid of an answer with this head before long.
fn is_soon_whole(method: &Method, head: &ResponseHeader) -> bool {
    let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let is_small =
        length.and_then(|length| length.parse().ok()).is_some_and(|length| SMALL >= length);
    let is_bodiless = method == Method::HEAD || matches!(head.status.as_u16(), 204 | 304);
    !head.status.is_informational() && (is_small || is_bodiless)
}

/// OPTIONS that may go no further is answered by us (RFC 9110 §7.6.2).
fn last_hop(request: &RequestHeader) -> Option<Answer> {
    let is_last = request.method == Method::OPTIONS && forward::max_forwards(request) == Some(0);
    is_last.then(|| Answer::plain(StatusCode::OK, "OK"))
}

/// What a failed request is answered with; `None` where nobody is left to be answered.
fn status_of(error: &Error) -> Option<StatusCode> {
    let is_timeout = matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
    );
    let is_gone = matches!(
        error.etype(),
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed
    );
    match (error.etype(), error.esource()) {
        _ if patience::is_overdue(error) => Some(StatusCode::GATEWAY_TIMEOUT),
        (ErrorType::HTTPStatus(code), _) => StatusCode::from_u16(*code).ok(),
        (_, ErrorSource::Upstream) if is_timeout => Some(StatusCode::GATEWAY_TIMEOUT),
        (_, ErrorSource::Upstream) => Some(StatusCode::BAD_GATEWAY),
        (_, ErrorSource::Downstream) if is_gone => None,
        (_, ErrorSource::Downstream) if is_timeout => Some(StatusCode::REQUEST_TIMEOUT),
        (_, ErrorSource::Downstream) => Some(StatusCode::BAD_REQUEST),
        (_, ErrorSource::Internal | ErrorSource::Unset) => Some(StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn is_of_upstream(error: &Error) -> bool {
    *error.esource() == ErrorSource::Upstream || patience::is_overdue(error)
}

/// What the library says of a connection that did not come about, such as of a certificate. Later
/// texts may quote what passed.
fn before_request(error: &Error) -> Option<&str> {
    let is_before = matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
    );
    error.context.as_ref().filter(|_| is_before).map(pingora::ImmutStr::as_str)
}

/// What OAuth clients read is in their form (RFC 6749 §5.2).
fn failed(status: StatusCode, route: Route) -> Answer {
    let is_introspection = matches!(route, Route::Introspection | Route::Revocation);
    let failure = match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT if is_introspection => {
            Some(Failure::CallerUnproven)
        }
        StatusCode::BAD_GATEWAY => Some(Failure::UpstreamUnavailable),
        StatusCode::GATEWAY_TIMEOUT => Some(Failure::UpstreamTimeout),
        StatusCode::SERVICE_UNAVAILABLE => Some(Failure::Overloaded),
        StatusCode::INTERNAL_SERVER_ERROR => Some(Failure::Internal),
        _ => None,
    };
    let is_oauth = is_introspection || matches!(route, Route::Token | Route::Suspect);
    if let Some(failure) = failure.filter(|_| is_oauth) {
        return Answer::refused(&Refusal::from(failure).outcome(), &decision_id());
    }
    let text = match status {
        StatusCode::BAD_GATEWAY => "The upstream does not answer.",
        StatusCode::GATEWAY_TIMEOUT => "The upstream does not answer in time.",
        StatusCode::REQUEST_TIMEOUT => "The request did not arrive in time.",
        StatusCode::SERVICE_UNAVAILABLE => "The server is busy. Try again later.",
        StatusCode::INTERNAL_SERVER_ERROR => "The request could not be answered.",
        _ => "The request is not well-formed.",
    };
    Answer::plain(status, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_address_is_tried_where_the_first_one_was_not_reached() {
        use ErrorType::{
            ConnectError, ConnectNoRoute, ConnectRefused, ConnectTimedout, InvalidCert,
            ReadTimedout, TLSHandshakeFailure, TLSHandshakeTimedout,
        };
        for unreached in
            [ConnectTimedout, ConnectRefused, ConnectNoRoute, ConnectError, TLSHandshakeTimedout]
        {
            assert!(is_of_address(&unreached), "{unreached:?}");
        }
        for reached in [ReadTimedout, TLSHandshakeFailure, InvalidCert] {
            assert!(!is_of_address(&reached), "{reached:?}");
        }
    }

    #[tokio::test]
    async fn a_phase_that_panics_is_answered_with_500() {
        let broken = Error::explain(ErrorType::InvalidHTTPHeader, "broken").into_up();
        for (phase, status) in [(Ok(true), None), (Err(broken), Some(StatusCode::BAD_GATEWAY))] {
            let error = whole(async { phase }).await.err();
            assert_eq!(error.and_then(|error| status_of(&error)), status);
        }
        let error = whole::<bool>(async { panic!("in the middle") }).await.unwrap_err();
        assert_eq!(status_of(&error), Some(StatusCode::INTERNAL_SERVER_ERROR));
    }
}
