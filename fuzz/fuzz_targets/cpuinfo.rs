//! /proc/cpuinfo: what is read is in the file, and a serial number in it changes nothing.
#![no_main]

use install_record::facts::cpu::{count, model};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (first, all) = (model(&text), count(&text));
    if let Some(model) = &first {
        let made = model.starts_with("ARM implementer ");
        assert!(!model.is_empty() && (made || text.contains(model.as_str())), "{model:?}");
    }
    assert!(all.unwrap_or(0) <= text.lines().count() as u64);

    let with_serial = format!("Serial\t\t: 00000000c0ffee\n{text}\nSerial\t\t: 00000000c0ffee\n");
    assert_eq!((model(&with_serial), count(&with_serial)), (first.clone(), all));

    // One board more has as many processors again, and the first one's model still counts.
    let twice = format!("{text}\n{text}");
    assert_eq!((model(&twice), count(&twice)), (first, all.map(|count| 2 * count)));
});
