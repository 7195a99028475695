//! `tollgate prices`: what a model costs, and how that is known.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Write as _, stdout},
};

use anstyle::Style;
use clap::Args;
use serde::Serialize;

use super::{Failure, Settings, format::TextFormat, terminal};
use crate::{
    analysis::table::{Column, table},
    app,
    base::{
        clock::{Clock as _, SystemClock, Timestamp},
        money::{PerMillion, Usd},
    },
    call::line::grouped,
    pricing::{Context, Explanation, Price, Prices, Pricing, Query, Unit},
};

/// The arguments of `tollgate prices`.
#[derive(Debug, Args)]
pub(super) struct Command {
    /// The model, as a request or a response names it; without one: whose prices are known
    model: Option<String>,
    /// Of that provider alone
    #[arg(long, value_name = "PROVIDER", requires = "model")]
    provider: Option<String>,
    /// Served in that tier, as the provider's answers name it
    #[arg(long, value_name = "TIER", requires = "model")]
    tier: Option<String>,
    /// Served in that region, as Anthropic's answers name it
    #[arg(long, value_name = "REGION", requires = "model")]
    region: Option<String>,
    /// As part of a batch
    #[arg(long, requires = "model")]
    batch: bool,
    /// At that time, like 2026-11-01T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME", requires = "model")]
    at: Option<jiff::Timestamp>,
    #[command(flatten)]
    settings: Settings,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t = TextFormat::Text)]
    format: TextFormat,
}

