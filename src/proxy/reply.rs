//! Writes an answer of our own to a connection.

use http::Method;
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::answer::Answer;

/// Writes the whole answer, without the body where the method is HEAD (RFC 9110 §9.3.2). What is
/// left unread of the request closes the connection.
pub async fn write(session: &mut Session, answer: Answer) -> pingora::Result<()> {
    let Answer { status, headers, body } = answer;
    let mut head = ResponseHeader::build(status, Some(headers.len() + 4))?;
    for (name, value) in headers {
        head.append_header(name, value)?;
    }
    let has_body = !(status.is_informational() || status == 204 || status == 304);
    if has_body {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let is_bodiless = !has_body || session.req_header().method == Method::HEAD || body.is_empty();
    let downstream = session.as_downstream_mut();
    downstream.write_response_header(Box::new(head)).await.map_err(pingora::Error::into_down)?;
    let body = if is_bodiless { bytes::Bytes::new() } else { body };
    downstream.write_response_body(body, true).await.map_err(pingora::Error::into_down)
}

/// Tells a client that waits for it to go on with its body (RFC 9110 §10.1.1).
pub async fn continue_if_expected(session: &mut Session) -> pingora::Result<()> {
    let is_expected = session
        .get_header(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if is_expected {
        // Writing an interim response turns keep-alive off.
        let keepalive = session.get_keepalive();
        let downstream = session.as_downstream_mut();
        downstream.write_continue_response().await.map_err(pingora::Error::into_down)?;
        session.set_keepalive(keepalive);
    }
    Ok(())
}
