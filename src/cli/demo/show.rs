//! What is shown of the demo: headings, spans as they finish, and what was said.

use std::{
    fmt::Write as _,
    future::Future,
    io::{self, Write as _},
    pin::pin,
    time::Duration,
};

use anstyle::Style;

use super::{
    super::{Failure, terminal},
    cast::HAND_OFF,
};
use crate::{
    base::money::Usd,
    call::{
        brief::Brief,
        line::{AGENT, BAD, DIM, GOOD, MONEY, WARNING, clean, elapsed, grouped},
        outcome::Status,
    },
    store::{Filter, Reader},
};

const BOLD: Style = Style::new().bold();
/// How often it is looked for new spans.
const GLANCE: Duration = Duration::from_millis(40);
/// The most spans that are shown at one glance.
const MOST: usize = 1_000;
/// Where names end and what they are begins.
const COLUMN: usize = 12;

/// Standard output, and the spans that were shown already.
pub(super) struct Stage {
    store: Reader,
    shown: i64,
    /// What budgets were charged, by the spans that were shown.
    charged: Usd,
    /// Columns of the terminal.
    width: usize,
}

impl Stage {
    /// A stage that shows the spans of `store` from now on.
    pub(super) fn new(store: Reader) -> Result<Self, Failure> {
        Ok(Self {
            shown: store.last_id().map_err(Failure::failed)?,
            store,
            charged: Usd::ZERO,
            width: terminal::width(io::stdout()).map_or(80, |columns| columns.clamp(60, 100)),
        })
    }

    /// A name and what it is.
    pub(super) fn fact(&self, name: &str, is: &str) -> io::Result<()> {
        let lines = terminal::wrapped(is, self.width.saturating_sub(COLUMN));
        let is = lines.join(&format!("\n{:COLUMN$}", ""));
        put(&format!("{BOLD}{name:<COLUMN$}{BOLD:#}{is}\n"))
    }

    /// Something in words, beneath what it belongs to.
    pub(super) fn remark(&self, text: &str) -> io::Result<()> {
        let indent = COLUMN + 3;
        let room = self.width.saturating_sub(indent);
        let lines = terminal::wrapped(text, room).into_iter();
        let lines = lines.map(|line| format!("{:indent$}{DIM}{line}{DIM:#}\n", ""));
        put(&lines.collect::<String>())
    }

    /// Plays a scene, and shows its spans as they finish.
    ///
    /// # Errors
    /// The scene's own, or the store cannot be read.
    pub(super) async fn play<T>(
        &mut self,
        scene: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut scene = pin!(scene);
        let mut glances = tokio::time::interval(GLANCE);
        loop {
            tokio::select! {
                played = &mut scene => return played,
                _ = glances.tick() => self.glance()?,
            }
        }
    }

    /// Shows the spans that have come since the last time.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn glance(&mut self) -> Result<(), Failure> {
        let filter = Filter {
            after: Some(self.shown),
            ..Filter::default()
        };
        for stored in self.store.first(&filter, MOST).map_err(Failure::failed)? {
            self.shown = stored.id;
            let brief = Brief::from_json(&stored.line).map_err(Failure::failed)?;
            self.charged += charged(&stored.line, &brief)?;
            put(&span(&brief))?;
        }
        Ok(())
    }

    /// What budgets were charged, by the spans that were shown.
    pub(super) const fn charged(&self) -> Usd {
        self.charged
    }

    /// The store.
    pub(super) const fn store(&self) -> &Reader {
        &self.store
    }
}

/// What budgets were charged for a call: what it cost, where its span does not say more.
fn charged(line: &str, brief: &Brief<'_>) -> Result<Usd, Failure> {
    let span: serde_json::Value = serde_json::from_str(line).map_err(Failure::failed)?;
    match span.pointer("/attributes/tollgate.budget.charged.usd") {
        Some(said) => {
            let said = said.as_str().unwrap_or_default();
            said.parse().map_err(Failure::failed)
        },
        None => Ok(brief.cost.unwrap_or_default()),
    }
}

/// A heading over a scene.
pub(super) fn heading(title: &str, about: &str) -> io::Result<()> {
    let about = format!("  {DIM}{about}{DIM:#}");
    put(&format!("\n{BOLD}{title}{BOLD:#}{about}\n"))
}

/// A span as one line, and below it what it led to.
fn span(brief: &Brief<'_>) -> String {
    let agent = clean(brief.agent.as_deref().unwrap_or("-"));
    let model = brief.name.rsplit(' ').next().unwrap_or_default();
    let count = |count: Option<u64>| count.map(grouped).unwrap_or_default();
    let (input, output) = (count(brief.input), count(brief.output));
    let arrow = if output.is_empty() { " " } else { "→" };
    let cost = brief.cost.map_or_else(|| "?".to_owned(), exact);
    let (word, style) = match (brief.status, &brief.blocked_by) {
        (Status::Ok, Some(_)) => ("cut", WARNING),
        (Status::Ok, None) if brief.stream => ("ok, streamed", GOOD),
        (Status::Ok, None) => ("ok", GOOD),
        (Status::Blocked, _) if brief.output.is_some() => ("cut", WARNING),
        (Status::Blocked, _) => ("refused", WARNING),
        (Status::Error | Status::Cancelled, _) => ("failed", BAD),
    };
    let took = elapsed(brief.duration);
    let mut text = format!(
        "{AGENT}{agent:<COLUMN$}{AGENT:#}{model:<18}{input:>5} {arrow} {output:<5}\
         {MONEY}{cost:>12}{MONEY:#}  {DIM}{took:>6}{DIM:#}  {style}{word}{style:#}\n",
        model = clean(model),
    );
    let tools = brief.tools.iter().map(|tool| clean(&tool.name));
    let tools = tools.map(|name| match name.strip_prefix(HAND_OFF) {
        Some(other) => format!("hands off to {BOLD}{other}{BOLD:#}"),
        None => format!("calls {BOLD}{name}{BOLD:#}"),
    });
    let blocked = brief.blocked_by.iter().map(|by| {
        let left = brief
            .remaining
            .map(|left| format!(", {} left", left.short()));
        let left = left.unwrap_or_default();
        format!("by {WARNING}{}{WARNING:#}{left}", clean(by))
    });
    let below: Vec<_> = tools.chain(blocked).collect();
    for (place, line) in below.iter().enumerate() {
        let branch = if place + 1 == below.len() {
            "└─"
        } else {
            "├─"
        };
        let _ok = writeln!(text, "{:COLUMN$}{DIM}{branch}{DIM:#} {line}", "");
    }
    text
}

/// All nine decimals: what is shown adds up as it stands.
pub(super) fn exact(amount: Usd) -> String {
    format!("${amount}")
}

/// Writes at once, in colours where there are any.
pub(super) fn put(text: &str) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
