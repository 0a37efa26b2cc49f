//! Which processors this machine has, by proc_cpuinfo(5). Its keys differ between architectures.
//!
//! Only the keys below are looked at. The same file has serial numbers: `Serial` on ARM boards, `identification` in
//! the lines of s390.

use crate::host::Host;

/// 8192 processors, the most that a kernel is built for, at 2 KB each.
const MAX_CPUINFO: usize = 16 << 20;

/// Keys whose value is a model, the best first: x86; LoongArch; old kernels on ARM; MIPS; POWER; RISC-V.
const MODEL_KEYS: [&str; 6] = ["model name", "Model Name", "Processor", "cpu model", "cpu", "uarch"];

/// What /proc/cpuinfo tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// The first processor's model, in the kernel's words.
    pub model: Option<String>,
    /// Logical processors that are online.
    pub count: Option<u64>,
}

impl Cpu {
    /// This machine's.
    pub fn of(host: &Host) -> Cpu {
        Cpu::parse(&String::from_utf8_lossy(&host.read_or_empty("proc/cpuinfo", MAX_CPUINFO)))
    }

    /// Reads `KEY : VALUE` lines; others are passed over.
    pub fn parse(text: &str) -> Cpu {
        let pairs = || text.lines().filter_map(|line| line.split_once(':'));
        let lines = || pairs().map(|(key, value)| (key.trim(), value.trim())).filter(|(_, value)| !value.is_empty());
        let first = |key: &str| lines().find(|(known, _)| *known == key).map(|(_, value)| value);
        // s390 has the number in the key: `processor 0: version = FF,  identification = 2733E8,  machine = 2964`
        let is_processor = |key: &str| key.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end() == "processor";
        let processors = || lines().filter(|(key, _)| is_processor(key)).map(|(_, value)| value);
        let machine = || processors().find_map(|value| value.split("machine = ").nth(1)?.split(',').next());
        // 64-bit ARM has no model, only the numbers that Arm gave its maker and its design (MIDR_EL1). They say as much
        // as a name, and need no table of names that goes out of date.
        let arm = || Some(format!("ARM implementer {} part {}", first("CPU implementer")?, first("CPU part")?));
        let model = MODEL_KEYS.iter().find_map(|key| first(key)).map(str::to_owned);
        let model = model.or_else(|| machine().map(|machine| format!("IBM machine {machine}"))).or_else(arm);
        Cpu { model, count: Some(processors().count() as u64).filter(|count| *count > 0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[test]
    fn real_files() {
        for (file, model, count) in [
            ("x86_64-intel", "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", 2),
            ("x86_64-amd", "AMD EPYC 7571", 2),
            ("x86_64-kvm", "Intel(R) Xeon(R) Processor", 2),
            ("aarch64-graviton2", "ARM implementer 0x41 part 0xd0c", 2),
            ("aarch64-raspberry-pi", "ARM implementer 0x41 part 0xd08", 4),
            ("armv7l-raspberry-pi", "ARMv7 Processor rev 3 (v7l)", 4),
            ("armv7l-allwinner", "ARMv7 Processor rev 5 (v7l)", 2),
            ("ppc64le", "POWER9 (architected), altivec supported", 2),
            ("ppc64", "POWER7 (architected), altivec supported", 6),
            ("s390x", "IBM machine 2964", 4),
            ("riscv64", "sifive,u74-mc", 2),
            ("loongarch64", "Loongson-3A5000", 2),
            ("mips64-loongson", "Loongson-3A R3 (Loongson-3B3000) @ 1450MHz @ 1450MHz", 1),
        ] {
            let path = format!("{}/tests/cpuinfo/{file}", env!("CARGO_MANIFEST_DIR"));
            let found = Cpu::parse(&std::fs::read_to_string(path).unwrap());
            assert_eq!(found, Cpu { model: Some(model.to_owned()), count: Some(count) }, "{file}");
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
            assert_eq!(Cpu::parse(text), Cpu { model: model.map(str::to_owned), count }, "{text}");
        }
    }
}
