//! Runs `targets/events.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, events};

libfuzzer_sys::fuzz_target!(init: targets::sow(events::seeds), |input: &[u8]| events::run(input));
