//! The integration tests: one binary, whose modules mirror `src/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::missing_panics_doc,
    clippy::cast_possible_truncation,
    reason = "tests may panic, print and ask for the time"
)]

mod admin;
mod architecture;
mod cli;
mod config;
mod guard;
mod ingest;
mod kubernetes;
mod ledger;
mod mock;
mod net;
mod pipeline;
mod policy;
mod pricing;
mod provider;
mod proxy;
mod store;
mod support;
