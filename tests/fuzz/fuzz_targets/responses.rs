//! Runs `targets/responses.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, responses};

libfuzzer_sys::fuzz_target!(init: targets::sow(responses::seeds), |input: &[u8]| responses::run(input));
