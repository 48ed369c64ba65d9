//! Requests that are read whole before it is decided whose they are.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::borrow::Cow;
use std::time::Duration;

use super::answer::Answer;
use super::authentication::Calling;
use super::contain::contained;
use super::forward::{self, Client};
use super::generation::{Generation, Shared};
use super::head::{LINGER, LINGER_BYTES};
use super::inquiries::{self, Received};
use super::reply;
use super::route::query_of;
use super::token_endpoint::{Disposition, Intercepted, TokenEndpoint, decision_id};
use crate::exchange::error::{Failure, Refusal};
use crate::exchange::inquiry::{InquiryRequest, Purpose};
use crate::exchange::request::TokenPathRequest;
use crate::oauth::form::{FormError, MAX_BODY};
use crate::telemetry::metrics::AnsweredBy;

/// Asks the token endpoint. `None` is the upstream's: the body is then in the session's buffer,
/// from where it is sent on as it came.
pub async fn token_request(
    session: &mut Session,
    generation: &Generation,
    endpoint: &TokenEndpoint,
    client: Client,
) -> pingora::Result<Option<Answer>> {
    let body = match whole_body(session, generation.config.limits.body_timeout).await? {
        Ok(body) => body,
        Err(error) => return Ok(Some(endpoint.refuse(Refusal::from(error)))),
    };
    let request = session.req_header();
    let headers = &request.headers;
    let content_types = values(headers, &CONTENT_TYPE);
    let authorization = values(headers, &AUTHORIZATION);
    let query = queries(request);
    let intercepted = Intercepted {
        request: TokenPathRequest {
            method: request.method.as_str(),
            query: query.as_deref(),
            content_types: &content_types,
            is_encoded: is_encoded(headers),
            body: &body,
        },
        calling: Calling { authorization: &authorization, address: client.address },
        probe: generation.inquiries.as_ref().map(|inquiries| &inquiries.probe),
    };
    // Apart: while the body is waited for, nothing of it is needed.
    let answer = Box::pin(endpoint.answer(&generation.config, &generation.keys, intercepted));
    match contained(answer).await {
        Some(Disposition::Forward) => Ok(None),
        Some(Disposition::Answer(answer)) => Ok(Some(answer)),
        // It may have been an exchange, so that it is nobody else's.
        None => Ok(Some(endpoint.refuse(Failure::Internal.into()))),
    }
}

/// Answers a request about a token that could be ours, or refuses one that is larger than its path
/// allows. `None` is the upstream's, as with [`token_request`].
pub async fn inquiry(
    session: &mut Session,
    generation: &Generation,
    shared: &Shared,
    purpose: Purpose,
    client: Client,
) -> pingora::Result<Option<Answer>> {
    let config = &generation.config;
    let body = match whole_body(session, config.limits.body_timeout).await? {
        Ok(body) => body,
        Err(error) => {
            inquiries::count(&shared.metrics, purpose, AnsweredBy::Cambio);
            return Ok(Some(Answer::refused(&Refusal::from(error).outcome(), &decision_id())));
        }
    };
    let request = session.req_header();
    let headers = &request.headers;
    let authorization = values(headers, &AUTHORIZATION);
    let recognised = InquiryRequest {
        method: request.method.as_str(),
        query: query_of(request.raw_path()),
        is_overridden: forward::other_targets(headers).next().is_some()
            || forward::names_other_method(headers),
        content_types: &values(headers, &CONTENT_TYPE),
        is_encoded: is_encoded(headers),
        body: &body,
    }
    .recognise(&config.own_keys, &config.policy);
    let received =
        generation.inquiries.as_ref().zip(recognised).and_then(|(inquiries, inquiry)| {
            let question = inquiries.asking.forwarded(purpose, request, body.clone(), client)?;
            let calling = Calling { authorization: &authorization, address: client.address };
            Some((inquiries, Received { purpose, inquiry, calling, question }))
        });
    let Some((inquiries, received)) = received else {
        inquiries::count(&shared.metrics, purpose, AnsweredBy::Upstream);
        return Ok(None);
    };
    let Some(_forwarded) = shared.wait_for_upstream(&config.limits) else {
        inquiries::count(&shared.metrics, purpose, AnsweredBy::Cambio);
        let overloaded = Refusal::from(Failure::Overloaded).outcome();
        return Ok(Some(Answer::refused(&overloaded, &decision_id())));
    };
    Box::pin(inquiries.answer(config, shared, received)).await.map(Some)
}

fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// Every query that a server might take for that of the request.
fn queries(request: &RequestHeader) -> Option<Cow<'_, [u8]>> {
    let own = query_of(request.raw_path()).map(Cow::Borrowed);
    forward::other_targets(&request.headers).filter_map(query_of).fold(own, |all, other| {
        let all = all.map_or_else(Vec::new, |all| [&all, &b"&"[..]].concat());
        Some(Cow::Owned([&all, other].concat()))
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.into_iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// The body of a request, bounded in size and time. It stays in the session's buffer, which holds
/// exactly as much: without that the request could not be replayed.
async fn whole_body(
    session: &mut Session,
    deadline: Duration,
) -> pingora::Result<Result<Bytes, FormError>> {
    if announced(session).is_some_and(exceeds) {
        linger(session).await;
        return Ok(Err(FormError::TooLarge));
    }
    if session.as_downstream_mut().is_body_empty() {
        return Ok(Ok(Bytes::new()));
    }
    session.as_downstream_mut().enable_retry_buffering();
    reply::continue_if_expected(session).await?;
    let body = tokio::time::timeout(deadline, read(session)).await;
    if matches!(body, Ok(Ok(Err(FormError::TooLarge)))) {
        linger(session).await;
    }
    // Nobody knows where the next request would begin.
    if !matches!(body, Ok(Ok(Ok(_)))) {
        session.set_keepalive(None);
    }
    body.unwrap_or(Ok(Err(FormError::TimedOut))).map_err(Error::into_down)
}

/// Reads on for a while. An HTTP/2 stream that is answered before its end is reset (RFC 9113 §8.1),
/// and clients take the reset for a failure, without a look at the answer before it. On HTTP/1 this is
/// done as the connection is closed.
async fn linger(session: &mut Session) {
    if session.is_http2() {
        let _ = tokio::time::timeout(LINGER, async {
            let mut left = LINGER_BYTES;
            while let Ok(Some(piece)) = session.read_request_body().await
                && left > piece.len()
            {
                left -= piece.len();
            }
        })
        .await;
    }
}

/// Whether a request has a body that may take a while to arrive: a large one, or one of which
/// nobody knows how large it is. An upstream that waits for the rest of it is not one that hangs.
pub fn is_large(session: &mut Session) -> bool {
    !session.as_downstream_mut().is_body_empty() && announced(session).is_none_or(exceeds)
}

fn announced(session: &Session) -> Option<u64> {
    session.get_header(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

fn exceeds(length: u64) -> bool {
    usize::try_from(length).map_or(true, |length| length > MAX_BODY)
}

/// It is put together once, by the session: while it comes there is one of it, not two.
async fn read(session: &mut Session) -> pingora::Result<Result<Bytes, FormError>> {
    let mut size = 0;
    while let Some(piece) = session.read_request_body().await? {
        size += piece.len();
        if size > MAX_BODY {
            return Ok(Err(FormError::TooLarge));
        }
    }
    let whole = session.as_downstream_mut().get_retry_buffer().unwrap_or_default();
    // Nothing that is not whole is read, nor sent on.
    Ok(if whole.len() == size { Ok(whole) } else { Err(FormError::TooLarge) })
}
