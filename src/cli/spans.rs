//! `tollgate spans`: the calls that were made, as lines, as JSON, or one trace as a tree.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use clap::Args;
use jiff::tz::TimeZone;

use super::{Failure, Settings, format::Format, selection::Selection, terminal};
use crate::{
    admin::Archive,
    analysis::tree,
    base::{
        clock::{Clock as _, SystemClock},
        id::TraceId,
    },
    call::{brief::Brief, line::Look},
    store::{Filter, Stored},
};

/// How often the store is asked for more.
const TICK: Duration = Duration::from_millis(200);

/// Spans that are read at once while following.
const BATCH: usize = 1_000;

/// How much of a request's id is shown, which `why` takes: enough to tell calls of one millisecond
/// apart.
const ID: usize = 16;

/// The arguments of `tollgate spans`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    selection: Selection,
    /// The spans of that trace, as a tree
    #[arg(long, value_name = "ID", conflicts_with_all = ["follow", "limit"])]
    trace: Option<TraceId>,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// Go on with what comes, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Lines for people, or JSON, one span a line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let archive = Archive::new(&config.store, &config.ledger);
        let filter = self.selection.filter(SystemClock.wall())?;
        if let Some(trace) = self.trace {
            return show_trace(&archive, trace, &filter, self.format);
        }
        let (spans, next) = archive.spans(&filter, self.limit)?;
        if spans.is_empty() && !self.follow && self.format == Format::Table {
            writeln!(anstream::stdout(), "No calls.")?;
        }
        print(&spans, self.format)?;
        if self.follow {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?;
            return runtime.block_on(follow(&archive, filter, next, self.format));
        }
        Ok(())
    }
}

/// Prints what comes after the place `next`; ends when nobody reads it any more.
async fn follow(
    archive: &Archive,
    mut filter: Filter,
    mut next: i64,
    format: Format,
) -> Result<(), Failure> {
    let reader = archive.reader().map_err(Failure::failed)?;
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        filter.after = Some(next);
        let spans = reader.first(&filter, BATCH).map_err(Failure::failed)?;
        next = spans.last().map_or(next, |last| last.id);
        print(&spans, format)?;
    }
}

fn show_trace(
    archive: &Archive,
    trace: TraceId,
    filter: &Filter,
    format: Format,
) -> Result<(), Failure> {
    if *filter != Filter::default() {
        return Err(Failure::wrong("--trace goes with no other filter"));
    }
    let spans = archive.trace(trace)?;
    if format == Format::Json {
        return print(&spans, format);
    }
    let briefs: Vec<Brief<'_>> = spans.iter().filter_map(brief).collect();
    write!(anstream::stdout(), "{}", tree::render(&briefs, &look()))?;
    Ok(())
}

fn print(spans: &[Stored], format: Format) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let look = look();
    let today = SystemClock
        .wall()
        .to_jiff()
        .to_zoned(look.zone.clone())
        .date();
    for stored in spans {
        match (format, brief(stored)) {
            (Format::Table, Some(span)) => {
                let day = span.start.to_jiff().to_zoned(look.zone.clone()).date();
                let look = Look {
                    date: day != today,
                    ..look.clone()
                };
                writeln!(out, "{}", look.line(&span))?;
            },
            // What cannot be read is shown as it is.
            (Format::Json, _) | (Format::Table, None) => writeln!(out, "{}", stored.line)?,
        }
    }
    Ok(out.flush()?)
}

fn brief(stored: &Stored) -> Option<Brief<'static>> {
    let brief = Brief::from_json(&stored.line).ok()?;
    Some(Brief {
        // It was true when the call ended.
        remaining: None,
        ..brief
    })
}

fn look() -> Look {
    Look {
        colors: true,
        id: Some(ID),
        room: terminal::width(stdout()),
        ..Look::plain(TimeZone::system())
    }
}
