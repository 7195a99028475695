//! Runs `targets/sockets.rs`.
#![no_main]

use tollgate_fuzz::targets::{self, sockets};

libfuzzer_sys::fuzz_target!(init: targets::sow(sockets::seeds), |input: &[u8]| sockets::run(input));
