#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    spacepanda_core::fuzzing::feed("head", input);
});
