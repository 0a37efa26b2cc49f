//! When a record that was not delivered is tried again, pure: times and a random number in, a time out.
//!
//! A fleet that was cut off must not come back as one wave, so the waits double and are drawn at random. They are
//! kept as times of the wall clock, because they must outlive a boot, and the wall clock may be anything: a wait
//! counts only while the clock is between its beginning and its longest possible end.

use std::time::Duration;

const MINUTE: i64 = 60;
const DAY: i64 = 24 * 60 * MINUTE;

/// The first wait; each further one is twice as long. The first retry waits for nothing: a transaction without a
/// network and the next one with it may be a minute apart.
const FIRST_WAIT: i64 = 15 * MINUTE;

/// The longest wait of our own.
const MAX_WAIT: i64 = DAY;

/// The longest wait that a server can ask for. More of it may be drawn at random, so that those who were turned away
/// together do not come back together.
const MAX_PAUSE: i64 = 7 * DAY;

/// How long a record waits before it is given up, in days.
pub const MAX_DAYS: i64 = 90;

/// 2026-01-01: this program is younger, so a clock that is behind it is wrong.
const EARLIEST: i64 = 1_767_225_600;

/// How the attempts to deliver a record went so far. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// How many attempts there were.
    pub attempts: u32,
    /// The first attempt that failed under a clock that may have been right; the record's age counts from here.
    pub since: i64,
    /// The last attempt.
    pub tried: i64,
    /// The next one is not before.
    pub not_before: i64,
    /// The server asked for that wait, so that nobody's wish makes it shorter.
    pub is_asked: bool,
}

/// Who wants a record to be tried now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// The product's own run or an administrator: only a server that asked for a pause is left alone.
    Wished,
    /// A run that is about something else, or a service: every wait counts.
    Passing,
}

/// Why an attempt did not deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// There was no answer, or one that says nothing about when to come back.
    Failed,
    /// 429 (RFC 6585, section 4), or any answer with Retry-After (RFC 9110, section 10.2.3).
    TurnedAway(Option<Duration>),
}

impl Retry {
    /// After one more attempt at `now`; `random` decides on the place within a wait's second half.
    pub fn after(self, setback: Setback, now: i64, random: u32) -> Retry {
        let part = |of: i64| of * i64::from(random) / i64::from(u32::MAX);
        let attempts = self.attempts.saturating_add(1);
        let window = |doublings: u32| FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(MAX_WAIT);
        let (wait, is_asked) = match setback {
            Setback::Failed if attempts == 1 => (0, false),
            Setback::Failed => (half_of(window(attempts - 2), part), false),
            Setback::TurnedAway(None) => (half_of(window(attempts - 1), part), true),
            Setback::TurnedAway(Some(pause)) => {
                let pause = i64::try_from(pause.as_secs()).unwrap_or(i64::MAX).min(MAX_PAUSE);
                (pause + part(pause / 2 + 1), true)
            }
        };
        let is_known = (EARLIEST..=now).contains(&self.since);
        let since = if is_known { self.since } else { now };
        Retry { attempts, since, tried: now, not_before: now.saturating_add(wait), is_asked }
    }

    /// Whether an attempt may be made at `now`. A clock that has been set back, or far ahead, ends the wait.
    pub fn is_due(&self, now: i64, occasion: Occasion) -> bool {
        let end = self.not_before.min(self.tried.saturating_add(2 * MAX_PAUSE));
        let is_waiting = (self.tried..end).contains(&now);
        !is_waiting || (occasion == Occasion::Wished && !self.is_asked)
    }

    /// Whether the record is given up: it was tried once more when its days were over, and that failed as well. What
    /// was made under a wrong clock has never been tried after that, and a clock that jumps once gives nothing up.
    pub fn is_over(&self, now: i64) -> bool {
        (EARLIEST..=self.tried.saturating_sub(MAX_DAYS * DAY)).contains(&self.since) && self.tried <= now
    }

    /// For how many whole days it has been waiting.
    pub fn days(&self, now: i64) -> i64 {
        if self.attempts == 0 { 0 } else { (now.saturating_sub(self.since) / DAY).max(0) }
    }
}

