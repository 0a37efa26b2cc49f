//! Which processors this machine has, by proc_cpuinfo(5). Its keys differ between architectures: x86 and ARM are known.
//!
//! Only the keys below are looked at. On ARM boards, the same file has a serial number.

use crate::host::Host;

/// 8192 processors, the most that a kernel is built for, at 2 KB each.
const MAX_CPUINFO: usize = 16 << 20;

/// What /proc/cpuinfo says.
pub fn text(host: &Host) -> String {
    String::from_utf8_lossy(&host.read_or_empty("proc/cpuinfo", MAX_CPUINFO)).into_owned()
}

/// The first processor's model, in the kernel's words. 64-bit ARM has none, only the numbers that Arm gave its maker and
/// its design (MIDR_EL1). They say as much as a name, and need no table of names that goes out of date.
pub fn model(text: &str) -> Option<String> {
    let first = |key| values(text, key).next();
    let arm = || Some(format!("ARM implementer {} part {}", first("CPU implementer")?, first("CPU part")?));
    first("model name").map(str::to_owned).or_else(arm)
}

/// Logical processors that are online.
pub fn count(text: &str) -> Option<u64> {
    Some(values(text, "processor").count() as u64).filter(|count| *count > 0)
}

/// The values of the lines `KEY : VALUE` with this key; empty ones are passed over.
fn values<'t>(text: &'t str, key: &str) -> impl Iterator<Item = &'t str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    let values = pairs.filter(move |(known, _)| known.trim() == key).map(|(_, value)| value.trim());
    values.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn real_files() {
        for (file, model, count) in [
            ("x86_64-intel", "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", 2),
            ("x86_64-amd", "AMD EPYC 7571", 2),
            ("x86_64-kvm", "Intel(R) Xeon(R) Processor", 2),
            ("aarch64-graviton2", "ARM implementer 0x41 part 0xd0c", 2),
            ("aarch64-raspberry-pi", "ARM implementer 0x41 part 0xd08", 4),
        ] {
            let path = format!("{}/tests/cpuinfo/{file}", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).unwrap();
            assert_eq!((super::model(&text).as_deref(), super::count(&text)), (Some(model), Some(count)), "{file}");
        }
    }

    #[test]
    fn hard_texts() {
        let thousand: String = (0..1000).map(|n| format!("processor\t: {n}\nmodel name\t: EPYC {n}\n\n")).collect();
        for (text, model, count) in [
            (&*thousand, Some("EPYC 0"), Some(1000)),
            ("", None, None),
            ("processor\t:\nmodel name\t:\n: :\n\n::\nprocessor", None, None),
            ("model name :\nmodel name : x\n", Some("x"), None),
            ("\0\u{fffd}\nprocessor x: machine = 1\nmodel\t: 85\nCPU part : 0x1\n", None, None),
        ] {
            assert_eq!((super::model(text).as_deref(), super::count(text)), (model, count), "{text}");
        }
    }
}
