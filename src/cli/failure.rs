//! How a command fails: what is said on stderr, and the exit code.

use std::{io, io::Write as _, process::ExitCode};

use anstyle::{AnsiColor, Style};

use crate::config::{Invalid, LoadError, Problem};

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// It failed. Exit code 1.
    Failed(String),
    /// The arguments or the configuration are wrong. Exit code 2.
    Wrong(String),
    /// The configuration is wrong, in places. Exit code 2.
    Configuration(Box<Invalid>),
    /// The arguments are wrong, or help was asked for, as clap says it.
    Arguments(Box<clap::Error>),
    /// It failed, with an exit code of its own.
    Coded(u8, String),
    /// Everything was said already; this is the exit code.
    Said(u8),
}

impl Failure {
    /// It failed because of `error`.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The arguments or the configuration are wrong because of `error`.
    pub fn wrong(error: impl std::fmt::Display) -> Self {
        Self::Wrong(error.to_string())
    }

    /// Says it on stderr and gives the exit code. If stderr is gone, so be it.
    pub fn report(self) -> ExitCode {
        let mut stderr = anstream::stderr().lock();
        let red = AnsiColor::Red.on_default().bold();
        let (said, code) = match self {
            Self::Failed(message) => (writeln!(stderr, "{red}error{red:#}: {message}"), 1),
            Self::Wrong(message) => (writeln!(stderr, "{red}error{red:#}: {message}"), 2),
            Self::Coded(code, message) => (writeln!(stderr, "{red}error{red:#}: {message}"), code),
            Self::Configuration(invalid) => {
                let Invalid {
                    file,
                    text,
                    problems,
                } = &*invalid;
                (show(&mut stderr, file, text, problems), 2)
            },
            Self::Arguments(error) => {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                (error.print(), code)
            },
            Self::Said(code) => (Ok(()), code),
        };
        drop(said);
        ExitCode::from(code)
    }
}

/// Shows problems with their lines, and how many there are.
pub(super) fn show(
    out: &mut impl io::Write,
    file: &str,
    text: &str,
    problems: &[Problem],
) -> io::Result<()> {
    for problem in problems {
        writeln!(out, "{}", problem.show(file, text))?;
    }
    let bold = Style::new().bold();
    match problems.len() {
        0 | 1 => Ok(()),
        many => writeln!(out, "{bold}{many} problems in {file}{bold:#}"),
    }
}

/// Whoever reads our output may leave when they have seen enough: that is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Said(0)
        } else {
            Self::failed(error)
        }
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(Box::new(error))
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unreadable { .. } => Self::wrong(error),
            LoadError::Invalid(invalid) => Self::Configuration(invalid),
        }
    }
}
