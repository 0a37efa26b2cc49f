//! Which processors this machine has, by proc_cpuinfo(5), whose keys are every architecture's own.
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
        let bytes = host.read("proc/cpuinfo", MAX_CPUINFO).bytes().unwrap_or_default();
        Cpu::parse(&String::from_utf8_lossy(&bytes))
    }

    /// Reads `KEY : VALUE` lines; others are passed over.
    pub fn parse(text: &str) -> Cpu {
        // The rank of the key and the value.
        let mut model: Option<(usize, &str)> = None;
        let (mut count, mut implementer, mut part, mut machine) = (0, None, None, None);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else { continue };
            let (key, value) = (key.trim(), value.trim());
            if let Some(rank) = MODEL_KEYS.iter().position(|known| *known == key) {
                if !value.is_empty() && model.is_none_or(|(known, _)| rank < known) {
                    model = Some((rank, value));
                }
                continue;
            }
            match key {
                "processor" if is_number(value) => count += 1,
                "CPU implementer" => implementer = implementer.or(Some(value)),
                "CPU part" => part = part.or(Some(value)),
                // s390: `processor 0: version = FF,  identification = 2733E8,  machine = 2964`
                _ if key.strip_prefix("processor ").is_some_and(is_number) => {
                    count += 1;
                    let fields = || value.split(',').map(str::trim);
                    machine = machine.or_else(|| fields().find_map(|field| field.strip_prefix("machine = ")));
                }
                _ => {}
            }
        }
        // 64-bit ARM has no model, only the numbers that Arm gave its maker and its design (MIDR_EL1). They say as
        // much as a name, and need no table of names that ages.
        let numbers = || Some(format!("ARM implementer {} part {}", implementer?, part?));
        let model = model.map(|(_, model)| model.to_owned());
        let model = model.or_else(|| machine.map(|machine| format!("IBM machine {machine}"))).or_else(numbers);
        Cpu { model, count: (count > 0).then_some(count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: &str, text: &str, model: Option<&str>, count: Option<u64>) {
        assert_eq!(Cpu::parse(text), Cpu { model: model.map(str::to_owned), count }, "{what}");
    }

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
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cpuinfo/");
            check(file, &std::fs::read_to_string(path.to_owned() + file).unwrap(), Some(model), Some(count));
        }
    }

    #[test]
    fn hard_texts() {
        let thousand: String = (0..1000).map(|n| format!("processor\t: {n}\nmodel name\t: EPYC {n}\n\n")).collect();
        check("1000 processors", &thousand, Some("EPYC 0"), Some(1000));
        check("empty", "", None, None);
        check("no values", "processor\t:\nmodel name\t:\n: :\n\n::\nprocessor", None, None);
        check("the first has none", "model name :\nmodel name : x\n", Some("x"), None);
        check(
            "garbage",
            "\0\u{fffd}\nprocessor x: machine = 1\nprocessor : -1\nmodel\t: 85\nCPU part : 0x1\n",
            None,
            None,
        );
    }
}
