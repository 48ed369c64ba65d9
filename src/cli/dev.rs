//! `cambio dev`: the whole of it on loopback, between stand-ins.

use std::io::{self, stdout};
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{Exit, check, fail, print};
use crate::app::{App, Running};
use crate::config;
use crate::dev::loopback::Reservation;
use crate::dev::rehearsal;
use crate::dev::stage::Stage;
use crate::telemetry::log;
use crate::telemetry::metrics::Metrics;

/// Stays up, or performs one exchange.
pub fn run(once: bool) -> Exit {
    // What a rehearsal has to say is on standard output; its log would only be in the way.
    if !once && let Err(error) = log::init() {
        return fail(&error.to_string());
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no threads are to be had: {}", error.kind())),
    };
    runtime.block_on(async {
        // Whoever is interrupted is dropped, and what was written goes with it.
        tokio::select! {
            exit = play(once) => exit,
            result = interrupted() => match result {
                Ok(()) if once => fail("interrupted"),
                Ok(()) => Exit::Fine,
                Err(error) => fail(&format!("signals can't be listened to: {}", error.kind())),
            },
        }
    })
}

/// SIGINT or SIGTERM.
async fn interrupted() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn play(once: bool) -> Exit {
    // The issuer is Cambio's own address, which must be known before Cambio is there.
    let reserved = Reservation::make().and_then(|cambio| Ok((cambio, Reservation::make()?)));
    let (cambio, admin) = match reserved {
        Ok(reserved) => reserved,
        Err(error) => return fail(&format!("no loopback port could be had: {error}")),
    };
    let stage = match Stage::set(cambio.address(), admin.address()).await {
        Ok(stage) => stage,
        Err(error) => return fail(&error.to_string()),
    };
    let config = match config::load(stage.configuration()) {
        Ok((config, _)) => config,
        Err(faults) => {
            check::tell(&faults);
            return Exit::Failed;
        }
    };
    let running = match App::start(config, Arc::new(Metrics::new())).await {
        Ok(running) => running,
        Err(error) => return fail(&error.to_string()),
    };
    drop((cambio, admin));
    if once { rehearse(&stage).await } else { stay(&stage, &running).await }
}

async fn rehearse(stage: &Stage) -> Exit {
    match rehearsal::rehearse(stage, &mut stdout()).await {
        Ok(()) => Exit::Fine,
        Err(error) => fail(&error.to_string()),
    }
}

async fn stay(stage: &Stage, running: &Running) -> Exit {
    let token = match stage.subject_token() {
        Ok(token) => token,
        Err(error) => return fail(&error.to_string()),
    };
    let refresh_token = match rehearsal::refresh_token(stage).await {
        Ok(token) => token,
        Err(error) => return fail(&error.to_string()),
    };
    let printed = print(&format!(
        "\
Everything is on this machine alone, with throw-away keys:

  Cambio             {}
  for operators      http://{admin}/metrics  /livez  /readyz  /status
  identity provider  {}, which knows nothing of token exchange
  third party        {}
  configuration      {}

This exchanges a token of the third party, for an hour from now:

{}

This refreshes what an exchange gave a moment ago, once: the answer has the next refresh token.

{}

Ctrl-C ends it.
",
        stage.origin(),
        stage.idp.origin(),
        stage.issuer.issuer(),
        stage.configuration().display(),
        rehearsal::curl(stage, &token),
        rehearsal::refresh_curl(stage, &refresh_token),
        admin = running.admin_address(),
    ));
    if printed != Exit::Fine {
        return printed;
    }
    std::future::pending().await
}
