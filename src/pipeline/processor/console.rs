//! Spans for whoever watches: lines, blocks or JSON on standard output.

use std::{
    fmt::Write as _,
    future::ready,
    io::{self, ErrorKind, Write},
    sync::Arc,
};

use jiff::tz::TimeZone;
use rustix::termios::tcgetwinsize;
use serde::Deserialize;

use super::{
    super::{Content, Outlet, Record, Unit},
    BoxFuture, BuildContext, BuildError, DeliverError, Processor,
};
use crate::call::{
    brief::Brief,
    line::{AGENT, DIM, Look, MONEY, clean, elapsed, grouped},
    outcome::Status,
    span::Span,
};

mod payload;

/// `{type: console, …}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How spans look.
    pub format: Format,
    /// Which spans are shown.
    pub log_level: Level,
    /// Colours on a terminal, unless `NO_COLOR` is set; never elsewhere.
    pub colorize: bool,
    /// Whether durations are shown.
    pub include_timing: bool,
    /// Whether tokens, costs and what is left of budgets are shown.
    pub include_tokens: bool,
    /// Whether prompts and answers are shown, as far as `tracing.content` lets spans hold them.
    pub include_payloads: bool,
}

/// How spans look on the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A few lines a span.
    Pretty,
    /// One JSON object a line, as in files and the API.
    Json,
    /// One line a span, in columns.
    #[default]
    Compact,
}

/// Which spans are shown on the console.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All.
    Debug,
    /// All.
    #[default]
    Info,
    /// Those that did not go as they should: failed, refused, cut, left, or not wholly read.
    Warn,
    /// Those that failed or were refused.
    Error,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Compact,
            log_level: Level::Info,
            colorize: true,
            include_timing: true,
            include_tokens: true,
            include_payloads: false,
        }
    }
}

/// Makes the processor, on standard output.
#[expect(clippy::unnecessary_wraps, reason = "as every processor's")]
pub(super) fn build(config: &Config, context: &BuildContext) -> Result<Outlet, BuildError> {
    let plain = anstream::AutoStream::choice(&io::stdout()) == anstream::ColorChoice::Never;
    let look = Look {
        zone: TimeZone::system(),
        date: false,
        colors: config.colorize && !plain,
        timing: config.include_timing,
        tokens: config.include_tokens,
        id: None,
        room: tcgetwinsize(io::stdout())
            .map(|size| usize::from(size.ws_col))
            .ok()
            .filter(|columns| *columns > 0),
    };
    let console = Console::new(config, look, io::stdout());
    let mut outlet = context.local("console", console);
    outlet.unit = Unit::Span;
    if !config.include_payloads {
        outlet.delivery.content = Some(Content::None);
    }
    Ok(outlet)
}

struct Console<W> {
    format: Format,
    level: Level,
    look: Look,
    out: W,
    text: String,
}

impl<W: Write + Send + 'static> Console<W> {
    const fn new(config: &Config, look: Look, out: W) -> Self {
        Self {
            format: config.format,
            level: config.log_level,
            look,
            out,
            text: String::new(),
        }
    }

    fn write(&mut self, batch: &[Arc<Record>]) -> Result<(), DeliverError> {
        self.text.clear();
        for record in batch {
            if record.level() >= self.level {
                self.add(record);
            }
        }
        let written = self.out.write_all(self.text.as_bytes());
        written.and_then(|()| self.out.flush()).map_err(|error| {
            match error.kind() {
                ErrorKind::BrokenPipe => DeliverError::Gone,
                // Some of it may be out already: once more would show it twice.
                _ => DeliverError::Reject(error.into()),
            }
        })
    }

    fn add(&mut self, record: &Record) {
        match self.format {
            Format::Json => self.text.push_str(&record.line),
            Format::Compact => {
                let line = self.look.line(&Brief::from(&record.span));
                self.text.push_str(&line);
            },
            Format::Pretty => {
                let block = self.block(&record.span);
                self.text.push_str(&block);
            },
        }
        if self.format != Format::Json {
            let said = payload::lines(&record.span, &self.look);
            self.text.push_str(&said);
        }
        self.text.push('\n');
    }

    /// A span in a few lines: what, for whom, how much, and the tools that it asked for.
    fn block(&self, span: &Span) -> String {
        let (look, brief) = (&self.look, Brief::from(span));
        let mut facts = Vec::new();
        let labels = [
            ("agent", &brief.agent),
            ("user", &brief.user),
            ("session", &brief.session),
        ];
        let named = labels
            .into_iter()
            .filter_map(|(name, value)| Some((name, clean(value.as_deref()?))));
        facts.push(
            named
                .map(|(name, value)| format!("{name} {}", look.paint(AGENT, value)))
                .collect::<Vec<_>>(),
        );
        if look.tokens {
            facts.push(amounts(&brief, look));
        }
        let mut text = format!(
            "{} {}  {}",
            look.paint(DIM, look.time(&brief)),
            clean(&brief.name),
            look.outcome(&brief)
        );
        if look.timing {
            let first = brief
                .first_chunk
                .map(|first| format!(", first after {}", elapsed(first)));
            let took = format!("{}{}", elapsed(brief.duration), first.unwrap_or_default());
            let _ok = write!(text, "  {}", look.paint(DIM, took));
        }
        for line in facts.iter().filter(|line| !line.is_empty()) {
            let _ok = write!(text, "\n         {}", line.join(" · "));
        }
        let last = brief.tools.len().saturating_sub(1);
        for (place, tool) in brief.tools.iter().enumerate() {
            let branch = if place == last { "└─" } else { "├─" };
            let id = clean(tool.id.as_deref().unwrap_or_default());
            let _ok = write!(
                text,
                "\n         {} {} {}",
                look.paint(DIM, branch),
                clean(&tool.name),
                look.paint(DIM, id)
            );
        }
        text
    }
}

