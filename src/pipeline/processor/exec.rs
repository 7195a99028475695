//! Spans handed to a command of the user's own, in any language: batches as lines of JSON on its
//! input, and a line on its output that says what became of each.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;
use tokio::time::sleep_until;

use self::{child::Child, protocol::question};
use super::{
    super::{BuildContext, Outlet, Record},
    BoxFuture, BuildError, DeliverError, Processor, Upkeep,
};
use crate::base::{
    clock::{Clock, Instant},
    secret::Secret,
};

mod child;
mod output;
mod protocol;

/// `{type: exec, …}`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The program and its arguments; no shell reads them.
    pub command: Vec<Box<str>>,
    /// Its whole environment.
    pub env: BTreeMap<Box<str>, Secret>,
    /// Where it runs; none: where we do.
    pub directory: Option<PathBuf>,
}

/// How long a command may take to end when its input is closed.
const GRACE: Duration = Duration::from_secs(2);

/// The wait from one start of a command to the next, which is doubled while it answers nothing …
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Makes the processor. The command is started with the first batch.
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let wrong = BuildError::of("exec");
    let named = config.command.first().filter(|name| !name.is_empty());
    let named =
        named.ok_or_else(|| wrong("command: which program, with which arguments?".to_owned()))?;
    let words = config.command.iter().map(|it| &**it);
    let variables = config
        .env
        .iter()
        .flat_map(|(name, value)| [&**name, value.expose()]);
    if words.chain(variables).any(|text| text.contains('\0')) {
        return Err(wrong(
            "command, env: a NUL cannot be handed to a program".to_owned(),
        ));
    }
    if config
        .env
        .keys()
        .any(|name| name.is_empty() || name.contains('='))
    {
        return Err(wrong(
            "env: a variable's name is not empty, and has no `=` in it".to_owned(),
        ));
    }
    if let Some(known) = &context.commands
        && !known.contains(config)
    {
        return Err(wrong(format!(
            "command {named}: it was not there at the start, and a reload starts no other unless \
             tracing.allow_exec_reload was true then; restart Tollgate"
        )));
    }
    let path = (context.variable)("PATH").unwrap_or_default();
    let program = found(named, &path)
        .ok_or_else(|| wrong(format!("command {named}: it is not on the PATH")))?;
    let exec = Exec {
        config: config.clone(),
        program,
        clock: Arc::clone(&context.clock),
        child: None,
        number: 0,
        wait: FIRST_WAIT,
        next_start: None,
        starts: 0,
        told: Upkeep::default(),
    };
    Ok(context.local("exec", exec))
}

/// The program of that name, as a shell would find it: the command itself has no PATH.
fn found(name: &str, path: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name));
    }
    let mut places = std::env::split_paths(path).map(|place| place.join(name));
    places.find(|it| it.is_file())
}

struct Exec {
    config: Config,
    program: PathBuf,
    clock: Arc<dyn Clock>,
    child: Option<Child>,
    /// Of the last batch. One that comes again has another.
    number: u64,
    /// From the last start to the next.
    wait: Duration,
    next_start: Option<Instant>,
    starts: u64,
    /// What the next upkeep tells.
    told: Upkeep,
}

impl Exec {
    async fn hand_over(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        self.number += 1;
        let question = question(self.number, batch);
        // Dropped with this future, when time is up, it is killed: what it would still say is about
        // a batch that comes again.
        let kept = self.child.take();
        let mut child = match kept.and_then(Child::still_running) {
            Some(child) => child,
            None => self.start().await?,
        };
        let result = child.ask(&question, self.number).await;
        self.told.cut_output += child.take_cut();
        match result {
            Ok(verdict) => {
                self.wait = FIRST_WAIT;
                self.child = Some(child);
                verdict
            },
            Err(error) => Err(DeliverError::retry(format!("{}: {error}", self.shown()))),
        }
    }

    async fn start(&mut self) -> Result<Child, DeliverError> {
        if let Some(at) = self.next_start {
            sleep_until(at).await;
        }
        self.next_start = Some(self.clock.mono() + self.wait);
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.told.restarted += u64::from(self.starts > 0);
        self.starts += 1;
        Child::start(&self.config, &self.program)
            .map_err(|error| DeliverError::retry(format!("{}: {error}", self.shown())))
    }

    /// The program; its arguments may be secret.
    fn shown(&self) -> std::path::Display<'_> {
        Path::new(&self.program).display()
    }
}

impl Processor for Exec {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(self.hand_over(batch))
    }

    fn upkeep(&mut self) -> Upkeep {
        if let Some(child) = &mut self.child {
            child.listen();
            self.told.cut_output += child.take_cut();
        }
        std::mem::take(&mut self.told)
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            child.end(GRACE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;

    fn config(yaml: &str) -> Config {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn what_cannot_be_a_command_is_refused() {
        let mut context = BuildContext::new(Arc::new(SystemClock));
        context.variable = &|name| (name == "PATH").then(|| "/usr/bin:/bin".to_owned());
        for (yaml, word) in [
            ("{}", "which program"),
            ("{command: ['']}", "which program"),
            ("{command: [no-such-program]}", "not on the PATH"),
            ("{command: [sh, \"a\\0b\"]}", "NUL"),
            ("{command: [sh], env: {'A=B': c}}", "has no `=`"),
        ] {
            let error = build(&config(yaml), &context).unwrap_err().to_string();
            assert!(error.contains(word), "{yaml}: {error}");
        }
        assert!(build(&config("{command: [sh]}"), &context).is_ok());
    }

    #[test]
    fn only_known_commands_are_taken_where_they_are_listed() {
        let known = config("{command: [/bin/sh, a], env: {KEY: hush}}");
        let context = BuildContext {
            commands: Some(Arc::from([known.clone()])),
            ..BuildContext::new(Arc::new(SystemClock))
        };
        assert!(build(&known, &context).is_ok());
        for yaml in [
            "{command: [/bin/sh, b], env: {KEY: hush}}",
            "{command: [/bin/sh, a], env: {KEY: other}}",
            "{command: [/bin/sh, a], env: {KEY: hush}, directory: /}",
        ] {
            let error = build(&config(yaml), &context).unwrap_err().to_string();
            assert!(
                error.contains("allow_exec_reload") && !error.contains("hush"),
                "{error}"
            );
        }
    }
}
