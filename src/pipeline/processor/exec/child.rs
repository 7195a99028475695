//! A command that runs: its pipes, and its end. It has a process group to itself, which ends with it.

use std::{io, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{self, ChildStderr, ChildStdin, ChildStdout, Command},
};

use super::{
    super::{BoxError, DeliverError},
    Config,
    output::Output,
    protocol::{plain, verdict},
};

/// The most that is read for one batch besides its answer, in bytes.
const FLOOD: usize = 1 << 20;

/// The most lines of what a command prints to its error output that are logged between two batches.
const LOGGED: u32 = 20;

/// How often is looked whether a command that shall end has.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A command that runs.
pub(super) struct Child {
    process: process::Child,
    group: Option<Pid>,
    input: Option<ChildStdin>,
    output: Output<ChildStdout>,
    errors: Output<ChildStderr>,
    /// How many lines may still be logged.
    loggable: u32,
    /// Lines that were not.
    unlogged: u64,
}

impl Child {
    /// Starts the command, with the environment that it is given and no other.
    pub(super) fn start(config: &Config, program: &std::path::Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(config.command.iter().skip(1).map(|it| &**it))
            .env_clear()
            .envs(
                config
                    .env
                    .iter()
                    .map(|(name, value)| (&**name, value.expose())),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &config.directory {
            command.current_dir(directory);
        }
        let mut process = command.spawn()?;
        let id = process.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: id.and_then(Pid::from_raw),
            input: process.stdin.take(),
            output: Output::of(process.stdout.take()),
            errors: Output::of(process.stderr.take()),
            process,
            loggable: LOGGED,
            unlogged: 0,
        })
    }

    /// Itself, if it has not ended meanwhile.
    pub(super) fn still_running(mut self) -> Option<Self> {
        self.runs().then_some(self)
    }

    fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    /// Hands the batch over and waits for what is said of it.
    ///
    /// # Errors
    /// It ended, or breaks the rules: it must not be spoken to again.
    pub(super) async fn ask(
        &mut self,
        question: &str,
        number: u64,
    ) -> Result<Result<(), DeliverError>, BoxError> {
        self.loggable = LOGGED;
        let mut input = self.input.take().ok_or("its input is closed")?;
        let mut told = None;
        let mut noise = 0;
        {
            let mut writing = std::pin::pin!(input.write_all(question.as_bytes()));
            let mut written = false;
            while !written || told.is_none() {
                let line = tokio::select! {
                    done = &mut writing, if !written => {
                        done.map_err(|error| format!("it does not read its input: {error}"))?;
                        written = true;
                        continue;
                    },
                    line = self.output.next() => {
                        let line = line?.ok_or("it closed its output")?;
                        let answer = verdict(&line, number);
                        if answer.is_some() {
                            told = answer;
                            continue;
                        }
                        line
                    },
                    line = self.errors.next(), if !self.errors.is_over() => {
                        let line = line?.unwrap_or_default();
                        self.log(&line);
                        line
                    },
                };
                noise += line.len() + 1;
                if noise > FLOOD {
                    return Err("it floods its output".into());
                }
            }
        }
        self.input = Some(input);
        told.ok_or_else(|| "it does not answer".into())
    }

    /// Reads what it has printed since the last batch, so that it is not held up by a full pipe.
    pub(super) fn listen(&mut self) {
        // Answers to batches that nobody waits for any more.
        self.output.waiting();
        for line in self.errors.waiting() {
            self.log(&line);
        }
    }

    /// Lines that were not read or logged since this was last asked.
    pub(super) fn take_cut(&mut self) -> u64 {
        let cut = std::mem::take(&mut self.output.cut) + std::mem::take(&mut self.errors.cut);
        cut + std::mem::take(&mut self.unlogged)
    }

    fn log(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        if let Some(left) = self.loggable.checked_sub(1) {
            self.loggable = left;
            let says = plain(&String::from_utf8_lossy(line));
            tracing::warn!(says, "A command that takes spans wrote to its error output");
        } else {
            self.unlogged += 1;
        }
    }

    /// Closes its input, which tells it to end, and waits for that, for `grace` at most.
    pub(super) fn end(mut self, grace: Duration) {
        drop(self.input.take());
        let mut waited = Duration::ZERO;
        while self.runs() && waited < grace {
            #[expect(
                clippy::disallowed_methods,
                reason = "its worker's own thread, at its end"
            )]
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
        }
    }
}

/// Ends it, and whatever it has started, at once.
impl Drop for Child {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // An error: there is nobody left.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        // Most often this is where the process table forgets it; else tokio sees to it.
        let _ended = self.process.try_wait();
    }
}
