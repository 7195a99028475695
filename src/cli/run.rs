//! `tollgate run`: the sidecar.

use std::{io::Write as _, path::Path, sync::Arc};

use anstyle::Style;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Failure, Settings,
    log::{self, LogHandle},
};
use crate::{
    app::{App, Dismissed, StartError},
    base::clock::SystemClock,
    config::{Document, Loaded, Sources, Watch},
    net::systemd::{self, Handed},
};

/// The arguments of `tollgate run`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        // First of all, while there is but one thread.
        let handed = Handed::take().map_err(Failure::wrong)?;
        let loaded = self.settings.load()?;
        let log = log::start(loaded.config.log);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::failed)?;
        let ended = runtime.block_on(run(loaded, self.settings.path().as_deref(), &log, handed));
        // After a second signal workers may still be busy: nobody waits for them.
        runtime.shutdown_background();
        ended
    }
}

async fn run(
    loaded: Loaded,
    path: Option<&Path>,
    log: &LogHandle,
    handed: Handed,
) -> Result<(), Failure> {
    let Loaded {
        config,
        document,
        warnings,
    } = loaded;
    for warning in warnings {
        let file = document.as_ref().map_or("", Document::name);
        tracing::warn!("{}", warning.line(file));
    }
    let mut signals = Signals::new()?;
    let watch = match (path, &document) {
        (Some(path), Some(document)) => {
            Some(Watch::new(path, document.text(), document.files()).map_err(Failure::failed)?)
        },
        _ => None,
    };
    let mut app = App::start_on(config, Arc::new(SystemClock), Vec::new(), handed)?;
    if let Some(document) = &document {
        app.configured_by(document.name());
    }
    greet(&app, document.as_ref())?;
    tell("READY=1");
    let dismissed = serve(&mut app, watch, &mut signals, log).await;
    tell("STOPPING=1");
    let why = match dismissed {
        None => "told by a signal",
        Some(Dismissed::Asked) => "asked to, with /quit",
        Some(Dismissed::Idle) => "no client was connected for `shutdown.idle`",
    };
    tracing::info!(why, "Leaving: no new calls; those under way may finish");
    let leaving = async {
        match dismissed {
            None => app.stop().await,
            Some(_) => app.stop_at_once().await,
        }
    };
    tokio::select! {
        () = leaving => {},
        () = signals.next() => tracing::warn!("A second signal: leaving at once"),
    }
    Ok(())
}

/// Tells systemd, if it started us.
fn tell(state: &str) {
    if let Err(error) = systemd::tell(state) {
        tracing::warn!(%error, state, "systemd could not be told");
    }
}

/// Runs until a signal comes, or nobody needs it any more; applies edits of the configuration
/// meanwhile.
async fn serve(
    app: &mut App,
    mut watch: Option<Watch>,
    signals: &mut Signals,
    log: &LogHandle,
) -> Option<Dismissed> {
    loop {
        let edited = async {
            match &mut watch {
                Some(watch) => watch.next(&Sources::SYSTEM).await,
                None => std::future::pending().await,
            }
        };
        let loaded = tokio::select! {
            () = signals.next() => return None,
            () = app.keep_house() => return None,
            dismissed = app.dismissed() => return Some(dismissed),
            loaded = edited => loaded,
        };
        match loaded {
            Ok(Loaded { config, .. }) => {
                log.set_level(config.log.level);
                if let Err(error) = app.reload(config).await {
                    tracing::error!(%error, "The edited configuration cannot be used; the old one stays");
                }
            },
            Err(error) => {
                tracing::error!(%error, "The edited configuration is wrong; the old one stays");
                app.refuse(&error);
            },
        }
    }
}

/// What a person who has just started it needs to know, in a few lines.
fn greet(app: &App, document: Option<&Document>) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let bold = Style::new().bold();
    let proxy = app.proxy_address();
    let config = document.map_or("built-in defaults (no tollgate.yaml)", Document::name);
    let lines = [
        ("listening", app.listening()),
        (
            "export",
            format!(
                "OPENAI_BASE_URL=http://{proxy}/v1 ANTHROPIC_BASE_URL=http://{proxy} GOOGLE_GEMINI_BASE_URL=http://{proxy}"
            ),
        ),
        ("config", config.to_owned()),
        ("store", app.keeping()),
        ("limits", app.limits()),
    ];
    let interception = app.interception().map(|means| ("intercept", means));
    for (what, is) in lines.into_iter().chain(interception) {
        writeln!(out, "{bold}{what:<10}{bold:#} {is}")?;
    }
    Ok(out.flush()?)
}

/// SIGTERM and SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(Failure::failed);
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {},
            _ = self.interrupt.recv() => {},
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::wrong(error)
    }
}
