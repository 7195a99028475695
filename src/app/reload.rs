//! An edited configuration: what can change while calls are under way, changes; the rest says that
//! it needs a restart.

use std::{fmt::Display, time::Duration};

use super::{App, StartError, build, keyrings, prices};
use crate::config::Config;

/// How long the processors of the old configuration may take to deliver what they have.
const GRACE: Duration = Duration::from_secs(5);

impl App {
    /// Puts `config` in force for calls that begin from now on. On an error the old one stays
    /// whole.
    ///
    /// # Errors
    /// Something cannot be built as it is written.
    pub async fn reload(&mut self, config: Config) -> Result<(), StartError> {
        let done = self.put_in_force(config).await;
        match &done {
            Ok(()) => self.control.reloaded(&self.config),
            Err(error) => self.refuse(error),
        }
        done
    }

    /// Notes for the status page and the metrics that the file was edited and cannot be put in
    /// force: `error` says why, and where in it.
    pub fn refuse(&self, error: &dyn Display) {
        self.control.refused(error.to_string());
    }

    /// Notes for the status page which file the configuration is from.
    pub fn configured_by(&self, file: &str) {
        self.control.configured_by(file);
    }

    async fn put_in_force(&mut self, config: Config) -> Result<(), StartError> {
        if build::has_budgets(&config) && self.kept.ledger.is_none() {
            tracing::warn!("Budgets will be forgotten with this process: it runs without a ledger");
        }
        let before = self.proxy.live();
        // Before the file is read, so that no edit of it is missed.
        let seen = prices::seen(&config);
        let fetched = self.control.prices().fetched(&config);
        let live = build::live(&config, &self.purse, Some(&before), fetched)?;
        for rule in live.engine().afresh(before.engine()) {
            tracing::warn!(
                rule,
                "The rule counts afresh: its `per`, window or zone was edited"
            );
        }
        let successors = if config.tracing == self.config.tracing {
            None
        } else {
            // Connections go out as at the start: `upstream` needs a restart.
            let outlets = config.tracing.build(&self.surroundings)?;
            Some(self.pipeline.prepare(outlets)?)
        };
        // A call that is signed again must find its credentials.
        keyrings::renew(&live, self.clock.wall(), &self.upstream).await;
        self.proxy.reload(live);
        self.control.prices().read(seen, &config);
        for key in self.config.needs_restart(&config) {
            tracing::warn!(key, "This change takes effect with the next start");
        }
        *self.config = config;
        self.pipeline.share(&self.config.tracing);
        self.pipeline.runs_in(&self.config.identity.workload());
        // Last: a destination that is down must not hold up new limits.
        if let Some(successors) = successors {
            self.pipeline.replace(successors, GRACE).await;
        }
        tracing::info!("The configuration was reloaded");
        Ok(())
    }
}
