//! Arguments that say which calls are meant.

use clap::{Args, builder::PossibleValuesParser};

use super::Failure;
use crate::{
    base::{clock::Timestamp, moment},
    call::labels::Label,
    store::Filter,
};

/// Which calls are meant; everything that is given must hold.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selection {
    /// Begun at that time or later: 1h (ago), 2026-11-22, 2026-11-22T06:25:14Z
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Begun before that time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of that agent
    #[arg(long)]
    agent: Option<String>,
    /// For that user
    #[arg(long)]
    user: Option<String>,
    /// Of that project
    #[arg(long)]
    project: Option<String>,
    /// In that environment
    #[arg(long)]
    environment: Option<String>,
    /// Of that conversation or session
    #[arg(long)]
    session: Option<String>,
    /// Of that workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Of that model, or that dated version of it
    #[arg(long)]
    model: Option<String>,
    /// Of that provider
    #[arg(long)]
    provider: Option<String>,
    /// That ended so
    #[arg(long, value_parser = PossibleValuesParser::new(["ok", "error", "blocked", "cancelled"]))]
    status: Option<String>,
}

impl Selection {
    /// The filter that it is.
    ///
    /// # Errors
    /// A time is not one.
    pub(super) fn filter(self, now: Timestamp) -> Result<Filter, Failure> {
        let time = |name: &str, text: Option<String>| {
            let time = text.map(|text| moment::ago(&text, now)).transpose();
            time.map_err(|error| Failure::wrong(format!("{name}: {error}")))
        };
        let labels = [
            (Label::Agent, self.agent),
            (Label::User, self.user),
            (Label::Project, self.project),
            (Label::Environment, self.environment),
            (Label::Session, self.session),
            (Label::Workflow, self.workflow),
        ];
        let labels = labels.into_iter();
        Ok(Filter {
            since: time("--since", self.since)?,
            until: time("--until", self.until)?,
            labels: labels
                .filter_map(|(label, value)| Some((label, value?)))
                .collect(),
            model: self.model,
            provider: self.provider,
            status: self.status,
            after: None,
        })
    }
}
