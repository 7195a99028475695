//! Users of this machine.

use std::{
    fmt,
    process::{Command, Stdio},
    str::FromStr,
};

use super::rules::word;

/// A user: a name or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum User {
    Name(String),
    Number(u32),
}

impl User {
    /// Whether this machine knows a user of this name: numbers need not be anybody's. The system's
    /// own program is asked, since names may stand in a directory elsewhere (NSS); where it cannot be,
    /// whoever reads the rules says so.
    pub(super) fn is_known(&self) -> bool {
        let Self::Name(name) = self else {
            return true;
        };
        let asked = Command::new("id")
            .args(["-u", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.map_or(true, |status| status.success())
    }
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected a user's name, or a number from 0 to 4294967295";
        let name = word(text, 32).ok_or(wrong)?;
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.parse().map(Self::Number).map_err(|_too_large| wrong);
        }
        Ok(Self::Name(name))
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => number.fmt(f),
        }
    }
}
