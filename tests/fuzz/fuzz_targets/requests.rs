//! Runs `targets/requests.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, requests};

libfuzzer_sys::fuzz_target!(init: targets::sow(requests::seeds), |input: &[u8]| requests::run(input));
