//! `cambio serve`: runs the proxy in the foreground.
//!
//! SIGTERM and SIGINT stop it gracefully, and at once when they come again. SIGHUP reloads the
//! configuration, as does a change of its files. SIGQUIT hands the listening sockets to a process
//! that was started with `--upgrade` (see [`crate::app::handover`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, check, fail};
use crate::app::handover::MeetingPoint;
use crate::app::watch::Contents;
use crate::app::{App, Fds, Running};
use crate::config::{self, Config, Fault, Severity};
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Loads the configuration and serves it.
pub fn run(path: &Path, upgrade: bool) -> Exit {
    if let Err(error) = log::init() {
        return fail(&error.to_string());
    }
    // What changes while it is being read is read again.
    let contents = Contents::of(&[path.to_owned()]);
    let config = match config::load(path) {
        Ok((config, warnings)) => {
            note(&warnings);
            config
        }
        Err(faults) => {
            check::tell(&faults);
            return Exit::BadConfiguration;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(path, config, contents, upgrade)),
        Err(error) => fail(&format!("no threads are to be had: {}", error.kind())),
    }
}

async fn serve(path: &Path, config: Config, contents: Contents, upgrade: bool) -> Exit {
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals can't be listened to: {}", error.kind())),
    };
    let inherited = if upgrade {
        tracing::info!("waiting for the listening sockets of the process that runs");
        let received = match MeetingPoint::of(path) {
            Ok(meeting) => meeting.receive().await,
            Err(error) => Err(error),
        };
        match received {
            Ok(received) => received,
            Err(error) => return fail(&format!("the upgrade failed: {error}")),
        }
    } else {
        Fds::new()
    };
    let metrics = Arc::new(Metrics::new());
    match App::start_with(config, metrics, inherited).await {
        Ok(running) => attend(path, running, contents, signals).await,
        Err(error) => fail(&error.to_string()),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    quit: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Does what signals and files ask for, until it is to stop.
async fn attend(
    path: &Path,
    running: Running,
    mut contents: Contents,
    mut signals: Signals,
) -> Exit {
    let is_handed_over = loop {
        let files = watched(path, &running);
        contents = contents.extended(&files).await;
        tokio::select! {
            _ = signals.terminate.recv() => break false,
            _ = signals.interrupt.recv() => break false,
            _ = signals.quit.recv() => {
                if hand_over(path, &running).await {
                    break true;
                }
            }
            _ = signals.hang_up.recv() => {
                tracing::info!("SIGHUP: reloading");
                contents = Contents::read(&files).await;
                reload(path, &running).await;
            }
            () = contents.changed(&files) => {
                tracing::info!("the configuration has changed: reloading");
                reload(path, &running).await;
            }
        }
    };
    let stop =
        async move { if is_handed_over { running.give_way().await } else { running.stop().await } };
    tokio::select! {
        _ = stop => Exit::Fine,
        () = signals.stop() => {
            tracing::warn!("told again to stop: what is in flight is cut off");
            Exit::Fine
        }
    }
}

fn watched(path: &Path, running: &Running) -> Vec<PathBuf> {
    let mut files = running.files();
    if !files.iter().any(|file| file == path) {
        files.push(path.to_owned());
    }
    files
}

/// A bad configuration changes nothing but a metric and the log.
async fn reload(path: &Path, running: &Running) {
    let path = path.to_owned();
    let loaded = tokio::task::spawn_blocking(move || config::load(&path)).await;
    match loaded {
        Ok(Ok((config, warnings))) => {
            note(&warnings);
            match running.reload(config).await {
                Ok(()) => tracing::info!("the new configuration serves"),
                Err(error) => tracing::error!(%error, "the old configuration keeps serving"),
            }
        }
        Ok(Err(findings)) => {
            note(&findings);
            tracing::error!("the old configuration keeps serving");
            running.refuse_reload();
        }
        Err(_) => running.refuse_reload(),
    }
}

/// Writes findings to the log.
fn note(findings: &[Fault]) {
    for finding in findings {
        match finding.severity {
            Severity::Fault => tracing::error!(fault = %finding, "configuration"),
            Severity::Warning => tracing::warn!(warning = %finding, "configuration"),
        }
    }
}

async fn hand_over(path: &Path, running: &Running) -> bool {
    let sent = match MeetingPoint::of(path) {
        Ok(meeting) => meeting.send(running).await,
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => {
            tracing::info!("the listening sockets have changed hands");
            true
        }
        Err(error) => {
            tracing::error!(%error, "the upgrade failed; this process keeps serving");
            false
        }
    }
}
