//! Pending records and receipts: a file that is one of ours is written back with the same meaning.
#![no_main]

use install_record::ledger::{Pending, Receipt};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let pending = Pending::from_bytes(data);
    if let Some(pending) = &pending {
        let again = Pending::from_bytes(&pending.to_bytes()).expect("one of ours");
        assert_eq!(again.record, pending.record);
        // What was never tried has no history, whatever the file says of it.
        assert!(again.retry == pending.retry || pending.retry.attempts == 0);
    }
    if let Some(receipt) = Receipt::from_bytes(data) {
        assert_eq!(Some(&receipt.record), pending.as_ref().map(|it| &it.record));
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()), Some(receipt));
    }
});
