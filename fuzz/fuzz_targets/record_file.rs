//! Pending records and receipts: a file that is one of ours is written back with the same meaning.
#![no_main]

use install_record::ledger::{Receipt, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let record = Record::from_bytes(data);
    if let Some(record) = &record {
        assert_eq!(Record::from_bytes(&record.to_bytes()).as_ref(), Some(record));
    }
    if let Some(receipt) = Receipt::from_bytes(data) {
        assert_eq!(Some(&receipt.record), record.as_ref());
        assert_eq!(Receipt::from_bytes(&receipt.to_bytes()), Some(receipt));
    }
});
