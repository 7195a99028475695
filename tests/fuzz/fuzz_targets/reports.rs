//! Runs `targets/reports.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, reports};

libfuzzer_sys::fuzz_target!(init: targets::sow(reports::seeds), |input: &[u8]| reports::run(input));
