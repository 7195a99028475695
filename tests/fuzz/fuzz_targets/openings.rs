//! Runs `targets/openings.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, openings};

libfuzzer_sys::fuzz_target!(init: targets::sow(openings::seeds), |input: &[u8]| openings::run(input));
