//! `cambio revoke`: ends what was granted for a subject, by an issuer's tokens or to a client.
//!
//! The server that runs is asked, by its admin listener. Where none listens, the store is opened and
//! told by this process itself.

use std::error::Error;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::{Exit, check, fail, print};
use crate::admin::REVOCATION_TIMEOUT;
use crate::admin::order::{Kind, Order, Report, RevokeError, Target, time};
use crate::app::listen::reachable;
use crate::app::revoke::revoke;
use crate::config::{self, Config, StoreSettings};
use crate::store;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;
use crate::time::Timestamp;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the server takes to give up.
const TOTAL_TIMEOUT: Duration = REVOCATION_TIMEOUT.saturating_add(Duration::from_secs(30));
/// The largest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// How long a process may hold the store without listening: it starts, or it ends.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one attempt waits for the store.
const STORE_BUSY: Duration = Duration::from_secs(1);
/// Between two attempts.
const STEP: Duration = Duration::from_millis(100);

/// What is to be revoked.
#[derive(Args, Debug)]
pub struct Revocation {
    #[command(flatten)]
    target: Named,
    /// Only what was granted up to this time (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    before: Option<Timestamp>,
}

/// Exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Named {
    /// The `sub` of minted tokens
    #[arg(long, value_name = "SUB", value_parser = NonEmptyStringValueParser::new())]
    subject: Option<String>,
    /// A trusted token issuer, by its name or its `iss`
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    issuer: Option<String>,
    /// A client, by its `client_id` or the application's name
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    client: Option<String>,
}

fn parse_time(text: &str) -> Result<Timestamp, &'static str> {
    time(text).ok_or("must be a time as in 2026-12-01T00:00:00Z (RFC 3339), after 1970")
}

impl Revocation {
    fn into_order(self) -> Option<Order> {
        let Named { subject, issuer, client } = self.target;
        let target = subject
            .map(Target::Subject)
            .or_else(|| issuer.map(Target::Issuer))
            .or_else(|| client.map(Target::Client))?;
        Some(Order { target, before: self.before })
    }
}

/// Revokes, and says what was hit.
pub fn run(path: &Path, revocation: Revocation) -> Exit {
    // clap has seen to it.
    let Some(order) = revocation.into_order() else { return Exit::Usage };
    let config = match config::load(path) {
        Ok((config, _)) => config,
        Err(faults) => {
            check::tell(&faults);
            return Exit::BadConfiguration;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(carry_out(&config, &order)),
        Err(error) => Err(format!("no threads are to be had: {}", error.kind())),
    };
    match done {
        Ok(report) => print(&told(&report)),
        Err(why) => fail(&why),
    }
}

/// Asks the server. Where nobody listens, and nobody holds the store, it is done here.
async fn carry_out(config: &Config, order: &Order) -> Result<Report, String> {
    let address = reachable(config.admin.address);
    let began = Instant::now();
    loop {
        if let Some(answered) = ask(config, address, order).await {
            return answered;
        }
        let why = match here(config, order).await {
            Ok(done) => return done,
            Err(why) => why,
        };
        if began.elapsed() > PATIENCE {
            let asked = if address.port() == 0 {
                "which port the server listens on for operators can't be known".to_owned()
            } else {
                format!("nobody listens at {address}")
            };
            return Err(format!("{asked} (`admin.address`), and {why}"));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// What the server answers; `None` where none listens.
async fn ask(
    config: &Config,
    address: SocketAddr,
    order: &Order,
) -> Option<Result<Report, String>> {
    if address.port() == 0 {
        return None;
    }
    let client = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        // Nothing but HTTP is spoken here.
        .tls_certs_only([])
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .build();
    let Ok(client) = client else { return Some(Err("no HTTP client is to be had".to_owned())) };
    let mut request = client
        .post(format!("http://{address}/revoke"))
        .header(CONTENT_TYPE, "application/json")
        .body(order.to_body());
    if let Some(token) = &config.admin.token {
        let value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()));
        let Ok(mut value) = value else { return Some(Err("admin.token can't be sent".to_owned())) };
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    match request.send().await {
        Ok(response) => Some(read(response, address).await),
        Err(error) if is_refused(&error) => None,
        Err(error) => Some(Err(unanswered(address, &error))),
    }
}

fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let is_this = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    is_this || error.source().is_some_and(is_refused)
}

fn unanswered(address: SocketAddr, error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "does not answer in time"
    } else if error.is_connect() {
        "can't be reached"
    } else {
        "broke off"
    };
    let doubt =
        if error.is_connect() { "" } else { ": it is unknown whether anything was revoked" };
    format!("the admin listener at {address} {what}{doubt}")
}

/// An answer of the server that is no report.
#[derive(Deserialize)]
struct Refused {
    error_description: String,
}

async fn read(mut response: Response, address: SocketAddr) -> Result<Report, String> {
    let status = response.status();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => {
                body.extend_from_slice(&chunk);
            }
            Ok(_) => break,
            Err(error) => return Err(unanswered(address, &error)),
        }
    }
    if status.is_success() {
        if let Ok(report) = serde_json::from_slice(&body) {
            return Ok(report);
        }
    } else if let Ok(refused) = serde_json::from_slice::<Refused>(&body) {
        let text: String = refused.error_description.chars().filter(|c| !c.is_control()).collect();
        return Err(text);
    }
    Err(format!(
        "what answers at {address} (`admin.address`) with {} is no admin listener that can revoke",
        status.as_u16()
    ))
}

