//! Finding a call's prices, billing it, and bounding what it can cost.

use std::hint::black_box;

use criterion::{Criterion, criterion_group};
use tollgate::{
    base::{clock::Timestamp, money::Usd},
    call::{
        facts::{InputSize, RequestFacts},
        text::Text,
        usage::Usage,
    },
    pricing::{Book, Config, Context, InputBound, Pricing, Query},
};

const QUERY: Query<'static> = Query {
    provider: "openai",
    path: "/v1/chat/completions",
    response_model: Some("gpt-4o-2024-08-06"),
    request_model: Some("gpt-4o"),
    at: Timestamp::from_secs(1_795_000_000),
    context: Context {
        service_tier: Some("default"),
        speed: None,
        region: None,
        batch: false,
    },
};

fn pricing() -> Pricing {
    Pricing::new(&Config::default(), Book::built_in(), &[])
}

fn bill(c: &mut Criterion) {
    let pricing = pricing();
    let usage = Usage {
        cache_read: Some(1_024),
        reasoning: Some(0),
        ..Usage::text(1_500, 300)
    };
    c.bench_function("pricing/look_up_and_bill", |b| {
        b.iter(|| {
            pricing
                .tariff(black_box(&QUERY))
                .map(|tariff| tariff.bill(&usage))
        });
    });
}

fn reserve(c: &mut Criterion) {
    let pricing = pricing();
    let facts = RequestFacts {
        input: InputSize {
            text_bytes: Text::unknown(1_800),
            ..InputSize::default()
        },
        ..RequestFacts::default()
    };
    let budget = Usd::from_nanos(1_000_000_000);
    c.bench_function("pricing/look_up_and_bound", |b| {
        b.iter(|| {
            let limits = pricing.limits(black_box(&QUERY));
            let input = InputBound::of(&facts, &limits, None);
            let tariff = pricing.highest(&QUERY)?;
            Some((
                tariff.worst(&input, 1_000),
                tariff.affordable_output(&input, budget),
            ))
        });
    });
}

fn start(c: &mut Criterion) {
    c.bench_function("pricing/open_the_book", |b| b.iter(Book::built_in));
    c.bench_function("pricing/first_look_up", |b| {
        b.iter_batched_ref(
            pricing,
            |pricing| pricing.tariff(&QUERY),
            criterion::BatchSize::SmallInput,
        );
    });
    let pricing = pricing();
    c.bench_function("pricing/unknown_name", |b| {
        let mut number = 0_u64;
        b.iter(|| {
            number += 1;
            let name = format!("no-such-model-{number}");
            pricing.tariff(&Query {
                response_model: None,
                request_model: Some(&name),
                ..QUERY
            })
        });
    });
}

criterion_group!(benches, bill, reserve, start);
