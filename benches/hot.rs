//! Benches of the functions on the hot path, one file a module.

mod pricing;

criterion::criterion_main!(pricing::benches);
