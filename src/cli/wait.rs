//! `tollgate wait`: until the sidecar is ready, for hooks of containers that have no shell.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use http::Method;

use super::{Failure, Settings, owner};
use crate::{
    base::units::{parse_duration, show_duration},
    config::Config,
};

/// How often it is asked.
const AGAIN: Duration = Duration::from_millis(100);

/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// The arguments of `tollgate wait`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_duration)]
    timeout: Duration,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let address = owner::reachable(config.listen.health.unwrap_or(config.listen.admin));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let waited = runtime.block_on(async {
            let mut last = "it has not answered yet".to_owned();
            let ready = async {
                while let Err(why) = ready(&config, address).await {
                    last = why;
                    tokio::time::sleep(AGAIN).await;
                }
            };
            let waited = tokio::time::timeout(self.timeout, ready).await;
            waited.map_err(|_elapsed| last)
        });
        waited.map_err(|why| {
            let timeout = show_duration(self.timeout);
            Failure::failed(format!(
                "the sidecar at http://{address} is not ready after {timeout}: {why}"
            ))
        })
    }
}

/// Whether it is ready; if not, why.
async fn ready(config: &Config, address: SocketAddr) -> Result<(), String> {
    let asked = owner::ask(config, address, (Method::GET, "/readyz"), Vec::new());
    let answered = tokio::time::timeout(ANSWER, asked).await;
    let (status, answer) = answered
        .map_err(|_elapsed| "it does not answer".to_owned())?
        .map_err(|error| error.to_string())?;
    if status.is_success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&answer);
    Err(why.trim().replace('\n', "; "))
}
