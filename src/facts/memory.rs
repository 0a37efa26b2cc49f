//! How much memory this machine or a process has, by proc_meminfo(5) and proc_pid_status(5). A container's limit is not
//! looked at.

use crate::host::Host;

/// The value of a line `KEY:  NUMBER kB` of /proc/meminfo or /proc/PID/status, in bytes. A kB there has 1024 bytes.
pub fn bytes(host: &Host, path: &str, key: &str) -> Option<u64> {
    in_text(&String::from_utf8_lossy(&host.read_or_empty(path, 1 << 20)), key)
}

fn in_text(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
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
            assert_eq!((in_text(text, "MemTotal"), in_text(text, "SwapTotal")), (total, swap), "{text:?}");
        }
    }
}
