//! The programs that are run, and what they say where they fail.

use std::{
    env, io,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use super::Failure;

/// Why a program did not do what it was asked to, in its own words.
#[derive(Debug)]
pub(super) struct Trouble(String);

impl Trouble {
    /// Whether whoever ran it may not do so.
    pub(super) fn is_of_rights(&self) -> bool {
        let words = ["not permitted", "Permission denied", "must be root"];
        words.iter().any(|words| self.0.contains(words))
    }

    /// What it said.
    pub(super) fn said(&self) -> &str {
        self.0.trim_end()
    }

    /// What to do about it, if that can be told.
    fn help(&self) -> &'static str {
        if self.is_of_rights() {
            "\nIt takes the right to do so (root, or CAP_NET_ADMIN) in the network namespace whose \
             connections are meant."
        } else if self.0.contains("not found") {
            "\nIt takes nft, or iptables and ip6tables; --backend says which of them is used."
        } else if self.0.contains("ip6tables") {
            "\nWithout IPv6, say --no-ipv6."
        } else {
            ""
        }
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let (said, help) = (trouble.said(), trouble.help());
        Self::failed(format!("the rules could not be changed: {said}{help}"))
    }
}

/// Runs a script of ours.
pub(super) fn execute(script: &str) -> Result<(), Trouble> {
    let mut shell = Command::new("sh");
    shell.args(["-e", "-u"]).stdin(Stdio::piped());
    run(&mut shell, script).map(|_nothing| ())
}

/// What a program answers.
pub(super) fn ask(program: &str, question: &[&str]) -> Result<String, Trouble> {
    let mut program = Command::new(program);
    let answered = run(program.args(question).stdin(Stdio::null()), "")?;
    Ok(String::from_utf8_lossy(&answered.stdout).into_owned())
}

/// Runs a program to its end, in the language whose words we know.
fn run(command: &mut Command, input: &str) -> Result<Output, Trouble> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: io::Error| Trouble(format!("cannot run {name}: {error}"));
    command.env("LC_ALL", "C");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = running.stdin.take() {
        // One that is gone says why itself.
        let _gone = stdin.write_all(input.as_bytes());
    }
    let ended = running.wait_with_output().map_err(failed)?;
    if ended.status.success() {
        return Ok(ended);
    }
    Err(Trouble(String::from_utf8_lossy(&ended.stderr).into_owned()))
}

/// Whether a program is there to be run.
pub(super) fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
