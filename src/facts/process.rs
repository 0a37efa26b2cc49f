//! What one process uses, by proc_pid_stat(5) and proc_pid_status(5): the caller names it, we look from outside.
//!
//! Its name, arguments and environment are not looked at. If the process has ended, the facts are absent.

use std::{thread, time::Duration, time::Instant};

use super::memory;
use crate::host::{Host, processes::stat_field};

/// How long the processor time of a process is watched: the kernel counts it in hundredths of a second.
const WINDOW: Duration = Duration::from_secs(1);

/// The process that the facts `process.*` are about.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// Its number in the root's /proc.
    pub pid: u32,
    /// The end of the run. At most half of what is left until then goes into watching.
    pub deadline: Instant,
}

impl Watch {
    /// Processor time per wall-clock time over the next second: 1.0 is one processor all the time. Takes that second,
    /// or half the time until the deadline; absent where that is less than 0.1 s.
    pub fn cpu_usage(&self, host: &Host) -> Option<f64> {
        let window = WINDOW.min(self.deadline.saturating_duration_since(Instant::now()) / 2);
        // In a shorter time, the kernel's hundredths of a second would say nothing.
        if window < WINDOW / 10 {
            return None;
        }
        let (from, (used, start)) = (Instant::now(), self.stat(host)?);
        thread::sleep(window);
        let (elapsed, (used_by_now, start_of_now)) = (from.elapsed().as_secs_f64(), self.stat(host)?);
        // The number may be another process's by now.
        let used = seconds(used_by_now.checked_sub(used)?);
        (start == start_of_now).then(|| rounded(used / elapsed, 1e3))
    }

    /// Resident memory, in bytes.
    pub fn memory(&self, host: &Host) -> Option<u64> {
        memory::bytes(host, &format!("proc/{}/status", self.pid), "VmRSS")
    }

    /// Seconds since it was started, in hundredths.
    pub fn uptime(&self, host: &Host) -> Option<f64> {
        let (_, start) = self.stat(host)?;
        // proc_uptime(5): seconds since the machine was started, then those that it was idle.
        let uptime = duration(host.line("proc/uptime")?.split(' ').next()?)?.as_secs_f64();
        // A container's own /proc/uptime (lxcfs) may be younger than the process.
        Some(rounded(uptime - seconds(start), 1e2)).filter(|age| age.is_finite() && *age >= 0.0)
    }

    fn stat(&self, host: &Host) -> Option<Stat> {
        stat_of(&host.read_or_empty(format!("proc/{}/stat", self.pid), 4096))
    }
}

/// Two values of /proc/PID/stat, in clock ticks. The first is the processor time of all its threads, in user and kernel
/// mode, without that of its children. The second is when it started, counted from the start of the machine.
type Stat = (u64, u64);

/// `None` for a process that has ended.
fn stat_of(stat: &[u8]) -> Option<Stat> {
    let has_ended = matches!(stat_field(stat, 3)?, 'Z' | 'X' | 'x');
    let used = stat_field::<u64>(stat, 14)?.checked_add(stat_field(stat, 15)?)?;
    Some((used, stat_field(stat, 22)?)).filter(|_| !has_ended)
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

fn rounded(value: f64, places: f64) -> f64 {
    (value * places).round() / places
}

/// Reads `2`, `0.25`, `.5` or `3.`; `None` for anything else, signs and exponents included.
pub fn duration(text: &str) -> Option<Duration> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if text == "." || text.is_empty() || !whole.bytes().chain(part.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that is too large counts as endless. It is not read as an f64, whose parser alone has 15 KB.
    let seconds = format!("0{whole}").parse().unwrap_or(u64::MAX);
    Some(Duration::new(seconds, format!("{part:0<9.9}").parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_number_of_seconds() {
        for (text, seconds, nanoseconds) in [
            ("2", 2, 0),
            ("0.25", 0, 250_000_000),
            (".5", 0, 500_000_000),
            ("3.", 3, 0),
            ("007.000000001", 7, 1),
            ("18446744073709551616", u64::MAX, 0),
        ] {
            assert_eq!(duration(text), Some(Duration::new(seconds, nanoseconds)), "{text}");
        }
        for text in ["", ".", "-1", "+1", "1e3", "inf", "1.2.3", "1,5", "2 s", "\u{0662}"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn lines_of_stat() {
        // Real lines of Linux 6.1, with names that are hard to read.
        let line = |name: &str, state: &str| {
            format!(
                "4711 ({name}) {state} 1 4711 4711 0 -1 4194560 7403 80 1 0 120 30 5 6 20 0 9 0 3021 98566144 25600 \
                 18446744073709551615 1 1 0 0 0 0 0 4096 17663 0 0 0 17 1 0 0 0 0 0\n"
            )
        };
        for name in ["memgraph", "a b) S 1 2 (c", "))((", "", "line\nfeed"] {
            assert_eq!(stat_of(line(name, "S").as_bytes()), Some((150, 3021)), "{name:?}");
        }
        for text in [
            line("memgraph", "Z"),
            line("memgraph", "X"),
            "4711 (memgraph) S 1 2 3".to_owned(),
            "4711 memgraph S 1 4711".to_owned(),
            line("memgraph", "S").replace("120", "-1"),
            line("memgraph", "S").replace("120", &u64::MAX.to_string()),
            String::new(),
        ] {
            assert_eq!(stat_of(text.as_bytes()), None, "{text:?}");
        }
    }

    /// Killed with the test.
    struct Child(std::process::Child);

    impl Drop for Child {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_busy_process() {
        let started = Instant::now();
        let child = Child(std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap());
        let watch = Watch { pid: child.0.id(), deadline: started + 60 * WINDOW };
        let host = Host::new(None);
        let stat = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", watch.pid)).unwrap();
            let field = |number: usize| stat.split(' ').nth(number - 1).unwrap().parse::<f64>().unwrap();
            (field(14) + field(15)) / 100.0
        };
        let (from, before) = (Instant::now(), stat());
        let usage = watch.cpu_usage(&host).unwrap();
        let expected = (stat() - before) / from.elapsed().as_secs_f64();
        assert!(expected > 0.0 && (usage - expected).abs() <= 0.2 * expected, "{usage}, not {expected}");
        // proc_pid_statm(5): the second number is the resident pages.
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", watch.pid)).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        let (memory, expected) = (watch.memory(&host).unwrap(), pages * rustix::param::page_size() as u64);
        assert!(memory.abs_diff(expected) <= expected / 5, "{memory}, not {expected}");
        let age = started.elapsed().as_secs_f64();
        let uptime = watch.uptime(&host).unwrap();
        assert!((uptime - age).abs() < 1.0, "{uptime}, not {age}");
    }

    #[test]
    fn without_time_or_a_process_there_is_nothing_to_tell() {
        let (host, mut child) = (Host::new(None), std::process::Command::new("true").spawn().unwrap());
        let (pid, now) = (std::process::id(), Instant::now());
        for deadline in [now + Duration::from_millis(150), now - WINDOW] {
            assert_eq!(Watch { pid, deadline }.cpu_usage(&host), None);
        }
        let gone = Watch { pid: child.id(), deadline: now + 60 * WINDOW };
        child.wait().unwrap();
        assert_eq!((gone.cpu_usage(&host), gone.memory(&host), gone.uptime(&host)), (None, None, None));
    }
}
