//! Benches of the functions on the hot path, one file a module.
#![expect(
    missing_docs,
    reason = "what criterion's macros make has no place for them"
)]

mod pricing;

criterion::criterion_main!(pricing::benches);
