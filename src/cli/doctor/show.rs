//! What doctor has found, for people and for programs.

use std::io::{self, Write as _};

use anstyle::Style;
use serde::Serialize;

use super::{
    super::{Failure, terminal},
    finding::{Finding, Part, Verdict},
};
use crate::{
    base::text::{Side, filled, width},
    call::line::{BAD, DIM, GOOD, WARNING, clean, elapsed},
};

const BOLD: Style = Style::new().bold();
/// Where names begin, and the least that they take.
const INDENT: usize = 4;
const NAMES: usize = 14;
/// The room for durations.
const TIMES: usize = 8;

/// One part, with its heading.
pub(super) fn part(part: Part, findings: &[Finding]) -> io::Result<()> {
    let (title, about) = match part {
        Part::Here => ("Here", "configuration, directories, ledger, prices"),
        Part::Destinations => ("Destinations", "a span to each, marked tollgate.doctor"),
        Part::Limits => ("Limits", "on calls to a mock, each by itself"),
    };
    let room = terminal::width(io::stdout()).map_or(100, |columns| columns.clamp(60, 120));
    let mut out = anstream::stdout().lock();
    let gap = if part == Part::Here { "" } else { "\n" };
    writeln!(out, "{gap}{BOLD}{title}{BOLD:#}  {DIM}{about}{DIM:#}")?;
    if findings.is_empty() {
        writeln!(out, "  {DIM}- none configured{DIM:#}")?;
    }
    for line in lines(findings, room) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// How many there were, and how many are not well.
pub(super) fn total(findings: &[Finding]) -> io::Result<()> {
    let of = |verdict| findings.iter().filter(|it| it.verdict == verdict).count();
    let (well, unsure, failed) = (of(Verdict::Ok), of(Verdict::Unsure), of(Verdict::Failed));
    let mut out = anstream::stdout().lock();
    write!(out, "\n{GOOD}{well} ok{GOOD:#}")?;
    if unsure > 0 {
        write!(out, ", {WARNING}{unsure} unsure{WARNING:#}")?;
    }
    if failed > 0 {
        write!(out, ", {BAD}{failed} failed{BAD:#}")?;
    }
    writeln!(out)?;
    out.flush()
}

/// All of it, as JSON.
pub(super) fn json(findings: &[Finding]) -> Result<(), Failure> {
    #[derive(Serialize)]
    struct All<'a> {
        ok: bool,
        checks: &'a [Finding],
    }
    let all = All {
        ok: findings.iter().all(|it| it.verdict != Verdict::Failed),
        checks: findings,
    };
    let text = serde_json::to_string_pretty(&all).map_err(Failure::failed)?;
    writeln!(anstream::stdout().lock(), "{text}")?;
    Ok(())
}

/// Findings in columns: mark, name, what was seen, how long it took; below it what to do.
fn lines(findings: &[Finding], room: usize) -> Vec<String> {
    let names = findings.iter().map(|finding| width(&finding.name));
    let names = names.max().unwrap_or(0).clamp(NAMES, 24);
    let start = INDENT + names + 2;
    let words = room.saturating_sub(start + TIMES).max(20);
    let mut lines = Vec::new();
    for finding in findings {
        let (mark, style) = match finding.verdict {
            Verdict::Ok => ("✓", GOOD),
            Verdict::Unsure => ("!", WARNING),
            Verdict::Failed => ("✗", BAD),
        };
        let name = filled(&clean(&finding.name), names, Side::Left);
        let mut says = terminal::wrapped(&clean(&finding.says), words).into_iter();
        let first = filled(&says.next().unwrap_or_default(), words, Side::Left);
        let took = filled(&elapsed(finding.took), TIMES, Side::Right);
        lines.push(format!(
            "  {style}{mark}{style:#} {BOLD}{name}{BOLD:#}  {first}{DIM}{took}{DIM:#}"
        ));
        lines.extend(says.map(|line| format!("{:start$}{line}", "")));
        if let Some(advice) = &finding.advice {
            let advice = terminal::wrapped(&format!("→ {}", clean(advice)), words).into_iter();
            lines.extend(advice.map(|line| format!("{:start$}{style}{line}{style:#}", "")));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn findings_stand_in_columns_and_advice_below() {
        let findings = [
            Finding::ok(Part::Here, "data", "it can be written").after(Duration::from_millis(3)),
            Finding::failed(
                Part::Here,
                "buffer",
                "nobody lets us write there, whatever we try",
            )
            .with_advice(Some("change that")),
        ];
        let lines: Vec<String> = lines(&findings, 60)
            .into_iter()
            .map(|line| anstream::adapter::strip_str(&line).to_string())
            .collect();
        assert_eq!(
            lines,
            [
                "  ✓ data            it can be written                    3ms",
                "  ✗ buffer          nobody lets us write there,          0ms",
                "                    whatever we try",
                "                    → change that",
            ]
        );
        assert!(lines.iter().all(|line| width(line) <= 60));
    }
}
