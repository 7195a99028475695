//! `tollgate mock`: the mock providers alone, until it is told to end.

use std::{fs, io::Write as _, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use crate::{
    base::units::parse_duration,
    mock::{Behaviour, Mock, Options, Script},
};

/// The arguments of `tollgate mock`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// Where to listen; port 0 is a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:4200")]
    listen: SocketAddr,
    /// Time before each answer
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    latency: Option<Duration>,
    /// Text events in each stream
    #[arg(long, value_name = "N")]
    events: Option<usize>,
    /// Bytes of text in each event
    #[arg(long, value_name = "BYTES")]
    event_size: Option<usize>,
    /// Time between two events
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    event_gap: Option<Duration>,
    /// More settings, as a request can give them in `x-mock`: `status=429;retry-after=7;times=2`
    #[arg(long = "with", value_name = "SETTINGS", default_value = "")]
    settings: String,
    /// Scripted answers: a JSON array of `{"when": {…}, "say": "…", "call": [{"name": "…"}]}`
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Answer 401 to requests without a key
    #[arg(long)]
    require_key: bool,
    /// Answer chat calls alone, with one prepared answer, and keep no record: for benches
    #[arg(long)]
    fast: bool,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.serve())
    }

    async fn serve(self) -> Result<(), Failure> {
        let listen = self.listen;
        let options = self.options()?;
        // Before it says that it is there, so that whoever reads that can end it.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mock = Mock::start(options).map_err(|error| {
            Failure::failed(format!(
                "Cannot listen on {listen}: {error}. Choose another address with --listen."
            ))
        })?;
        announce(&mock.url())?;
        tokio::select! {
            _ = terminate.recv() => {},
            _ = interrupt.recv() => {},
        }
        Ok(())
    }

    fn options(self) -> Result<Options, Failure> {
        let mut behaviour: Behaviour = self.settings.parse().map_err(Failure::wrong)?;
        let or = |time: Option<Duration>, set: Duration| time.unwrap_or(set);
        behaviour.delay = or(self.latency, behaviour.delay);
        behaviour.gap = or(self.event_gap, behaviour.gap);
        let answer = &mut behaviour.answer;
        answer.events = self.events.or(answer.events);
        answer.event_size = self.event_size.or(answer.event_size);
        Ok(Options {
            listen: self.listen,
            behaviour,
            script: self
                .script
                .map_or_else(|| Ok(Script::default()), |file| script(&file))?,
            require_key: self.require_key,
            fast: self.fast,
            ..Options::default()
        })
    }
}

fn script(file: &std::path::Path) -> Result<Script, Failure> {
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::wrong(format!("Cannot use the script {}: {error}", file.display()))
    };
    let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

/// Lines to paste into a shell; the SDKs want some key.
fn announce(url: &str) -> std::io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=mock")?;
    writeln!(
        out,
        "export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY=mock"
    )?;
    writeln!(
        out,
        "export GOOGLE_GEMINI_BASE_URL={url} GEMINI_API_KEY=mock"
    )?;
    writeln!(out, "# What was received: {url}/__mock/requests")?;
    out.flush()
}
