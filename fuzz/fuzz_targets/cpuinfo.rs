//! /proc/cpuinfo: what is read is in the file, and a serial number in it changes nothing.
#![no_main]

use install_record::facts::cpu::Cpu;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let cpu = Cpu::parse(&text);
    if let Some(model) = &cpu.model {
        let made = ["IBM machine ", "ARM implementer "].iter().any(|start| model.starts_with(start));
        assert!(!model.is_empty() && (made || text.contains(model.as_str())), "{model:?}");
    }
    assert!(cpu.count.unwrap_or(0) <= text.lines().count() as u64);

    let with_serial = format!("Serial\t\t: 00000000c0ffee\n{text}\nSerial\t\t: 00000000c0ffee\n");
    assert_eq!(Cpu::parse(&with_serial), cpu);

    // One board more has as many processors again, and the first one's model still counts.
    let twice = Cpu::parse(&format!("{text}\n{text}"));
    assert_eq!((&twice.model, twice.count), (&cpu.model, cpu.count.map(|count| 2 * count)));
});
