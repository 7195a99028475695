//! Benches of the functions on the hot path.

fn main() {}
