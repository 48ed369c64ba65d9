//! Logs: JSON lines on standard error.
//!
//! Only this crate's own events are written as they are. What libraries say can hold request lines,
//! header fields and bodies, at some places in errors too, so that no level is low enough: their
//! `tracing` events are dropped, and their `log` records come without their text unless the module
//! they come from sees no request.

use std::env;
use std::panic::PanicHookInfo;

use ::log::{LevelFilter, Log, Metadata, Record};
use thiserror::Error;
use tracing::Dispatch;
use tracing::level_filters::LevelFilter as Level;
use tracing_subscriber::filter::{FilterExt as _, Targets, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};

/// The target of what libraries say.
const LIBRARY: &str = "library";
/// The target of audit events.
const AUDIT: &str = "audit";
/// Modules of pingora that start, stop and listen, and see no request.
const SEE_NO_REQUEST: [&str; 3] =
    ["pingora_core::server", "pingora_core::services", "pingora_core::listeners"];

/// Why logging can't be set up.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    #[error(
        "CAMBIO_LOG is not a level, or a list such as `info,cambio::keys=debug,audit=info,library=warn`"
    )]
    Filter,
    #[error("CAMBIO_LOG_FORMAT is neither `json` nor `text`")]
    Format,
    #[error("logging is set up already")]
    Twice,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    /// For people.
    Text,
}

/// Begins to log for the whole process, as `CAMBIO_LOG` and `CAMBIO_LOG_FORMAT` ask.
pub fn init() -> Result<(), LogError> {
    let variable = |name| match env::var(name) {
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(()),
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
    };
    let filter = variable("CAMBIO_LOG").map_err(|()| LogError::Filter)?;
    let format = match variable("CAMBIO_LOG_FORMAT").map_err(|()| LogError::Format)?.as_deref() {
        None | Some("json") => Format::Json,
        Some("text") => Format::Text,
        Some(_) => return Err(LogError::Format),
    };
    let dispatch = dispatch(filter.as_deref().unwrap_or("info"), format, std::io::stderr)?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LogError::Twice)?;
    std::panic::set_hook(Box::new(|panic| {
        tracing::error!(panic = told_of(panic), "a task panicked: what it was doing has failed");
    }));
    forward_libraries()
}

/// What is told of a panic: its place, and its text where that stands in the code as it is. A text
/// that was put together quotes what was worked on: a value that was not as expected, or the string
/// that an index was wrong for.
pub fn told_of(panic: &PanicHookInfo<'_>) -> String {
    let text = panic.payload().downcast_ref::<&'static str>().unwrap_or(&"text withheld");
    match panic.location() {
        Some(place) => format!("{place}: {text}"),
        None => (*text).to_owned(),
    }
}

/// Takes what libraries say through the `log` crate over into whatever `tracing` has.
pub fn forward_libraries() -> Result<(), LogError> {
    ::log::set_logger(&Libraries).map_err(|_| LogError::Twice)?;
    ::log::set_max_level(LevelFilter::Info);
    Ok(())
}

/// What writes lines to `writer`. `filter` is a level, or a list of `target=level`.
pub fn dispatch<W>(filter: &str, format: Format, writer: W) -> Result<Dispatch, LogError>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let mut targets: Targets = filter.parse().map_err(|_| LogError::Filter)?;
    // A misspelt level would be taken for a target that everything else is silent beside.
    if !targets.iter().all(|(target, _)| is_ours(target)) {
        return Err(LogError::Filter);
    }
    // A talkative or a quiet log is a matter of taste; the audit is not, unless it is named.
    if !targets.iter().any(|(target, _)| target == AUDIT) {
        targets = targets.with_target(AUDIT, Level::INFO);
    }
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let lines = match format {
        Format::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed()
        }
        Format::Text => lines.boxed(),
    };
    let ours = filter_fn(|metadata| is_ours(metadata.target()));
    Ok(Dispatch::new(tracing_subscriber::registry().with(lines.with_filter(targets.and(ours)))))
}

fn is_ours(target: &str) -> bool {
    is_within(target, "cambio") || [AUDIT, LIBRARY].contains(&target)
}

/// Whether a module is this one or one below it.
fn is_within(module: &str, of: &str) -> bool {
    module.strip_prefix(of).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Takes `log` records.
#[derive(Debug)]
struct Libraries;

impl Log for Libraries {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= ::log::Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let module = record.module_path().unwrap_or_default();
        if !SEE_NO_REQUEST.iter().any(|known| is_within(module, known)) {
            let line = record.line();
            tracing::debug!(target: LIBRARY, module, line, "text withheld: a request may be in it");
            return;
        }
        let text = record.args();
        match record.level() {
            ::log::Level::Error => tracing::error!(target: LIBRARY, module, "{text}"),
            ::log::Level::Warn => tracing::warn!(target: LIBRARY, module, "{text}"),
            ::log::Level::Info | ::log::Level::Debug | ::log::Level::Trace => {
                tracing::info!(target: LIBRARY, module, "{text}");
            }
        }
    }

    fn flush(&self) {}
}
