#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| confide_fuzz::run("server_name", bytes));
