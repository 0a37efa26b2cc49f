//! What a name server may answer: the addresses in it, and nothing is read that is not there.
#![no_main]

use install_record::courier::names::addresses;
use libfuzzer_sys::fuzz_target;

const QUERY: &[u8] = b"\x07\x08\x01\0\0\x01\0\0\0\0\0\0\x05check\x07example\0\0\x01\0\x01";

fuzz_target!(|data: &[u8]| {
    let found = addresses(data, QUERY);
    if let Some(Ok(found)) = found {
        // Each takes 14 bytes at least.
        assert!(found.len() * 14 <= data.len());
    }
});
