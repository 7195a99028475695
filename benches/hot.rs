//! Benches of the functions on the hot path, one file a module.

mod net;
mod pipeline;
mod policy;
mod pricing;
mod provider;

criterion::criterion_main!(
    net::benches,
    pipeline::benches,
    policy::benches,
    pricing::benches,
    provider::benches
);
