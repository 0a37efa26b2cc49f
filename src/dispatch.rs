//! Starts the courier, listens to it, and ends it at the deadline.
//!
//! Each record has a courier of its own. Whatever happens to it, `deliver` returns at the deadline, and the courier is
//! gone by then. The parent only moves bytes and waits in poll(2). It parses nothing but the courier's own lines, and
//! takes no more of them than an honest courier needs. The courier inherits three pipes and nothing else.

use std::process::{Child, ChildStdout, Command, Stdio};
use std::{io, io::Read, io::Write, time::Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::courier::message::{Delivery, Frame, Job, Phase};
use crate::{consent::Permit, courier, kernel, outcome::Reporter};

/// The longest line that a courier may write, in bytes. An answer of 1 KiB fits, however it is escaped.
pub const MAX_LINE: usize = 16 << 10;

/// The most lines that an honest courier writes: a note on its sandbox, each phase, and the end.
const MAX_LINES: usize = 8;

const NO_MESSAGE: &str = "the courier sent an invalid line";

/// Has a courier do the job, and tells how that ended.
pub fn deliver(_: &Permit, reporter: &Reporter, job: &Job, deadline: Instant) -> Delivery {
    let mut phase = Phase::Start;
    let delivered = start(job, deadline).and_then(|(mut courier, said)| {
        let delivered = listen(said, deadline, reporter, &mut phase);
        // Without the wait, a zombie would stay with a container's process 1, which may never reap it.
        let _ = courier.kill().and_then(|()| courier.wait());
        delivered
    });
    delivered.unwrap_or_else(|error| {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        Delivery::Failed { phase, why: if is_late { "the time was up".to_owned() } else { error.to_string() } }
    })
}

/// Starts this program again, as the courier, and hands the job over. If that fails, the record waits.
fn start(job: &Job, deadline: Instant) -> io::Result<(Child, ChildStdout)> {
    if Instant::now() >= deadline {
        return Err(io::ErrorKind::TimedOut.into());
    }
    // dpkg, rpm and debconf leave descriptors open. A courier that held one of their pipes could write to it.
    kernel::close_on_exec_from(3);
    let mut command = Command::new("/proc/self/exe");
    command.arg(courier::COMMAND).env_clear();
    // Nobody reads its stderr. It is a pipe, because an empty root has no /dev/null.
    let courier = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let failed = |error| io::Error::other(format!("the courier cannot be started: {error}"));
    let mut courier = courier.map_err(failed)?;
    let (mut to, said) = courier.stdin.take().zip(courier.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
    // It reads the whole job before it does anything else. If it ends before that, its silence tells.
    let _ = to.write_all(&serde_json::to_vec(job)?);
    Ok((courier, said))
}

/// Listens until the courier tells how it ended, or the deadline. `phase` is the last one that it told.
fn listen(mut from: ChildStdout, deadline: Instant, reporter: &Reporter, phase: &mut Phase) -> io::Result<Delivery> {
    let (mut lines, no_message) = (0..MAX_LINES, || io::Error::other(NO_MESSAGE));
    let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
    while heard.len() <= MAX_LINE {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = poll(&mut [PollFd::new(&from, PollFlags::IN)], Timespec::try_from(left).ok().as_ref())?;
        // poll(2) alone would never time out on a courier that does not stop talking.
        if ready == 0 || left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match from.read(&mut buffer)? {
            0 => return Err(io::Error::other("the courier ended without an answer")),
            count => heard.extend_from_slice(&buffer[..count]),
        }
        while let Some(end) = memchr::memchr(b'\n', &heard) {
            lines.next().ok_or_else(no_message)?;
            let frame: Frame = serde_json::from_slice(&heard[..end]).map_err(|_| no_message())?;
            heard.drain(..=end);
            match frame.bounded() {
                Frame::Note(note) => reporter.explain(format_args!("courier: {note}")),
                Frame::Phase(reached) => {
                    *phase = reached;
                    reporter.explain(format_args!("courier: {}", reached.name()));
                }
                Frame::Delivery(delivery) => return Ok(delivery),
            }
        }
    }
    Err(no_message())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs a shell script in place of a courier. Returns the phase that it reached, and how it ended.
    fn ran(script: &str, deadline: Duration) -> (Phase, io::Result<Delivery>) {
        let mut command = Command::new("sh");
        let mut courier = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let (said, mut phase) = (courier.stdout.take().unwrap(), Phase::Start);
        let ended = listen(said, Instant::now() + deadline, &Reporter::default(), &mut phase);
        courier.kill().and_then(|()| courier.wait()).unwrap();
        (phase, ended)
    }

    #[test]
    fn what_a_courier_that_was_taken_over_may_do() {
        let long = Duration::from_secs(60);
        let (frame, no_answer) = (r#"{"Phase":"Tls"}"#, "the courier ended without an answer");
        for (script, reached, why) in [
            (format!("echo '{frame}'; echo '{frame}'"), Phase::Tls, no_answer),
            // An unfinished line does not count.
            (format!("printf '%s' '{frame}'"), Phase::Start, no_answer),
            (format!("echo '{frame}'; echo junk; sleep 60"), Phase::Tls, NO_MESSAGE),
            (format!("echo '{frame}'; echo '{{}}'; sleep 60"), Phase::Tls, NO_MESSAGE),
            (format!("echo '{frame}'; tr '\\0' x </dev/zero"), Phase::Tls, NO_MESSAGE),
            (format!("while :; do echo '{frame}'; done"), Phase::Tls, NO_MESSAGE),
        ] {
            let (phase, ended) = ran(&script, long);
            assert_eq!((phase, ended.unwrap_err().to_string()), (reached, why.to_owned()), "{script}");
        }
    }

    #[test]
    fn what_a_courier_says_is_cut_by_its_parent_too() {
        let script = r#"printf '{"Delivery":{"Failed":{"phase":"Tls","why":"%05000d"}}}\n' 0; sleep 60"#;
        let (_, ended) = ran(script, Duration::from_secs(60));
        let Ok(Delivery::Failed { why, .. }) = ended else { panic!("{ended:?}") };
        assert_eq!(why.len(), courier::message::MAX_REASON);
    }

    #[test]
    fn the_deadline_holds_whatever_a_courier_says() {
        for script in ["sleep 60", "while :; do echo; done"] {
            let (_, ended) = ran(script, Duration::ZERO);
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "{script}");
        }
    }
}
