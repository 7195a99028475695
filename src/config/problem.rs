//! What is wrong with a configuration, and where: for a log line, and for a person.

use std::{fmt, fmt::Write as _};

use anstyle::{AnsiColor, Style};

/// A stretch of one line of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// How many characters it is long, at least 1.
    pub length: usize,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and may not do what its author thinks.
    Warning,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }

    fn style(self) -> Style {
        let color = match self {
            Self::Error => AnsiColor::Red,
            Self::Warning => AnsiColor::Yellow,
        };
        color.on_default().bold()
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the file; none if it is about something that the file leaves out.
    pub place: Option<Place>,
    /// The key's path, like `budgets.rules[2].limit.usd`; empty if it is about the whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Problem {
    /// An error about the key at `path`; [`super::Document::located`] finds its place.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: None,
            path: path.into(),
            message: message.into(),
            help: None,
        }
    }

    /// A warning about the key at `path`.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, message)
        }
    }

    /// With advice.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// At a place.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// As one line for a log: `tollgate.yaml:3:5: limits.peek: …`. Repeats no line of the file.
    pub fn line(&self, file: &str) -> String {
        let mut line = file.to_owned();
        // Writing to a String cannot fail; so below.
        if let Some(place) = self.place {
            let _ok = write!(line, ":{}:{}", place.line, place.column);
        }
        if self.severity == Severity::Warning {
            line.push_str(": warning");
        }
        if !self.path.is_empty() {
            let _ok = write!(line, ": {}", self.path);
        }
        let _ok = write!(line, ": {}", self.message);
        if let Some(help) = &self.help {
            let _ok = write!(line, "; {help}");
        }
        line
    }

    /// For a person, in colour, with the line of the file that it is about.
    pub fn show<'a>(&'a self, file: &'a str, text: &'a str) -> impl fmt::Display {
        Shown {
            problem: self,
            file,
            text,
        }
    }
}

struct Shown<'a> {
    problem: &'a Problem,
    file: &'a str,
    text: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            severity,
            place,
            path,
            message,
            help,
        } = self.problem;
        let (loud, bold) = (severity.style(), Style::new().bold());
        let dim = AnsiColor::Blue.on_default().bold();
        writeln!(
            f,
            "{loud}{}{loud:#}{bold}: {message}{bold:#}",
            severity.name()
        )?;
        let margin = place.map_or(1, |place| place.line.to_string().len());
        write!(f, "{:margin$}{dim}-->{dim:#} {}", "", self.file)?;
        if let Some(Place { line, column, .. }) = place {
            write!(f, ":{line}:{column}")?;
        }
        if path.is_empty() {
            writeln!(f)?;
        } else {
            writeln!(f, " at {bold}{path}{bold:#}")?;
        }
        if let Some(Place {
            line,
            column,
            length,
        }) = place
        {
            let shown = self.text.lines().nth(line.saturating_sub(1)).unwrap_or("");
            // Tabs keep their width in the line of carets, whatever that is.
            let indent: String = shown
                .chars()
                .take(column.saturating_sub(1))
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let rest = shown.chars().count().saturating_sub(column - 1).max(1);
            let carets = "^".repeat((*length).clamp(1, rest));
            writeln!(f, "{:margin$} {dim}|{dim:#}", "")?;
            writeln!(f, "{dim}{line} |{dim:#} {shown}")?;
            writeln!(
                f,
                "{:margin$} {dim}|{dim:#} {indent}{loud}{carets}{loud:#}",
                ""
            )?;
        }
        if let Some(help) = help {
            writeln!(f, "{:margin$} {dim}={dim:#} {help}", "")?;
        }
        Ok(())
    }
}

/// Of `known`, what `written` was most likely meant to be: the nearest within a third of its
/// length in edits.
pub fn suggestion<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let budget = (written.chars().count() / 3).max(1);
    known
        .iter()
        .map(|name| (edits(written, name), *name))
        .min()
        .filter(|(distance, _)| *distance <= budget)
        .map(|(_, name)| name)
}

/// How many insertions, deletions, replacements and swaps of neighbours make `one` the `other`.
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.to_lowercase().replace('-', "_").chars().collect();
    let one = one.to_lowercase().replace('-', "_");
    // Three rows of the table of Damerau and Levenshtein: before last, last, this.
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    let mut previous = None;
    for (row, letter) in one.chars().enumerate() {
        let mut this = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let cell =
                |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = cell(&last, column) + usize::from(letter != *against);
            let mut best = replaced
                .min(cell(&last, column + 1) + 1)
                .min(cell(&this, column) + 1);
            let neighbour = column.checked_sub(1).and_then(|left| other.get(left));
            if previous == Some(*against) && neighbour == Some(&letter) {
                best = best.min(cell(&before, column - 1).saturating_add(1));
            }
            this.push(best);
        }
        before = std::mem::replace(&mut last, this);
        previous = Some(letter);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_with_its_line_and_a_caret() {
        let text = "listen:\n  prxy: 127.0.0.1:4100\n";
        let problem = Problem::error("listen.prxy", "unknown key `prxy`")
            .help("did you mean `proxy`?")
            .at(Place {
                line: 2,
                column: 3,
                length: 4,
            });
        let shown = problem.show("tollgate.yaml", text).to_string();
        assert_eq!(
            anstream::adapter::strip_str(&shown).to_string(),
            "error: unknown key `prxy`\n \
             --> tollgate.yaml:2:3 at listen.prxy\n  \
             |\n\
             2 |   prxy: 127.0.0.1:4100\n  \
             |   ^^^^\n  \
             = did you mean `proxy`?\n"
        );
        assert_eq!(
            problem.line("tollgate.yaml"),
            "tollgate.yaml:2:3: listen.prxy: unknown key `prxy`; did you mean `proxy`?"
        );
    }

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["limits", "listen", "log", "base_url", "per_user"];
        for (written, meant) in [
            ("limts", Some("limits")),
            ("lsiten", Some("listen")),
            ("base-url", Some("base_url")),
            ("BASE_URL", Some("base_url")),
            ("peruser", Some("per_user")),
            ("zebra", None),
            ("", None),
        ] {
            assert_eq!(suggestion(written, &known), meant, "{written}");
        }
    }
}
