//! Ways to ask for an exchange other than by the body of a POST and its path.

use super::spellings_forms::{Pairs, plain};

/// Exchanges by query, by method, by header field and by framing.
pub fn other_ways(pairs: Pairs) -> Vec<(String, Vec<u8>)> {
    let form = String::from_utf8(plain(pairs)).unwrap();
    let head = "Host: idp.example\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let length = format!("Content-Length: {}\r\n", form.len());
    let (grant, rest) = (plain(&pairs[..1]), plain(&pairs[1..]));
    let (grant, rest) = (String::from_utf8(grant).unwrap(), String::from_utf8(rest).unwrap());
    let sized = |body: &str| format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let mut all = Vec::new();
    let mut add = |name: &str, request: String| all.push((name.to_owned(), request.into_bytes()));
    for path in ["/oauth2/token", "/oauth2/token/", "/oauth2/./token", "/oauth2/to%6Ben"] {
        let methods = [
            "GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "post", "Post", "QUERY",
        ];
        for method in methods {
            add("a method", format!("{method} {path} HTTP/1.1\r\n{head}{length}\r\n{form}"));
            add("a query", format!("{method} {path}?{form} HTTP/1.1\r\nHost: idp.example\r\n\r\n"));
            add(
                "a method that overrides, by parameter",
                format!(
                    "{method} {path}?_method=POST HTTP/1.1\r\n{head}{length}\r\n_method=POST&{form}"
                ),
            );
            add(
                "a method that overrides",
                format!(
                    "{method} {path} HTTP/1.1\r\n{head}X-HTTP-Method-Override: POST\r\n{length}\r\n{form}"
                ),
            );
        }
        let queries = [
            (form.clone(), String::new()),
            (grant.clone(), rest.clone()),
            (rest.clone(), grant.clone()),
            (format!("x=y&{grant}"), "grant_type=client_credentials".to_owned()),
            (format!("?{grant}"), "a=b".to_owned()),
            (format!(";{grant}"), "a=b".to_owned()),
            (grant.replace('-', "%2D"), "a=b".to_owned()),
            (grant.replace('-', "%252D"), "a=b".to_owned()),
            (grant.replace('-', "%u002d"), "a=b".to_owned()),
            (rest.replace('_', "%5f"), "grant_type=client_credentials".to_owned()),
            ("grant_type=client_credentials".to_owned(), form.clone()),
            ("client_id=other".to_owned(), form.clone()),
        ];
        for (query, body) in queries {
            add(
                "query and body",
                format!("POST {path}?{query} HTTP/1.1\r\n{head}{}", sized(&body)),
            );
        }
        let body = format!("{form}&x={}", "y".repeat(65_536));
        add("too large", format!("POST {path} HTTP/1.1\r\n{head}{}", sized(&body)));
        let chunk = format!("{:x}\r\n{form}\r\n", form.len());
        let framings = [
            (
                "both framings",
                format!("Transfer-Encoding: chunked\r\n{length}\r\n{chunk}0\r\n\r\n"),
            ),
            ("two codings", format!("Transfer-Encoding: gzip, chunked\r\n\r\n{chunk}0\r\n\r\n")),
            ("two lengths", format!("Content-Length: 0\r\n{length}\r\n{form}")),
            ("a length with a sign", format!("Content-Length: +{}\r\n\r\n{form}", form.len())),
            (
                "a coding nobody knows",
                format!("Transfer-Encoding: xchunked\r\n\r\n{chunk}0\r\n\r\n"),
            ),
            (
                "a coding with a tab",
                format!("Transfer-Encoding:\x0bchunked\r\n\r\n{chunk}0\r\n\r\n"),
            ),
            (
                "a chunk size with a sign",
                format!("Transfer-Encoding: chunked\r\n\r\n+{chunk}0\r\n\r\n"),
            ),
            (
                "a chunk size in no base",
                format!("Transfer-Encoding: chunked\r\n\r\n0x{chunk}0\r\n\r\n"),
            ),
            (
                "bare line feeds",
                format!(
                    "Transfer-Encoding: chunked\r\n\r\n{}",
                    format!("{chunk}0\r\n\r\n").replace("\r\n", "\n")
                ),
            ),
        ];
        for (name, framing) in framings {
            add(name, format!("POST {path} HTTP/1.1\r\n{head}{framing}"));
        }
    }
    for name in ["X-Original-URL", "X-Rewrite-URL", "x_original_url", "X-REWRITE_URL"] {
        for path in ["/oauth2/token", "/oauth2/token/", "/x/../oauth2/%74oken"] {
            let field = format!("{name}: {path}\r\n");
            add("another target", format!("POST /x HTTP/1.1\r\n{head}{field}{length}\r\n{form}"));
            let field = format!("{name}: {path}?{form}\r\n");
            add("another query", format!("GET /x HTTP/1.1\r\nHost: idp.example\r\n{field}\r\n"));
        }
    }
    all
}
