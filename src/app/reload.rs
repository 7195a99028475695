//! An edited configuration: what can change while calls are under way, changes; the rest says that
//! it needs a restart.

use std::{sync::Arc, time::Duration};

use super::{App, StartError, build};
use crate::{config::Config, pipeline::BuildContext};

/// How long the processors of the old configuration may take to deliver what they have.
const GRACE: Duration = Duration::from_secs(5);

impl App {
    /// Puts `config` in force for calls that begin from now on. On an error the old one stays
    /// whole.
    ///
    /// # Errors
    /// Something cannot be built as it is written.
    pub async fn reload(&mut self, config: Config) -> Result<(), StartError> {
        if build::has_budgets(&config) && self.kept.ledger.is_none() {
            tracing::warn!("Budgets will be forgotten with this process: it runs without a ledger");
        }
        let before = self.proxy.live();
        let live = build::live(&config, &self.purse, Some(&before))?;
        for rule in live.engine().afresh(before.engine()) {
            tracing::warn!(
                rule,
                "The rule counts afresh: its `per`, window or zone was edited"
            );
        }
        if config.tracing != self.config.tracing {
            let context = BuildContext {
                clock: Arc::clone(&self.clock),
            };
            let outlets = config.tracing.build(&context)?;
            self.pipeline.replace(outlets, GRACE).await?;
        }
        self.proxy.reload(live);
        for key in restart_only(&self.config, &config) {
            tracing::warn!(key, "This change takes effect with the next start");
        }
        self.config = config;
        tracing::info!("The configuration was reloaded");
        Ok(())
    }
}

/// The keys that differ and are read at the start only.
fn restart_only(old: &Config, new: &Config) -> Vec<&'static str> {
    let checks = [
        ("listen", old.listen != new.listen),
        ("upstream", old.upstream != new.upstream),
        ("shutdown", old.shutdown != new.shutdown),
        ("ledger", old.ledger != new.ledger),
        ("store", old.store != new.store),
        (
            "limits.connections",
            old.limits.connections != new.limits.connections,
        ),
        (
            "limits.counters",
            old.limits.counters != new.limits.counters,
        ),
        ("limits.headers", old.limits.headers != new.limits.headers),
        (
            "limits.header_bytes",
            old.limits.header_bytes != new.limits.header_bytes,
        ),
    ];
    checks
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
}
