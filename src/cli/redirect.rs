//! `tollgate redirect`: the rules by which the system leads connections to the transparent listener.

mod rules;

use std::{
    env,
    io::{Write as _, stdout},
    num::NonZeroU32,
    process::{Command as Program, Stdio},
};

use clap::{Args, Subcommand};

use super::{Failure, Settings};
use rules::{Backend, Interface, Rules, User};

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
    /// Take the rules away, if there are any
    Remove(By),
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
                let script = wanted.script()?;
                Ok(stdout().lock().write_all(script.as_bytes())?)
            },
            Action::Apply(wanted) => execute(&wanted.script()?),
            Action::Remove(by) => execute(&rules::removal(by.backend(), !by.no_ipv6)),
        }
    }
}

impl By {
    fn backend(&self) -> Backend {
        let backend = self.backend.unwrap_or(Backend::Nft);
        if self.backend.is_none() && !is_installed("nft") && is_installed("iptables") {
            return Backend::Iptables;
        }
        backend
    }
}

impl Wanted {
    fn script(self) -> Result<String, Failure> {
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
        let rules = Rules {
            except: self.uid,
            except_marked: self.mark,
            from: self.from,
            ports: self.ports,
            to,
            ipv6: !self.by.no_ipv6,
        };
        Ok(rules.script(self.by.backend()))
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

/// Runs a script of ours.
fn execute(script: &str) -> Result<(), Failure> {
    let shell = Program::new("sh")
        .args(["-e", "-u"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut shell = shell.map_err(|error| Failure::failed(format!("cannot run sh: {error}")))?;
    if let Some(mut stdin) = shell.stdin.take() {
        // One that is gone says why itself.
        let _gone = stdin.write_all(script.as_bytes());
    }
    let ended = shell.wait_with_output()?;
    if ended.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    Err(Failure::failed(format!(
        "the rules could not be changed: {}\nIt takes the right to do so (root, or CAP_NET_ADMIN) in \
         the network namespace whose connections are meant, and nft or iptables. Without IPv6, say \
         --no-ipv6.",
        said.trim_end()
    )))
}

fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