/// Opens the store and revokes. The error is why the store can't be had at the moment.
async fn here(config: &Config, order: &Order) -> Result<Result<Report, String>, String> {
    if !config.needs_store() {
        return Ok(Err(RevokeError::NothingKept.to_string()));
    }
    if let StoreSettings::Embedded { folder } = &config.store
        && !folder.exists()
    {
        let folder = folder.display();
        return Ok(Err(format!("{folder} does not exist: nothing was kept there yet")));
    }
    let metrics = std::sync::Arc::new(Metrics::new());
    let opened = store::open(&config.store, &metrics, STORE_BUSY).await;
    let store = opened.map_err(|error| error.to_string())?;
    // The audit event is this process's own.
    if let Err(error) = log::init() {
        return Ok(Err(error.to_string()));
    }
    let revoked = revoke(config, Ok(&*store), order).await;
    store.close().await;
    Ok(revoked.result.map_err(|error| error.to_string()))
}

/// What was hit, for people.
fn told(report: &Report) -> String {
    let name = report.name.as_deref();
    let of = |what: &str, id: &Option<String>| {
        let id = id.as_deref().unwrap_or_default();
        name.map_or_else(
            || format!("{what} {id} (which the configuration does not have)"),
            |name| format!("{what} {name} ({id})"),
        )
    };
    let whose = match report.ancestor {
        Kind::Subject => "for this subject".to_owned(),
        Kind::Issuer => of("for tokens of the issuer", &report.iss),
        Kind::Client => of("to the client", &report.client_id),
    };
    let mut text = format!("Revoked: what was granted {whose} up to {}.\n", report.before);
    let _ = writeln!(text, "  refresh token families: {}", report.families);
    let _ = writeln!(text, "  opaque access tokens:   {}", report.opaque_access_tokens);
    text += "JWT access tokens among it are inactive at introspection from now on. Resource servers \
             that verify them\noffline accept them until their `exp`.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_hit_is_told_plainly() {
        let report = Report {
            ancestor: Kind::Client,
            iss: None,
            client_id: Some("portal".to_owned()),
            name: Some("Portal".to_owned()),
            before: "2026-01-01T00:00:00Z".to_owned(),
            families: 12,
            opaque_access_tokens: 3,
        };
        let text = told(&report);
        let first =
            "Revoked: what was granted to the client Portal (portal) up to 2026-01-01T00:00:00Z.";
        assert!(text.starts_with(first), "{text}");
        assert!(text.contains("families: 12\n") && text.contains("tokens:   3\n"), "{text}");
        assert!(text.contains("until their `exp`"), "{text}");
        let gone = Report {
            ancestor: Kind::Issuer,
            iss: Some("https://gone.example".to_owned()),
            client_id: None,
            name: None,
            ..report
        };
        assert!(
            told(&gone).contains("https://gone.example (which the configuration does not have)")
        );
    }
}