/// The price of a model at one provider.
#[derive(Debug, Serialize)]
struct Offer {
    /// Empty: whoever has no price of its own.
    provider: String,
    /// Where the prices come from.
    source: String,
    /// What made these prices of the usual ones: tiers, batches, regions, contracts.
    notes: Vec<String>,
    /// US dollars a million, by unit.
    prices: BTreeMap<&'static str, Entry>,
    /// Everything that the book says, with when it holds.
    in_book: Vec<(String, BTreeMap<&'static str, Entry>)>,
    /// The most output of one choice that is reckoned with, in tokens.
    most_output: u64,
    /// The context window, in tokens.
    window: Option<u64>,
    #[serde(skip)]
    set: Prices,
    #[serde(skip)]
    all: Vec<(String, Prices)>,
}

/// The price of a unit.
#[derive(Debug, Serialize)]
struct Entry {
    per_million: Usd,
    /// Prices of calls with more input tokens than that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    above: Vec<(u64, Usd)>,
}

impl Command {
    pub(super) fn run(self) -> Result<(), Failure> {
        let config = self.settings.load()?.config;
        let pricing = app::pricing(&config).map_err(Failure::wrong)?;
        let Some(model) = &self.model else {
            return summary(&pricing, &config);
        };
        let at = self.at.map_or_else(|| SystemClock.wall(), moment);
        let served = Query {
            request_model: Some(model),
            at,
            context: Context {
                service_tier: self.tier.as_deref(),
                region: self.region.as_deref(),
                batch: self.batch,
                ..Context::default()
            },
            ..Query::default()
        };
        let offers = offers(&pricing, model, self.provider.as_deref(), &served);
        if offers.is_empty() {
            let whose = self
                .provider
                .map_or_else(String::new, |provider| format!(" of {provider}"));
            return Err(Failure::failed(format!(
                "no price is known for {model}{whose}: set one in the configuration, like \
                 `pricing: {{{model}: {{input: 1.00, output: 2.00}}}}`"
            )));
        }
        let mut out = anstream::stdout().lock();
        if self.format == TextFormat::Json {
            let json = serde_json::to_string_pretty(&offers).map_err(Failure::failed)?;
            writeln!(out, "{json}")?;
            return Ok(());
        }
        match offers.as_slice() {
            [only] => write!(out, "{}", detailed(model, only))?,
            several => write!(out, "{}", compared(model, several))?,
        }
        Ok(out.flush()?)
    }
}

/// What is known without asking for a model.
fn summary(pricing: &Pricing, config: &crate::config::Config) -> Result<(), Failure> {
    let mut out = anstream::stdout().lock();
    let own = config.pricing.models.len();
    writeln!(out, "The price book is {}.", pricing.book())?;
    if let Some(trouble) = app::price_trouble(config) {
        writeln!(out, "It is not the latest: {trouble}")?;
    }
    writeln!(
        out,
        "The configuration sets prices of {own} models over it."
    )?;
    writeln!(
        out,
        "Ask for one: tollgate prices gpt-4o [--provider azure]"
    )?;
    Ok(())
}

/// That moment; the epoch for what is before it.
fn moment(at: jiff::Timestamp) -> Timestamp {
    Timestamp::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

/// The prices of calls served like that, of one provider or of all that have the model.
fn offers(
    pricing: &Pricing,
    model: &str,
    provider: Option<&str>,
    served: &Query<'_>,
) -> Vec<Offer> {
    let mut providers = match provider {
        Some(provider) => vec![provider],
        None => pricing.sold_by(model),
    };
    if providers.is_empty() {
        // The configuration may set a price for whoever sells it.
        providers.push("");
    }
    let offer = |provider: &&str| {
        offer(
            pricing,
            &Query {
                provider,
                ..*served
            },
        )
    };
    providers.iter().filter_map(offer).collect()
}

fn offer(pricing: &Pricing, query: &Query<'_>) -> Option<Offer> {
    let Explanation {
        tariff,
        limits,
        in_book,
    } = pricing.explain(query);
    let tariff = tariff?;
    let all = in_book.unwrap_or_default();
    Some(Offer {
        provider: query.provider.to_owned(),
        source: tariff.origin().to_string(),
        notes: tariff.notes().iter().map(ToString::to_string).collect(),
        prices: entries(tariff.prices()),
        in_book: all
            .iter()
            .map(|(when, set)| (when.clone(), entries(set)))
            .collect(),
        most_output: limits.output,
        window: limits.window,
        set: tariff.prices().clone(),
        all,
    })
}

fn entries(prices: &Prices) -> BTreeMap<&'static str, Entry> {
    let entry = |price: &Price| Entry {
        per_million: Usd::from_nanos(price.base().nanos()),
        above: price
            .tiers()
            .iter()
            .map(|(above, price)| (*above, Usd::from_nanos(price.nanos())))
            .collect(),
    };
    prices
        .iter()
        .map(|(unit, price)| (unit.name(), entry(price)))
        .collect()
}

/// One provider: everything.
fn detailed(model: &str, offer: &Offer) -> String {
    let bold = Style::new().bold();
    let whose = match offer.provider.as_str() {
        "" => String::new(),
        provider => format!(" of {provider}"),
    };
    let mut text = format!("{bold}{model}{bold:#}{whose}, US dollars a million tokens\n");
    let rows = offer.set.iter().map(|(unit, price)| {
        let tiers = price.tiers().iter().map(|(above, price)| {
            let price = Usd::from_nanos(price.nanos()).short();
            format!("{price} above {}", grouped(*above))
        });
        vec![
            unit.name().replace('_', " "),
            each(unit, price.base()),
            tiers.collect::<Vec<_>>().join(", "),
        ]
    });
    let columns = [
        Column::text(""),
        Column::number("price"),
        Column::number("for long inputs"),
    ];
    text.push_str(&lines(&columns, &rows.collect::<Vec<_>>()));
    let window = offer.window.map_or_else(|| "not known".to_owned(), grouped);
    let most = grouped(offer.most_output);
    let sources: Vec<&str> = std::iter::once(offer.source.as_str())
        .chain(offer.notes.iter().map(String::as_str))
        .collect();
    let source = sources.join("\nwith     ");
    // Writing to a String cannot fail.
    let _ok = writeln!(
        text,
        "\nfrom     {source}\nlimits   {most} tokens of output, a window of {window}"
    );
    if offer.all.len() > 1 {
        text.push_str("\nThe book also has, by when it holds:\n");
        for (when, set) in &offer.all {
            let price = |unit| {
                set.get(unit)
                    .map(|price| Usd::from_nanos(price.base().nanos()))
            };
            let price =
                |unit| price(unit).map_or_else(|| "-".to_owned(), |one| one.short().to_string());
            let (input, output) = (price(Unit::Input), price(Unit::Output));
            let _ok = writeln!(text, "  {when}: input {input}, output {output}");
        }
    }
    text
}

/// A table as wide as the terminal.
fn lines(columns: &[Column<'_>], rows: &[Vec<String>]) -> String {
    let lines = table(columns, rows, terminal::width(stdout()));
    format!("{}\n", lines.join("\n"))
}

/// A price as it is usually said: tokens by the million, everything else by the thousand.
fn each(unit: Unit, price: PerMillion) -> String {
    let nanos = price.nanos();
    if unit.per() == 1_000 {
        format!("{} a thousand", Usd::from_nanos(nanos / 1_000).short())
    } else {
        Usd::from_nanos(nanos).short().to_string()
    }
}

/// Several providers beside each other.
fn compared(model: &str, offers: &[Offer]) -> String {
    let bold = Style::new().bold();
    let rows = offers.iter().map(|offer| {
        let price = |unit| {
            let price = offer.set.get(unit);
            price.map_or_else(
                || "-".to_owned(),
                |price| {
                    let tiers = if price.tiers().is_empty() { "" } else { "+" };
                    format!("{}{tiers}", Usd::from_nanos(price.base().nanos()).short())
                },
            )
        };
        vec![
            offer.provider.clone(),
            price(Unit::Input),
            price(Unit::CacheRead),
            price(Unit::Output),
            offer.source.clone(),
        ]
    });
    let columns = [
        Column::text("provider"),
        Column::number("input"),
        Column::number("cached"),
        Column::number("output"),
        Column::text("from").spare(1),
    ];
    let rows = lines(&columns, &rows.collect::<Vec<_>>());
    let tiered = offers
        .iter()
        .any(|offer| offer.set.iter().any(|(_, price)| !price.tiers().is_empty()));
    let note = if tiered {
        "\n+ more for long inputs. "
    } else {
        "\n"
    };
    format!(
        "{bold}{model}{bold:#}, US dollars a million tokens\n{rows}{note}Everything about one: --provider \
         NAME\n"
    )
}
