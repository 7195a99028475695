//! Runs `targets/heads.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, heads};

libfuzzer_sys::fuzz_target!(init: targets::sow(heads::seeds), |input: &[u8]| heads::run(input));
