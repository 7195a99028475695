//! Certificates for hosts whose connections are opened.
#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::{hint::black_box, sync::Arc};

use criterion::{Criterion, criterion_group};
use tollgate::{
    base::clock::{Clock as _, SystemClock},
    net::authority::{Authority, Leaves, Terms},
};

fn leaf(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let hosts = ["api.openai.com", "*.openai.azure.com"];
    let terms = Terms::of(hosts).unwrap();
    let authority = Authority::create(dir.path(), &terms, &[], SystemClock.wall()).unwrap();
    criterion.bench_function("net: a new leaf", |bencher| {
        let now = SystemClock.wall();
        bencher.iter(|| authority.leaf(black_box("api.openai.com"), now).unwrap());
    });
    let leaves = Leaves::new(authority, 1_024, Arc::new(SystemClock));
    criterion.bench_function("net: a leaf that is kept", |bencher| {
        bencher.iter(|| leaves.get(black_box("api.openai.com")).unwrap());
    });
    let mut number = 0_u64;
    criterion.bench_function("net: a new leaf in the place of one of 1,024", |bencher| {
        bencher.iter(|| {
            number += 1;
            leaves.get(&format!("n{number}.openai.azure.com")).unwrap()
        });
    });
}

criterion_group!(benches, leaf);
