//! Benches of the functions on the hot path, one file a module.

mod pricing;
mod provider;

criterion::criterion_main!(pricing::benches, provider::benches);
