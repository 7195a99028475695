//! Fuzz targets of whatever reads bytes that others wrote: beginnings of connections, streams,
//! answers, requests, heads, sockets, compressed bodies, what was said, reports of spans. Each has a
//! file in `targets/` that says what must hold of any input.
//!
//! The modules under test are taken in by their paths, so that they alone are compiled again with
//! the fuzzer's marks, and not the program with all that it is made of. `tests/fuzz/run` builds and
//! runs them.
#![expect(
    dead_code,
    unused_imports,
    reason = "the program uses more of its modules"
)]

#[path = "../../../src/base/mod.rs"]
pub mod base;
#[path = "../../../src/call/mod.rs"]
pub mod call;
#[path = "../../../src/identity/mod.rs"]
pub mod identity;
#[path = "../../../src/ingest/mod.rs"]
pub mod ingest;
#[path = "../../../src/provider/mod.rs"]
pub mod provider;

/// Of sockets, ranges of addresses, and what connections begin with.
#[path = "../../../src/net"]
pub mod net {
    mod cidr;
    pub mod opening;

    pub use cidr::{Cidr, InvalidCidr};
}

/// Of the pipeline, the formats of trace context.
#[path = "../../../src/pipeline"]
pub mod pipeline {
    mod propagation;

    pub use propagation::{Propagation, Send, TraceFormat};
}

/// Of the data plane, what is pure; the targets are within, since its parts are private to it.
#[path = "../../../src/proxy"]
pub mod proxy {
    mod config;
    mod events;
    mod headers;
    mod identify;
    mod trace;

    #[path = "../../tests/fuzz/src/targets/mod.rs"]
    pub mod targets;
}

pub use proxy::targets;
