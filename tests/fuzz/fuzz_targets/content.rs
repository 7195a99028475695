//! Runs `targets/content.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, content};

libfuzzer_sys::fuzz_target!(init: targets::sow(content::seeds), |input: &[u8]| content::run(input));
