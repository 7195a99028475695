//! `tollgate exec`: a sidecar around one command, and what the command cost.

mod child;
mod intercept;
mod summary;
mod unread;

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use clap::Args;

use super::{Failure, Settings, log, scratch};
use crate::{
    app::{App, StartError},
    base::{
        clock::{Clock as _, SystemClock},
        directory::try_write,
        money::{InvalidAmount, Usd},
    },
    client::{self, Environment, Pointer, Variable},
    config::{
        Config, Sources,
        log::{Level, Log},
    },
    ledger::ClaimError,
    net::config::Listen,
    pipeline::ProcessorConfig,
    policy::{Count, LimitConfig, Match, Name, OnExhausted, RuleConfig, Window},
    store::Reader,
};
use child::Child;
use intercept::Interception;
use summary::{RULE, Summary, Way};

/// How long calls may go on that the command left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(2);

/// The arguments of `tollgate exec`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    /// What the command may spend in all: calls beyond it are shortened, then refused
    #[arg(long, value_name = "USD", value_parser = amount)]
    budget: Option<Usd>,
    /// Meter programs that take no base URL: be the proxy of their HTTPS, and open what goes to
    /// providers with a certificate authority that lives no longer than the command
    #[arg(long)]
    intercept: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CMD",
        help_heading = None
    )]
    command: Vec<OsString>,
}

/// US dollars, with or without their sign.
fn amount(text: &str) -> Result<Usd, String> {
    let amount = text.strip_prefix('$').unwrap_or(text).parse();
    match amount.map_err(|error: InvalidAmount| error.to_string())? {
        less if less < Usd::ZERO => Err("less than nothing".to_owned()),
        amount => Ok(amount),
    }
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let loaded = self.settings.load()?;
        let environment = Sources::SYSTEM.variable;
        let mut config = prepared(loaded.config, self.budget)?;
        log::start(config.log);
        let told = Told::prepare(&mut config, self.intercept, environment)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let code = runtime.block_on(async {
            let Sidecar { app, config, note } = start(config, self.budget)?;
            let after = Reader::open(&config.store.file())
                .and_then(|reader| reader.last_id())
                .map_err(Failure::failed)?;
            let registry = app.registry().clone();
            let variables = told.variables(app.proxy_address(), environment);
            let began = SystemClock.wall();
            let ended = match variables {
                Ok(variables) => run(&self.command, variables, &app).await,
                Err(failure) => Err(failure),
            };
            app.stop().await;
            let code = ended?;
            let times = (began, SystemClock.wall());
            match Summary::read(&config, &registry, after, self.budget, times) {
                Ok(summary) => {
                    let way = told.way();
                    summary.write(way, note.as_deref(), &mut anstream::stderr().lock())?;
                },
                // The command may have deleted the directory; its exit code is its own all the same.
                Err(Failure::Failed(why)) => {
                    tracing::warn!("Cannot say what the command cost: {why}");
                },
                Err(failure) => return Err(failure),
            }
            Ok::<u8, Failure>(code)
        })?;
        match code {
            0 => Ok(()),
            code => Err(Failure::Said(code)),
        }
    }
}

/// By which of two ways the command's calls come here.
enum Told {
    /// Base URLs.
    Pointed(Vec<Pointer>),
    /// A proxy that opens what goes to providers.
    Opened(Interception),
}

impl Told {
    fn prepare(
        config: &mut Config,
        intercept: bool,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        if intercept {
            return Interception::prepare(config, environment).map(Self::Opened);
        }
        let pointers = client::point(&mut config.providers, environment);
        pointers.map(Self::Pointed).map_err(Failure::Wrong)
    }

    /// The variables for the command, once the sidecar is at `address`.
    fn variables(
        &self,
        address: SocketAddr,
        environment: Environment<'_>,
    ) -> Result<Vec<Variable>, Failure> {
        match self {
            Self::Pointed(pointers) => {
                let mut all: Vec<_> = pointers.iter().map(|to| to.at(address)).collect();
                all.extend(client::not_for(address, environment));
                Ok(all)
            },
            Self::Opened(interception) => {
                interception.begun()?;
                interception.variables(address, environment)
            },
        }
    }

    fn way(&self) -> Way<'_> {
        match self {
            Self::Pointed(_) => Way::Pointed,
            Self::Opened(interception) => Way::Opened(interception.past()),
        }
    }
}

