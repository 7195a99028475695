//! `tollgate redirect`: the rules by which the system leads connections to the transparent listener.

mod doubts;
mod listening;
mod rules;
mod standing;
mod system;
mod user;

use std::{
    io::{Write as _, stdout},
    num::NonZeroU32,
};

use anstyle::AnsiColor;
use clap::{Args, Subcommand};

use super::{Failure, Settings};
use rules::{Backend, Interface, Rules};
use standing::{Keeper, Removed};
use user::User;

/// The arguments of `tollgate redirect`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the script that `apply` runs
    Print(Wanted),
    /// Put the rules in force, in place of those that an earlier `apply` left
    Apply(Wanted),
    /// Take the rules away, if there are any, whichever program they were made by
    Remove(Which),
}

/// Above the options that say it.
const WHOSE: &str = "Whose connections, at least one of";

/// What to do where none of them is given.
const WHOSE_HELP: &str = "\
it is not said whose connections are to be redirected. Give at least one of
  --uid USER        what programs on this machine send, except what USER sends: where Tollgate alone runs as USER
  --mark NUMBER     what programs on this machine send, except what is marked NUMBER, as `upstream.mark: NUMBER` has
                    Tollgate mark its own: where Tollgate shares its user with other programs
  --from INTERFACE  what comes in by INTERFACE: where this machine is the router of containers or machines";

/// What to do where nobody says where they are led.
const TO_HELP: &str = "\
it is not said where the transparent listener is. Give --to PORT, or a configuration (--config FILE) that has it, on a
port of its own:
  listen: {transparent: \"127.0.0.1:4143\"}
  intercept: {enabled: true}";

/// By which program.
#[derive(Debug, Args)]
struct By {
    /// The program that keeps the rules [default: nft if it is installed, else iptables]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Leave IPv6 alone, on machines that have none: what goes by it is not redirected
    #[arg(long)]
    no_ipv6: bool,
}

/// Which rules are removed.
#[derive(Debug, Args)]
struct Which {
    /// The program whose rules are removed [default: each of them that is installed]
    #[arg(long, value_enum)]
    backend: Option<Backend>,
    /// Leave IPv6 alone, on machines that have none
    #[arg(long)]
    no_ipv6: bool,
}

#[derive(Debug, Args)]
struct Wanted {
    /// Redirect what programs on this machine send, but for what this user does: whom Tollgate
    /// runs as, and nothing else
    #[arg(long, value_name = "USER", help_heading = WHOSE)]
    uid: Option<User>,
    /// Redirect what programs on this machine send, but for what has this mark: `upstream.mark`
    #[arg(long, value_name = "NUMBER", help_heading = WHOSE, value_parser = mark)]
    mark: Option<NonZeroU32>,
    /// Redirect what comes in by this interface, from containers or machines that this one is the
    /// router of; may be given more than once
    #[arg(long, value_name = "INTERFACE", help_heading = WHOSE)]
    from: Vec<Interface>,
    /// The ports that are redirected
    #[arg(
        long,
        value_name = "PORT",
        value_delimiter = ',',
        default_value = "443",
        value_parser = clap::value_parser!(u16).range(1..)
    )]
    ports: Vec<u16>,
    /// Where the transparent listener is [default: the port of `listen.transparent`]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    to: Option<u16>,
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    settings: Settings,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Print(wanted) => {
                let backend = wanted.by.backend();
                let script = wanted.rules()?.script(backend);
                Ok(stdout().lock().write_all(script.as_bytes())?)
            },
            Action::Apply(wanted) => wanted.apply(),
            Action::Remove(which) => which.remove(),
        }
    }
}

impl Which {
    fn remove(&self) -> Result<(), Failure> {
        let is_meant = |keeper: &Keeper| !self.no_ipv6 || *keeper != Keeper::Ip6tables;
        let keepers: Vec<_> = self.backend.map_or_else(
            || Keeper::installed().filter(is_meant).collect(),
            |backend| Keeper::of(backend, !self.no_ipv6).to_vec(),
        );
        if keepers.is_empty() {
            return Err(Failure::failed(
                "it cannot be told whether there are rules: neither nft nor iptables is in PATH",
            ));
        }
        let mut removed = standing::remove(&keepers)?;
        let all_are_meant = self.backend.is_some() || removed.unasked.len() == keepers.len();
        let mut unasked = removed.unasked.iter();
        // Who may not ask one may not ask any, and cannot know that nothing is left.
        if let Some(at) = unasked.position(|(_, it)| all_are_meant || it.is_of_rights()) {
            return Err(removed.unasked.swap_remove(at).1.into());
        }
        tell_unasked(&removed)?;
        let mut out = stdout().lock();
        if removed.what.is_empty() {
            let asked: Vec<_> = keepers.iter().map(|keeper| keeper.program()).collect();
            writeln!(
                out,
                "nothing to remove: there are no rules of Tollgate's by {}",
                asked.join(", ")
            )?;
        }
        for what in removed.what {
            writeln!(out, "removed {what}")?;
        }
        Ok(())
    }
}