fn half_of(window: i64, part: impl Fn(i64) -> i64) -> i64 {
    window / 2 + part(window / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use Occasion::{Passing, Wished};
    use Setback::{Failed, TurnedAway};

    const NOW: i64 = 1_800_000_000;

    /// A record whose attempts failed at these times, with the shortest waits.
    fn failed_at(times: &[i64]) -> Retry {
        times.iter().fold(Retry::default(), |retry, at| retry.after(Failed, *at, 0))
    }

    #[test]
    fn waits_double_up_to_a_day() {
        let mut retry = Retry::default();
        assert!(retry.is_due(NOW, Passing), "a new record");
        for (attempt, shortest, longest) in [
            (1, 0, 0),
            (2, 450, 900),
            (3, 900, 1800),
            (4, 1800, 3600),
            (8, 28_800, 57_600),
            (9, 43_200, DAY),
            (99, 43_200, DAY),
        ] {
            while retry.attempts + 1 < attempt {
                retry = retry.after(Failed, NOW, 0);
            }
            for (random, wait) in [(0, shortest), (u32::MAX, longest)] {
                let after = retry.after(Failed, NOW, random);
                assert_eq!(after.not_before - NOW, wait, "attempt {attempt}");
                assert!(wait == 0 || !after.is_due(NOW + wait - 1, Passing), "attempt {attempt}");
                assert!(after.is_due(NOW + wait, Passing), "attempt {attempt}");
                assert!(after.is_due(NOW, Wished), "attempt {attempt}: a wait of our own");
            }
        }
    }

    #[test]
    fn a_server_that_asks_for_a_pause_has_it() {
        let pause = |seconds| Retry::default().after(TurnedAway(seconds), NOW, 0);
        for (what, retry, until) in [
            ("429 alone", pause(None), 450),
            ("a minute", pause(Some(Duration::from_secs(60))), 60),
            ("a year", pause(Some(Duration::from_secs(365 * 86_400))), MAX_PAUSE),
            ("no end", pause(Some(Duration::MAX)), MAX_PAUSE),
        ] {
            for occasion in [Wished, Passing] {
                assert!(!retry.is_due(NOW + until - 1, occasion), "{what}");
                assert!(retry.is_due(NOW + until, occasion), "{what}");
            }
        }
        // Those who were turned away together come back apart, and none of them too early.
        let latest = Retry::default().after(TurnedAway(Some(Duration::from_secs(60))), NOW, u32::MAX);
        assert_eq!(latest.not_before, NOW + 91);
    }

    #[test]
    fn a_clock_that_jumps_blocks_nothing() {
        let (in_1969, in_2200) = (-86_400, 7_258_118_400);
        for (what, before, now) in [
            ("from 2200 to now", in_2200, NOW),
            ("from now to 2200", NOW, in_2200),
            ("from 1969 to now", in_1969, NOW),
            ("from now to 1969", NOW, in_1969),
            ("an hour back", NOW, NOW - 3600),
        ] {
            let retry = failed_at(&[before, before, before, before]);
            assert!(retry.is_due(now, Passing), "{what}");
            assert!(!retry.is_over(now), "{what}");
        }
        // Nor does a file that somebody has edited.
        for not_before in [i64::MAX, i64::MIN] {
            let retry = Retry { not_before, tried: NOW, attempts: 1, since: NOW, is_asked: true };
            assert!(retry.is_due(NOW + 15 * DAY, Passing));
        }
        let odd = Retry { attempts: u32::MAX, since: i64::MIN, tried: i64::MAX, not_before: i64::MIN, is_asked: false };
        let oldest = Retry { since: i64::MIN, tried: i64::MIN, ..odd };
        assert!(!oldest.is_over(NOW) && oldest.days(NOW) > 0);
        assert!(odd.is_due(NOW, Passing) && !odd.is_over(NOW));
        assert_eq!(odd.after(Failed, i64::MAX, u32::MAX).attempts, u32::MAX);
    }

    #[test]
    fn ninety_days_and_a_last_attempt() {
        let (early, late) = (NOW + 89 * DAY, NOW + 91 * DAY);
        for (what, retry, now, is_over) in [
            ("never tried", Retry::default(), late, false),
            ("tried long ago", failed_at(&[NOW]), late, false),
            ("tried again in time", failed_at(&[NOW, early]), late, false),
            ("tried again too late", failed_at(&[NOW, early, late]), late, true),
            ("made in 1970", failed_at(&[0, NOW]), NOW, false),
            ("made in 1970 and 90 days old since", failed_at(&[0, NOW, late]), late, true),
            ("made in 2200", failed_at(&[7_258_118_400, NOW]), NOW, false),
            ("a visit to 2200", failed_at(&[NOW, 7_258_118_400]), NOW + DAY, false),
        ] {
            assert_eq!(retry.is_over(now), is_over, "{what}");
        }
        assert_eq!(failed_at(&[NOW]).days(late), 91);
        assert_eq!(Retry::default().days(late), 0);
    }

    /// 100,000 machines that install at the same moment or over an hour, an hour without a receiver, and a service that
    /// looks every minute: what the receiver gets in its worst minute after that. ARCHITECTURE.md has the figures.
    #[test]
    fn a_fleet_that_was_cut_off_does_not_come_back_as_one_wave() {
        const MACHINES: usize = 100_000;
        let outage_ends = NOW + 60 * MINUTE;
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            // xorshift64: good enough here, and the same in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        };
        for (what, spread) in [("all in one minute", MINUTE), ("over the hour", 60 * MINUTE)] {
            let mut arrivals: Vec<usize> = Vec::new();
            let mut attempts = 0;
            for _ in 0..MACHINES {
                let mut at = NOW + i64::from(random()) * spread / i64::from(u32::MAX);
                let mut retry = Retry::default();
                while at < outage_ends {
                    retry = retry.after(Failed, at, random());
                    attempts += 1;
                    at += MINUTE;
                    while !retry.is_due(at, Passing) {
                        at += MINUTE;
                    }
                }
                let minute = usize::try_from((at - outage_ends) / MINUTE).unwrap();
                arrivals.resize(arrivals.len().max(minute + 1), 0);
                arrivals[minute] += 1;
            }
            let mut sum = 0;
            let busy = arrivals.iter().take_while(|count| {
                let goes_on = sum < MACHINES * 99 / 100;
                sum += **count;
                goes_on
            });
            let minutes = busy.count();
            let peak = *arrivals.iter().max().unwrap();
            let mean = MACHINES / minutes;
            println!(
                "installed {what}: 99 % within {minutes} minutes, {mean} a minute in the mean, {peak} in the worst \
                 ({:.1} times), {:.1} attempts a machine before that",
                peak as f64 / mean as f64,
                attempts as f64 / MACHINES as f64
            );
            assert_eq!(arrivals.iter().sum::<usize>(), MACHINES);
            assert!(peak <= 4 * mean, "{what}: {peak} against {mean}");
        }
    }
}