/// Runs the command to its end, the sidecar beside it.
async fn run(
    command: &[OsString],
    variables: Vec<(&'static str, String)>,
    app: &App,
) -> Result<u8, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::wrong("there is no command to run"));
    };
    let mut child = Child::start(program, arguments, variables)?;
    tokio::select! {
        code = child.ended() => Ok(code?),
        () = app.keep_house() => Err(Failure::failed("the sidecar ended before its command")),
    }
}

/// The configuration of a sidecar that is its command's alone: on free ports, with nothing of its
/// own on the command's standard output, and quiet on its standard error unless something is wrong.
fn prepared(mut config: Config, budget: Option<Usd>) -> Result<Config, Failure> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    config.listen = Listen {
        proxy: free,
        admin: free,
        ..Listen::default()
    };
    config.shutdown.delay = Duration::ZERO;
    config.shutdown.deadline = config.shutdown.deadline.min(LEFT_BEHIND);
    if config.log.level == Level::Info {
        config.log = Log {
            level: Level::Warn,
            ..config.log
        };
    }
    let processors = &mut config.tracing.processors;
    processors.retain(|processor| !matches!(processor.config, ProcessorConfig::Console(_)));
    if let Some(limit) = budget {
        config.budgets.rules.push(rule(limit)?);
    }
    Ok(config)
}

/// The rule that `--budget` makes.
fn rule(limit: Usd) -> Result<RuleConfig, Failure> {
    Ok(RuleConfig {
        name: Name::new(RULE).ok_or_else(|| Failure::failed("no rule has that name"))?,
        matches: Match::default(),
        per: Vec::new(),
        window: Window::Total,
        limit: LimitConfig {
            usd: Some(limit),
            ..LimitConfig::default()
        },
        count: Count::default(),
        on_exhausted: OnExhausted::Clamp,
        missing: None,
    })
}

/// A running sidecar.
struct Sidecar {
    app: App,
    config: Config,
    /// Where its store is, if that is not where it was configured.
    note: Option<String>,
}

/// Starts it: in the configured data directory, or, while that is another Tollgate's or cannot be
/// written to, in one of its own.
fn start(mut config: Config, budget: Option<Usd>) -> Result<Sidecar, Failure> {
    let clock = Arc::new(SystemClock);
    let mut note = None;
    if let Some(why) = unkept(&config) {
        let dir = config.store.path.display().to_string();
        let own = apart(&mut config)?;
        note = Some(format!(
            "{}, for {dir} cannot be written to: {why}",
            own.display()
        ));
    }
    let app = match App::start(config.clone(), Arc::<SystemClock>::clone(&clock)) {
        Err(StartError::Claim(ClaimError::Owned { dir, pid, .. })) => {
            let own = apart(&mut config)?;
            note = Some(format!(
                "{}, for {} belongs to the running tollgate with pid {pid}: \
                 what budgets have spent there does not count here",
                own.display(),
                dir.display()
            ));
            App::start(config.clone(), clock)?
        },
        started => started?,
    };
    if budget.is_some() {
        // The budget is this run's, and what runs before it have spent stays in the ledger.
        let reset = app.reset_budget(RULE, "tollgate exec");
        reset.map_err(Failure::failed)?;
    }
    Ok(Sidecar { app, config, note })
}

/// Has a sidecar keep store and ledger in a directory of its own, which is returned.
fn apart(config: &mut Config) -> io::Result<PathBuf> {
    let own = scratch::directory("exec")?;
    config.ledger.path = own.join("journal");
    config.store.path.clone_from(&own);
    Ok(own)
}

/// Why nothing can be kept where the configuration says. Not asked where it has limits: what they have
/// spent is there.
fn unkept(config: &Config) -> Option<io::Error> {
    let limits = config.limits_in_force();
    let whole = [limits.daily, limits.monthly, limits.per_user];
    let rules = limits.rules.iter();
    if whole.iter().any(Option::is_some) || rules.clone().any(|rule| rule.name.as_str() != RULE) {
        return None;
    }
    try_write(&config.store.path).err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_an_amount_and_not_less_than_nothing() {
        assert_eq!(amount("0.02").unwrap(), Usd::from_nanos(20_000_000));
        assert_eq!(amount("$1").unwrap(), Usd::from_nanos(1_000_000_000));
        for wrong in ["-1", "", "much"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_sidecar_keeps_off_the_commands_output() {
        let config = prepared(Config::default(), Some(Usd::ZERO)).unwrap();
        assert!(config.tracing.processors.is_empty());
        assert_eq!(config.listen.proxy.port(), 0);
        assert_eq!(config.log.level, Level::Warn);
        assert_eq!(config.budgets.rules.len(), 1);
    }
}
