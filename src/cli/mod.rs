//! The command line, one file a subcommand.
//!
//! A command is a `clap::Args` with a method `run(self) -> Result<(), Failure>`. To add one: its
//! file, its `mod` line, and its line in `commands!`.

mod budgets;
mod ca;
mod check;
mod completions;
mod demo;
mod doctor;
mod exec;
mod failure;
mod format;
mod inject;
mod keys;
mod kill;
mod ledger;
pub mod log;
mod mock;
mod owner;
mod prices;
mod redirect;
mod report;
mod reprice;
mod run;
mod scratch;
mod selection;
mod settings;
mod spans;
mod terminal;
mod wait;
mod webhook;
mod why;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use self::{failure::Failure, settings::Settings};

/// Makes the enum of the commands and runs the one that was given.
macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $module:ident,)*) => {
        #[derive(Debug, Subcommand)]
        enum Command {
            $($(#[$doc])* $name($module::Command),)*
        }

        impl Command {
            fn run(self) -> Result<(), Failure> {
                match self {
                    $(Self::$name(command) => command.run(),)*
                }
            }
        }
    };
}

commands! {
    /// Run the sidecar
    Run = run,
    /// Wait until the sidecar that runs by the same configuration is ready
    Wait = wait,
    /// Run a command with its LLM calls metered, and say what it cost
    Exec = exec,
    /// See it work: mock providers, agents, live spans, costs, and a budget that cuts one off
    Demo = demo,
    /// List the calls that were made, or follow them
    Spans = spans,
    /// Say what calls cost, by agent, model or any other label
    Report = report,
    /// List budgets, raise or reset one
    Budgets = budgets,
    /// Stop calls, those under way as well; list and lift what was stopped
    Kill = kill,
    /// Say why a call was let through, clamped, refused or cut
    Why = why,
    /// Prove what was spent
    Ledger = ledger,
    /// Make, list and revoke the keys that clients show
    Keys = keys,
    /// Make the certificate authority of interception, and have clients trust it
    Ca = ca,
    /// Put the sidecar into the pods of Kubernetes manifests
    Inject = inject,
    /// Say what a model costs, and how that is known
    Prices = prices,
    /// Lead connections to the transparent listener, by rules of the system
    Redirect = redirect,
    /// Price calls that were made again, by what is known now
    Reprice = reprice,
    /// Validate a configuration and say what it means
    Check = check,
    /// Say whether destinations can be reached and limits hold, with what to do if not
    Doctor = doctor,
    /// Print completions for a shell
    Completions = completions,
    /// Run the webhook by which Kubernetes puts the sidecar into pods
    Webhook = webhook,
    /// Run mock providers, for demos and tests
    Mock = mock,
}

/// A sidecar proxy for LLM APIs: meters, prices, limits and traces every call
#[derive(Debug, Parser)]
#[command(
    name = "tollgate",
    version,
    max_term_width = 100,
    propagate_version = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// Reads the arguments, runs the command, and says what went wrong.
///
/// The exit code is 0 if it is done, 1 if it failed, 2 if the arguments or the configuration are
/// wrong; `exec` passes on its command's.
pub fn main() -> ExitCode {
    let done = Arguments::try_parse()
        .map_err(Failure::from)
        .and_then(|arguments| arguments.command.run());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