/// Says by which programs rules may stand all the same.
fn tell_unasked(removed: &Removed) -> Result<(), Failure> {
    for (keeper, trouble) in &removed.unasked {
        let (program, said) = (keeper.program(), trouble.said());
        warn(&format!(
            "{program} could not be asked whether it has rules of Tollgate's: {said}"
        ))?;
    }
    Ok(())
}

fn warn(about: &str) -> Result<(), Failure> {
    let yellow = AnsiColor::Yellow.on_default().bold();
    Ok(writeln!(
        anstream::stderr().lock(),
        "{yellow}warning{yellow:#}: {about}"
    )?)
}

impl By {
    fn backend(&self) -> Backend {
        let backend = self.backend.unwrap_or(Backend::Nft);
        let is_installed = system::is_installed;
        if self.backend.is_none() && !is_installed("nft") && is_installed("iptables") {
            return Backend::Iptables;
        }
        backend
    }
}

impl Wanted {
    /// What was made by another program goes once the new rules are in force: connections are led
    /// somewhere at every moment.
    fn apply(self) -> Result<(), Failure> {
        let (backend, settings) = (self.by.backend(), self.settings.clone());
        let rules = self.rules()?;
        system::execute(&rules.script(backend))?;
        let made = Keeper::of(backend, rules.ipv6);
        let others: Vec<_> = Keeper::installed()
            .filter(|one| !made.contains(one) && (rules.ipv6 || *one != Keeper::Ip6tables))
            .collect();
        let removed = standing::remove(&others)?;
        tell_unasked(&removed)?;
        for what in removed.what {
            writeln!(
                stdout().lock(),
                "removed {what}, which an earlier apply had made"
            )?;
        }
        let listening = listening::at(rules.to).ok();
        // With none at hand, there is nothing to be compared with: that of Tollgate is elsewhere.
        let read = settings.path().map(|file| (file, settings.load()));
        let config = match &read {
            Some((file, Ok(read))) => Some((file.display().to_string(), &read.config)),
            Some((_, Err(error))) => {
                warn(&format!(
                    "the rules are in force, but were not compared with what it says: {error}"
                ))?;
                None
            },
            None => None,
        };
        let config = config.as_ref().map(|(file, config)| (&**file, *config));
        for doubt in doubts::about(&rules, config, listening.as_deref()) {
            warn(&doubt)?;
        }
        Ok(())
    }

    fn rules(self) -> Result<Rules, Failure> {
        let to = match self.to {
            Some(port) => Some(port),
            None => self.configured()?,
        };
        let is_said = self.uid.is_some() || self.mark.is_some() || !self.from.is_empty();
        let to = match (to, is_said) {
            (Some(to), true) => to,
            (Some(_), false) => return Err(Failure::wrong(WHOSE_HELP)),
            (None, true) => return Err(Failure::wrong(TO_HELP)),
            (None, false) => return Err(Failure::Wrong([WHOSE_HELP, TO_HELP].join("\nAnd "))),
        };
        if self.ports.len() > rules::MAX_PORTS {
            let most = rules::MAX_PORTS;
            return Err(Failure::wrong(format!("--ports: at most {most} of them")));
        }
        if let Some(user) = self.uid.as_ref().filter(|user| !user.is_known()) {
            return Err(Failure::wrong(format!(
                "--uid {user}: this machine has no such user. Name the one that Tollgate runs as, or give \
                 its number"
            )));
        }
        Ok(Rules {
            except: self.uid,
            except_marked: self.mark,
            from: self.from,
            ports: self.ports,
            to,
            ipv6: !self.by.no_ipv6,
        })
    }

    /// The port of the transparent listener, if it has one of its own.
    fn configured(&self) -> Result<Option<u16>, Failure> {
        let listen = self.settings.load()?.config.listen;
        let port = listen.transparent.map(|address| address.port());
        Ok(port.filter(|port| *port != 0))
    }
}

/// A mark of connections; 0 is that of those which have none.
fn mark(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse()
        .map_err(|_no_mark| "expected a whole number from 1 to 4294967295")
}
