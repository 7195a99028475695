//! Runs `targets/decoders.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, decoders};

libfuzzer_sys::fuzz_target!(init: targets::sow(decoders::seeds), |input: &[u8]| decoders::run(input));
