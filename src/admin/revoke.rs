//! `POST /revoke`: who asks, whether it is an order, and the answer.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{
    ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use serde_json::json;
use tokio::time::timeout;

use super::access::permit;
use super::order::{Order, Revoked};
use super::{Admin, json};

/// The largest body that is read as an order.
const MAX_BODY: usize = 8 * 1024;
/// What is read on of a larger one, so that its sender gets to read the answer.
const LINGER: usize = 256 * 1024;
/// For the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Names the decision in the audit log.
const DECISION: HeaderName = HeaderName::from_static("cambio-decision");

/// Answers a request to `/revoke`.
pub(super) async fn answer<B: Body<Data = Bytes> + Unpin>(
    admin: &Admin,
    peer: IpAddr,
    request: Request<B>,
) -> Response<String> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        let mut refused =
            refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "only POST is allowed");
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return refused;
    }
    // A sender that is still writing when the connection is closed may not get to read the answer.
    let body = timeout(BODY_TIMEOUT, read(body)).await;
    if let Err(denied) = permit(peer, &head.uri, &head.headers, (admin.token)().as_ref()) {
        tracing::warn!(%peer, why = %denied, "a revocation by the admin listener was refused");
        let status = denied.status();
        let is_unknown = status == StatusCode::UNAUTHORIZED;
        let code = if is_unknown { "invalid_token" } else { "access_denied" };
        let mut refused = refused(status, code, &denied.to_string());
        if is_unknown {
            let challenge = HeaderValue::from_static("Bearer realm=\"admin\"");
            refused.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        return refused;
    }
    if !is_json(&head.headers) {
        let text = "the content type must be application/json";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_request", text);
    }
    let (status, text) = match body {
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned()),
        Ok(Err(BodyError::TooLarge)) => {
            (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {MAX_BODY} bytes"))
        }
        Ok(Err(BodyError::Broken)) => {
            (StatusCode::BAD_REQUEST, "the body is not well-formed".to_owned())
        }
        Ok(Ok(body)) => match Order::parse(&body) {
            Ok(order) => return revoked((admin.revoke)(order).await),
            Err(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        },
    };
    refused(status, "invalid_request", &text)
}

fn revoked(Revoked { decision, result }: Revoked) -> Response<String> {
    let mut answer = match result {
        Ok(report) => json(StatusCode::OK, &report),
        Err(error) => refused(error.status(), error.code(), &error.to_string()),
    };
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if let Ok(decision) = HeaderValue::try_from(decision) {
        answer.headers_mut().insert(DECISION, decision);
    }
    answer
}

fn refused(status: StatusCode, error: &str, description: &str) -> Response<String> {
    json(status, &json!({ "error": error, "error_description": description }))
}

/// A form or a text is what a web page may send to anybody without asking.
fn is_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return false };
    let Ok(value) = value.to_str() else { return false };
    let mut parts = value.split(';').map(str::trim);
    let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/json"));
    is_named && parts.all(|parameter| parameter.eq_ignore_ascii_case("charset=utf-8"))
}

enum BodyError {
    TooLarge,
    Broken,
}

async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Vec<u8>, BodyError> {
    let mut whole = Vec::new();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        size += data.len();
        if size > LINGER {
            break;
        }
        if size <= MAX_BODY {
            whole.extend_from_slice(&data);
        }
    }
    if size > MAX_BODY { Err(BodyError::TooLarge) } else { Ok(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_json() {
        let is = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_TYPE, value.parse().unwrap());
            }
            is_json(&headers)
        };
        for good in ["application/json", "Application/JSON", "application/json; charset=UTF-8"] {
            assert!(is(&[good]), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/jsonp",
            "text/plain; application/json",
            "application/json, text/plain",
        ] {
            assert!(!is(&[bad]), "{bad}");
        }
        assert!(!is(&[]));
        assert!(!is(&["application/json", "application/json"]));
    }
}
