//! One JWKS or metadata document as it is served: with a length, a strong `ETag`, and conditions.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::answer::{Answer, DECISION};
use super::token_endpoint::decision_id;
use crate::secret::sha256;

/// Our own documents change with the configuration only.
const OWN_CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// A document as it is served, but for what depends on the request.
#[derive(Debug)]
pub struct Document {
    headers: Vec<(HeaderName, HeaderValue)>,
    etag: HeaderValue,
    body: Bytes,
}

impl Document {
    pub fn new(headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Self {
        let digest = sha256(&body);
        let tag = URL_SAFE_NO_PAD.encode(digest.get(..16).unwrap_or_default());
        // Base64url is no worse in a header field than anywhere else.
        let etag = HeaderValue::try_from(format!("\"{tag}\""));
        Self { headers, etag: etag.unwrap_or(HeaderValue::from_static("\"\"")), body: body.into() }
    }

    pub fn own(content_type: &'static str, body: Vec<u8>) -> Self {
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (CACHE_CONTROL, OWN_CACHE_CONTROL),
            // Relying parties in browsers read them, too, and nothing in them is for some only.
            (ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")),
        ];
        Self::new(headers, body)
    }

    /// RFC 9110 §13.1.2: 304 where the client has this very document.
    pub fn answer(&self, conditions: &HeaderMap) -> Answer {
        let mut headers = self.headers.clone();
        headers.push((ETAG, self.etag.clone()));
        headers.extend(HeaderValue::try_from(decision_id()).ok().map(|id| (DECISION, id)));
        let is_known = (conditions.get_all(IF_NONE_MATCH).iter())
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .map(<[u8]>::trim_ascii)
            .any(|tag| {
                tag == b"*" || tag.strip_prefix(b"W/").unwrap_or(tag) == self.etag.as_bytes()
            });
        if is_known {
            headers.retain(|(name, _)| *name != CONTENT_TYPE);
            return Answer { status: StatusCode::NOT_MODIFIED, headers, body: Bytes::new() };
        }
        Answer { status: StatusCode::OK, headers, body: self.body.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_has_the_document_is_told_so() {
        let document = Document::own("application/json", b"{}".to_vec());
        let etag = document.etag.to_str().unwrap().to_owned();
        let status = |condition: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::try_from(condition).unwrap());
            document.answer(&headers).status.as_u16()
        };
        for known in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            assert_eq!(status(&known), 304, "{known}");
        }
        for unknown in ["\"x\"", "", "**"] {
            assert_eq!(status(unknown), 200, "{unknown}");
        }
        assert_eq!(document.answer(&HeaderMap::new()).body, "{}");
    }
}
