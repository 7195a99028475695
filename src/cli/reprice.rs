//! `tollgate reprice`: what calls that were made would cost by the prices that are known now, each
//! by those of its own date.

use std::io::Write as _;

use clap::Args;

use super::{Failure, Settings, selection::Selection};
use crate::{
    app,
    base::{
        clock::{Clock as _, SystemClock},
        money::Usd,
    },
    call::{billed::Billed, span::DEPLOYMENT},
    config::Config,
    ledger::Owner,
    pricing::{Context, Pricing, Query},
    provider::Providers,
    store::{Amendment, Filter, Reader, Stored, Writer},
};

/// Spans that are read, and written, at once.
const BATCH: usize = 1_000;

/// The arguments of `tollgate reprice`.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    selection: Selection,
    /// Write the new costs into the store, where reports find them; budgets stay as they are
    #[arg(long)]
    write: bool,
}

/// What became of the spans.
#[derive(Default)]
struct Sums {
    same: u64,
    changed: u64,
    /// The cost does not follow from what the store has of them.
    left: u64,
    /// No price is known now.
    unpriced: u64,
    before: Usd,
    after: Usd,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        if self.selection.since.is_none() {
            return Err(Failure::wrong(
                "say since when: `tollgate reprice --since 30d`",
            ));
        }
        let filter = self.selection.filter(SystemClock.wall())?;
        let reader = Reader::open(&config.store.file()).map_err(Failure::failed)?;
        // Held to the end, so that no sidecar starts meanwhile.
        let owner = self.write.then(|| Owner::claim(&config.store.path, ""));
        let owner = owner.transpose().map_err(|error| {
            Failure::failed(format!(
                "only a stopped sidecar's store can be written: {error}"
            ))
        })?;
        let writer = owner.is_some().then(|| Writer::open(&config.store));
        let mut writer = writer.transpose().map_err(Failure::failed)?;
        let sums = reprice(&config, &reader, filter, writer.as_mut())?;
        drop(owner);
        said(&sums, self.write)
    }
}

fn reprice(
    config: &Config,
    reader: &Reader,
    mut filter: Filter,
    mut writer: Option<&mut Writer>,
) -> Result<Sums, Failure> {
    let pricing = app::pricing(config).map_err(Failure::wrong)?;
    let providers = Providers::build(&config.providers).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::wrong(errors.join("\n"))
    })?;
    let mut sums = Sums::default();
    loop {
        let spans = reader.first(&filter, BATCH).map_err(Failure::failed)?;
        let Some(last) = spans.last() else {
            return Ok(sums);
        };
        filter.after = Some(last.id);
        let mut amendments = Vec::new();
        for span in &spans {
            amendments.extend(one(span, &pricing, &providers, &mut sums)?);
        }
        if let Some(writer) = &mut writer {
            writer.amend(&amendments).map_err(Failure::failed)?;
        }
    }
}

/// Prints what changes of a span, and gives it.
fn one(
    span: &Stored,
    pricing: &Pricing,
    providers: &Providers,
    sums: &mut Sums,
) -> Result<Option<Amendment>, Failure> {
    let Some(billed) = Billed::read(&span.line) else {
        sums.left += 1;
        return Ok(None);
    };
    let name = billed.text("gen_ai.provider.name").unwrap_or_default();
    let deployment = billed.text(DEPLOYMENT);
    let asked = deployment.or_else(|| billed.text("gen_ai.request.model"));
    let provider = providers.named(name);
    let query = Query {
        provider: name,
        path: billed.text("url.path").unwrap_or_default(),
        response_model: billed.text("gen_ai.response.model"),
        request_model: asked.map(|asked| provider.map_or(asked, |known| known.model(asked))),
        at: billed.start,
        context: Context {
            service_tier: billed.text("tollgate.service_tier"),
            speed: billed.text("tollgate.speed"),
            region: billed.text("tollgate.region"),
            batch: false,
        },
    };
    let cost = pricing.cost(&query, &billed.usage, &billed.rounds);
    let tariff = pricing.tariff(&query);
    let (Some(cost), Some(tariff)) = (cost, tariff) else {
        sums.unpriced += 1;
        return Ok(None);
    };
    sums.before += billed.cost.unwrap_or_default();
    sums.after += cost;
    if billed.cost == Some(cost) {
        sums.same += 1;
        return Ok(None);
    }
    sums.changed += 1;
    let before = billed
        .cost
        .map_or_else(|| "unknown".to_owned(), |before| before.short().to_string());
    writeln!(
        anstream::stdout(),
        "{}  {name} {}  {before} -> {}  {}",
        billed.text("tollgate.request_id").unwrap_or("-"),
        query.response_model.or(asked).unwrap_or("-"),
        cost.short(),
        tariff.origin()
    )?;
    let line = billed.amended(cost, tariff.version(), SystemClock.wall());
    Ok(Some(Amendment {
        id: span.id,
        cost,
        line,
    }))
}

fn said(sums: &Sums, written: bool) -> Result<(), Failure> {
    let Sums {
        same,
        changed,
        left,
        unpriced,
        before,
        after,
    } = sums;
    let mut out = anstream::stdout().lock();
    writeln!(
        out,
        "{changed} calls cost something else now and {same} the same: {} -> {}",
        before.short(),
        after.short()
    )?;
    if left + unpriced > 0 {
        writeln!(
            out,
            "left alone: {left} whose cost does not follow from counts in the store, {unpriced} \
             without a known price"
        )?;
    }
    let end = match (*changed, written) {
        (0, _) => "Nothing to write.",
        (_, true) => "Written; each span keeps the cost that it had. Budgets stay as they are.",
        (_, false) => "Nothing was written: --write does.",
    };
    Ok(writeln!(out, "{end}")?)
}
