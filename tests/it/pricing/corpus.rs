//! The bills of recorded exchanges, to the nano-dollar.

use std::{
    io::{Read as _, Write as _},
    path::PathBuf,
};

use serde::Deserialize;
use serde_json::Value;
use tollgate::{
    base::{clock::Timestamp, money::Usd},
    call::usage::Usage,
    pricing::{Book, Config, Context, Pricing, Query},
};

#[derive(Deserialize)]
struct Exchange {
    id: String,
    provider: String,
    url: String,
    recorded_at: Option<String>,
    expected: Expected,
}

#[derive(Deserialize)]
struct Expected {
    request_model: Option<String>,
    response_model: Option<String>,
    cost: Option<Cost>,
    #[serde(flatten)]
    fields: Value,
}

#[derive(Deserialize)]
struct Cost {
    usd: Option<String>,
    usd_standard: Option<String>,
    usd_at_recorded_at: Option<String>,
    provider_id: Option<String>,
    price_context: Option<Value>,
    null_reason: Option<String>,
    usage: Option<Value>,
}

/// The instant at which the corpus prices everything: 2026-11-15T12:00:00Z.
const PRICED_AT: &str = "2026-11-15T12:00:00Z";

#[test]
fn every_recorded_bill_is_met_to_the_nano_dollar() {
    let Some(exchanges) = exchanges() else { return };
    let pricing = Pricing::new(&Config::default(), Book::built_in(), &[]);
    let mut wrong = Vec::new();
    let (mut priced, mut dated, mut unpriced) = (0, 0, 0);
    for exchange in &exchanges {
        let Some(cost) = &exchange.expected.cost else {
            continue;
        };
        let Some(usage) = &cost.usage else { continue };
        // A response that bills several models has no single usage: its parser must say so.
        if cost
            .null_reason
            .as_deref()
            .is_some_and(|reason| reason.starts_with("usage.iterations"))
        {
            continue;
        }
        let usage = usage_of(usage);
        let bill = |context, at: &str| {
            let query = query(exchange, context, at);
            let tariff = pricing.tariff(&query)?;
            tariff.bill(&usage).ok()
        };
        let served = context(cost.price_context.as_ref());
        let mut compare = |what, found: Option<Usd>, wanted: &Option<String>| {
            let wanted = wanted.as_deref().map(rounded);
            if found != wanted {
                let reason = cost.null_reason.as_deref().unwrap_or_default();
                wrong.push(format!(
                    "{} {what}: {found:?}, wanted {wanted:?} {reason}",
                    exchange.id
                ));
            }
        };
        compare("usd", bill(served, PRICED_AT), &cost.usd);
        compare(
            "usd_standard",
            bill(Context::default(), PRICED_AT),
            &cost.usd_standard,
        );
        if let (Some(at), Some(_)) = (&exchange.recorded_at, &cost.usd_at_recorded_at) {
            compare(
                "usd_at_recorded_at",
                bill(served, at),
                &cost.usd_at_recorded_at,
            );
            dated += 1;
        }
        priced += usize::from(cost.usd.is_some());
        unpriced += usize::from(cost.usd.is_none());
    }
    println!("{priced} bills, {dated} at the date of the recording, {unpriced} unknown");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(priced > 1_000 && dated > 500 && unpriced > 10);
}

/// As above, from the counts that a parser of ours must find: those of the dialects that are built.
#[test]
fn the_expected_counts_give_the_recorded_bill() {
    let Some(exchanges) = exchanges() else { return };
    let pricing = Pricing::new(&Config::default(), Book::built_in(), &[]);
    let (mut compared, mut wrong) = (0, Vec::new());
    for exchange in &exchanges {
        let Some(cost) = &exchange.expected.cost else {
            continue;
        };
        let count = |name| count(&exchange.expected.fields, name);
        let (Some(usd), Some(_)) = (&cost.usd, count("input_tokens")) else {
            continue;
        };
        // The corpus expects no counts of images and the like, which a few models price apart.
        let apart = [
            "input_image",
            "output_image",
            "input_video",
            "cache_image_read",
            "cache_audio_read",
        ];
        let priced = cost.usage.as_ref();
        let apart = apart
            .iter()
            .filter_map(|part| priced?.get(format!("{part}_tokens"))?.as_u64());
        if apart.sum::<u64>() > 0 {
            continue;
        }
        let usage = Usage {
            input: count("input_tokens"),
            cache_read: count("cached_input_tokens"),
            cache_write: count("cache_write_tokens"),
            cache_write_5m: count("cache_write_5m_tokens"),
            cache_write_1h: count("cache_write_1h_tokens"),
            input_audio: count("input_audio_tokens"),
            output: count("output_tokens"),
            reasoning: count("reasoning_tokens"),
            output_audio: count("output_audio_tokens"),
            web_searches: count("web_search_requests"),
            ..Usage::NONE
        };
        let query = query(exchange, context(cost.price_context.as_ref()), PRICED_AT);
        let bill = pricing
            .tariff(&query)
            .and_then(|tariff| tariff.bill(&usage).ok());
        if bill != Some(rounded(usd)) {
            wrong.push(format!(
                "{} {}: {bill:?}, wanted {usd}",
                exchange.id, exchange.provider
            ));
        }
        compared += 1;
    }
    println!("{compared} bills from the expected counts");
    assert!(
        wrong.is_empty(),
        "{} differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(compared > 1_000);
}

/// The corpus, or `None`, loudly, where it is not there.
fn exchanges() -> Option<Vec<Exchange>> {
    let directory = std::env::var("TOLLGATE_CORPUS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"),
        PathBuf::from,
    );
    let path = directory.join("exchanges.jsonl.gz");
    let Ok(file) = std::fs::File::open(&path) else {
        // Not by a macro: what those print is only shown when the test fails.
        let line = format!(
            "NOT TESTED: no corpus at {} (set TOLLGATE_CORPUS)\n",
            path.display()
        );
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return None;
    };
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    Some(
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
    )
}

