//! How much memory this machine has, by proc_meminfo(5). A container's limit is not looked at.

use crate::host::Host;

/// The memory and swap of a machine, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Usable RAM, as the kernel counts it.
    pub total: Option<u64>,
    /// Swap space; 0 is none.
    pub swap: Option<u64>,
}

impl Memory {
    /// This machine's.
    pub fn of(host: &Host) -> Memory {
        let bytes = host.read("proc/meminfo", 64 << 10).bytes().unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Memory { total: bytes_of(&text, "MemTotal"), swap: bytes_of(&text, "SwapTotal") }
    }
}

/// The value of a line `KEY:  NUMBER kB` of /proc/meminfo and /proc/PID/status, in bytes: these kB have 1024.
pub fn bytes_of(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = values.next()?.trim().strip_suffix("kB")?;
    number.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_meminfo() {
        // The head of a real one, Linux 6.1.
        const REAL: &str = "MemTotal:       24684112 kB\nMemFree:        19571960 kB\nSwapCached:            0 kB\n\
            SwapTotal:       2097148 kB\nSwapFree:              0 kB\nHugePages_Total:       0\n";
        for (text, total, swap) in [
            (REAL, Some(24_684_112 * 1024), Some(2_097_148 * 1024)),
            ("MemTotal: 16384000 kB\nSwapTotal: 0 kB\n", Some(16_777_216_000), Some(0)),
            ("SwapTotal:2097152kB", None, Some(2_147_483_648)),
            ("XMemTotal: 1 kB\nMemTotalX: 1 kB\n MemTotal: 1 kB\n", None, None),
            ("MemTotal: -1 kB\nSwapTotal: 1.5 kB\n", None, None),
            ("MemTotal: 18446744073709551615 kB\nSwapTotal: 99999999999999999999 kB\n", None, None),
            ("MemTotal: 1 MB\nSwapTotal: kB\n", None, None),
            ("", None, None),
        ] {
            assert_eq!((bytes_of(text, "MemTotal"), bytes_of(text, "SwapTotal")), (total, swap), "{text:?}");
        }
    }
}
