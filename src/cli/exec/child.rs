//! The command that `tollgate exec` runs: its streams are ours, signals are passed on to it, and
//! its end is turned into an exit code as shells do.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, process::ExitStatusExt as _},
    path::PathBuf,
    process::ExitStatus,
};

use rustix::{
    process::{Pid, Signal, getpgrp, kill_process},
    termios::tcgetpgrp,
};
use tokio::{
    process::{Child as Process, Command},
    signal::unix::{self, SignalKind, signal},
};

use super::super::Failure;

/// The command cannot be found.
const NOT_FOUND: u8 = 127;
/// The command is there and cannot be run.
const NOT_RUNNABLE: u8 = 126;

/// A running command.
pub(super) struct Child {
    process: Process,
    signals: Signals,
}

impl Child {
    /// Starts `program` with these variables besides those that are set.
    ///
    /// # Errors
    /// It cannot be found or run: with the exit code that shells use.
    pub(super) fn start(
        program: &OsString,
        arguments: &[OsString],
        variables: Vec<(&'static str, String)>,
    ) -> Result<Self, Failure> {
        let signals = Signals::new()?;
        let started = Command::new(program)
            .args(arguments)
            .envs(variables)
            .spawn();
        let process = started.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound {
                return Failure::Coded(NOT_FOUND, missing(program, env::var_os("PATH").as_deref()));
            }
            let program = program.display();
            Failure::Coded(NOT_RUNNABLE, format!("cannot run `{program}`: {error}"))
        })?;
        Ok(Self { process, signals })
    }

    /// Waits until it ends, and passes on signals meanwhile.
    ///
    /// # Errors
    /// The system does not say how it ended.
    pub(super) async fn ended(&mut self) -> io::Result<u8> {
        loop {
            tokio::select! {
                status = self.process.wait() => return Ok(code(status?)),
                signal = self.signals.next() => self.pass_on(signal),
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        if comes_from_terminal(signal) {
            return;
        }
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            // It may have ended just now.
            let _gone = kill_process(pid, signal);
        }
    }
}

/// That a program is not there, and where it was looked for; or, if it is there, that what it needs to run
/// is not, which the system tells with the same error.
fn missing(program: &OsStr, path: Option<&OsStr>) -> String {
    let (name, is_path) = (program.display(), program.as_bytes().contains(&b'/'));
    let directories: Vec<PathBuf> = match path {
        _ if is_path => vec![PathBuf::new()],
        Some(path) => env::split_paths(path).collect(),
        None => Vec::new(),
    };
    let mut files = directories.iter().map(|directory| directory.join(program));
    if let Some(file) = files.find(|file| file.exists()) {
        let file = file.display();
        return format!(
            "cannot run `{name}`: the interpreter or loader that {file} names is not there"
        );
    }
    if is_path {
        return format!("cannot run `{name}`: there is no such file");
    }
    match path {
        Some(path) => format!(
            "cannot run `{name}`: no directory of PATH has it ({})",
            path.display()
        ),
        None => {
            format!("cannot run `{name}`: PATH is not set, and the system's default has it not")
        },
    }
}

/// Whether the terminal has sent it to us, and so to the command as well: once more would be twice.
fn comes_from_terminal(signal: Signal) -> bool {
    signal != Signal::TERM
        && File::open("/dev/tty")
            .is_ok_and(|terminal| tcgetpgrp(&terminal).is_ok_and(|group| group == getpgrp()))
}

/// 128 and the signal's number for a command that was killed.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Signals that would end us, and are the command's to answer.
struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    quit: unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.quit.recv() => Signal::QUIT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_shells_tell_it() {
        assert_eq!(code(ExitStatus::from_raw(0)), 0);
        assert_eq!(code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code(ExitStatus::from_raw(15)), 143);
    }
}