fn query<'a>(exchange: &'a Exchange, context: Context<'a>, at: &str) -> Query<'a> {
    let cost = exchange.expected.cost.as_ref();
    let provider = match exchange.provider.as_str() {
        "google" => "gemini",
        "google_vertex" => "vertex",
        // Hosts that are not built in are added under the names that the book has for them.
        "bedrock_mantle" => "bedrock",
        "voyage" => "voyageai",
        "pydantic_gateway" => cost
            .and_then(|cost| cost.provider_id.as_deref())
            .unwrap_or(""),
        other => other,
    };
    let at: jiff::Timestamp = at.parse().unwrap();
    Query {
        provider,
        path: exchange.url.split_once('/').map_or("", |(_, path)| path),
        response_model: exchange.expected.response_model.as_deref(),
        request_model: exchange.expected.request_model.as_deref(),
        at: Timestamp::from_nanos(at.as_nanosecond().try_into().unwrap()),
        context,
    }
}

fn context(recorded: Option<&Value>) -> Context<'_> {
    let field = |name| recorded.and_then(|context| context.get(name)?.as_str());
    Context {
        service_tier: field("service_tier"),
        speed: field("speed"),
        batch: field("processing") == Some("batch"),
        ..Context::default()
    }
}

fn usage_of(counts: &Value) -> Usage {
    let count = |name| count(counts, name);
    Usage {
        input: count("input_tokens"),
        cache_read: count("cache_read_tokens"),
        cache_write: count("cache_write_tokens"),
        cache_write_5m: count("cache_write_5m_tokens"),
        cache_write_1h: count("cache_write_1h_tokens"),
        input_audio: count("input_audio_tokens"),
        input_image: count("input_image_tokens"),
        input_video: count("input_video_tokens"),
        cache_audio_read: count("cache_audio_read_tokens"),
        cache_image_read: count("cache_image_read_tokens"),
        output: count("output_tokens"),
        reasoning: count("output_reasoning_tokens"),
        output_audio: count("output_audio_tokens"),
        output_image: count("output_image_tokens"),
        output_video: count("output_video_tokens"),
        citation: count("output_citation_tokens"),
        web_searches: count("web_searches"),
        file_searches: count("storage_searches"),
        audio_seconds: count("audio_seconds"),
        characters: count("input_characters"),
        images: None,
        search_units: count("rerank_searches"),
        seen_input: None,
        seen_output: None,
    }
}

/// A count, which Cohere writes as a float.
fn count(counts: &Value, name: &str) -> Option<u64> {
    let value = counts.get(name)?;
    let whole = value.as_f64().filter(|number| number.fract() == 0.0);
    value.as_u64().or_else(|| whole?.to_string().parse().ok())
}

/// A decimal amount rounded to the nano-dollar, half to even.
fn rounded(text: &str) -> Usd {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (nine, rest) = fraction.split_at_checked(9).unwrap_or((fraction, ""));
    let down: Usd = format!("{whole}.{nine}")
        .trim_end_matches('.')
        .parse()
        .unwrap();
    let half = format!("{:0<width$}", "5", width = rest.len().max(1));
    let up = match rest.cmp(&*half) {
        _ if rest.is_empty() => 0,
        std::cmp::Ordering::Less => 0,
        std::cmp::Ordering::Equal => down.nanos() & 1,
        std::cmp::Ordering::Greater => 1,
    };
    down + Usd::from_nanos(up)
}