/// Tokens, cost and what is left, in words.
fn amounts(brief: &Brief<'_>, look: &Look) -> Vec<String> {
    let cached = brief.cache_read.filter(|cached| *cached > 0);
    let cached = cached.map(|cached| format!(" ({} cached)", grouped(cached)));
    let input = brief
        .input
        .map(|input| format!("{} in{}", grouped(input), cached.unwrap_or_default()));
    let output = brief
        .output
        .map(|output| format!("{} out", grouped(output)));
    let cost = brief.cost.map_or_else(
        || "cost unknown".to_owned(),
        |cost| cost.short().to_string(),
    );
    let left = brief.remaining.map(|left| {
        look.paint(DIM, format!("{} left", left.short()))
            .to_string()
    });
    let cost = Some(look.paint(MONEY, cost).to_string());
    [input, output, cost, left].into_iter().flatten().collect()
}

impl<W: Write + Send + 'static> Processor for Console<W> {
    fn deliver<'a>(
        &'a mut self,
        batch: &'a [Arc<Record>],
    ) -> BoxFuture<'a, Result<(), DeliverError>> {
        Box::pin(ready(self.write(batch)))
    }
}

impl Record {
    /// The highest level at which the span is still shown.
    fn level(&self) -> Level {
        let span = &self.span;
        match span.status {
            Status::Error | Status::Blocked => Level::Error,
            Status::Cancelled => Level::Warn,
            Status::Ok if span.blocked_by.is_some() || span.partial.is_some() => Level::Warn,
            Status::Ok => Level::Info,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::super::testing::saying, *};
    use crate::call::{content::Messages, span::tests::example};

    fn shown(config: &Config, spans: Vec<Span>) -> String {
        let mut console = Console::new(config, Look::plain(TimeZone::UTC), Vec::new());
        console.look.tokens = config.include_tokens;
        let batch: Vec<_> = spans
            .into_iter()
            .map(|span| Arc::new(Record::new(span)))
            .collect();
        console.write(&batch).unwrap();
        String::from_utf8(console.out).unwrap()
    }

    fn formatted(format: Format) -> Config {
        Config {
            format,
            ..Config::default()
        }
    }

    #[test]
    fn json_lines_are_the_records_lines() {
        let text = shown(&formatted(Format::Json), vec![example(), example()]);
        let line = example().to_json();
        assert_eq!(text, format!("{line}\n{line}\n"));
    }

    #[test]
    fn a_compact_span_is_one_line() {
        let text = shown(&Config::default(), vec![example(), example()]);
        assert_eq!(text.lines().count(), 2);
        assert!(
            text.contains("120 → 45") && text.contains("$0.000625"),
            "{text}"
        );
    }

    #[test]
    fn a_pretty_span_is_a_block_with_its_tools_as_a_tree() {
        let mut span = example();
        span.tool_calls.push(span.tool_calls[0].clone());
        let text = shown(&formatted(Format::Pretty), vec![span]);
        assert_eq!(
            text,
            "06:25:14 chat gpt-4o  ok  812ms, first after 210ms
         agent support
         120 in (100 cached) · 45 out · $0.000625
         ├─ lookup call_1
         └─ lookup call_1
"
        );
    }

    #[test]
    fn no_format_shows_what_was_taken_out() {
        for format in [Format::Pretty, Format::Json, Format::Compact] {
            let mut console =
                Console::new(&formatted(format), Look::plain(TimeZone::UTC), Vec::new());
            let record = saying("content: redacted", || Messages {
                input: vec![json!({"role": "user", "parts": [
                    {"type": "text", "content": "I am ann@mail.example, sk-Ab3dEfGh1jKlMnOpQrSt"}]})],
                ..Messages::default()
            });
            console.write(&[record]).unwrap();
            let text = String::from_utf8(console.out).unwrap();
            assert!(
                text.contains("I am [redacted:email], [redacted:key]"),
                "{text}"
            );
        }
    }

    #[test]
    fn tokens_and_costs_can_be_left_out() {
        let config = Config {
            include_tokens: false,
            ..formatted(Format::Pretty)
        };
        let text = shown(&config, vec![example()]);
        assert!(!text.contains('$') && !text.contains("cached"), "{text}");
    }

    #[test]
    fn a_level_hides_what_is_below_it() {
        let spans = || {
            let with = |status, partial| Span {
                status,
                partial,
                ..example()
            };
            vec![
                with(Status::Ok, None),
                with(Status::Ok, Some("body")),
                with(Status::Cancelled, None),
                with(Status::Blocked, None),
                with(Status::Error, None),
            ]
        };
        for (level, lines) in [
            (Level::Debug, 5),
            (Level::Info, 5),
            (Level::Warn, 4),
            (Level::Error, 2),
        ] {
            let config = Config {
                log_level: level,
                ..Config::default()
            };
            let text = shown(&config, spans());
            assert_eq!(text.lines().count(), lines, "{level:?}");
        }
    }

    #[test]
    fn a_reader_who_left_ends_it_quietly() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                Err(io::Error::from(ErrorKind::BrokenPipe))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut console = Console::new(&Config::default(), Look::plain(TimeZone::UTC), Gone);
        let result = console.write(&[Arc::new(Record::new(example()))]);
        assert!(matches!(result, Err(DeliverError::Gone)));
    }
}
