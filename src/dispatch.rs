//! Starts the courier, listens to it, and ends it at the deadline.
//!
//! Each record has a courier of its own. Whatever happens to it, `deliver` returns at the deadline, and the courier is
//! gone by then. The parent only moves bytes and waits in poll(2). It parses nothing but the courier's own lines, and
//! takes no more of them than an honest courier needs. The courier inherits three pipes and nothing else.

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{io, io::Read, io::Write, os::fd::AsFd, time::Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::courier::message::{Delivery, Frame, Job, MAX_LINE, Phase};
use crate::{consent::Permit, courier, kernel, outcome::Reporter};

/// The most lines that an honest courier writes: a note for each layer of its sandbox, each phase, and the end.
const MAX_LINES: usize = 32;

const NO_MESSAGE: &str = "the courier sent an invalid line";

/// Has a courier do the job, and tells how that ended.
pub fn deliver(_: &Permit, reporter: &Reporter, job: &Job, deadline: Instant) -> Delivery {
    let mut phase = Phase::Start;
    let delivered = Courier::start(deadline).and_then(|mut courier| {
        let delivered = courier.run_until(deadline, job, reporter, &mut phase);
        courier.stop();
        delivered
    });
    delivered.unwrap_or_else(|error| {
        let is_late = error.kind() == io::ErrorKind::TimedOut;
        Delivery::Failed { phase, why: if is_late { "the time was up".to_owned() } else { error.to_string() } }
    })
}

struct Courier {
    child: Child,
    /// Closed when the whole job has gone through.
    to: Option<ChildStdin>,
    from: ChildStdout,
}

impl Courier {
    /// Starts this program again, as the courier. If that fails, the record waits.
    fn start(deadline: Instant) -> io::Result<Courier> {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // dpkg, rpm and debconf leave descriptors open. A courier that held one of their pipes could write to it.
        kernel::close_on_exec_from(3);
        let mut command = Command::new("/proc/self/exe");
        command.arg(courier::COMMAND).env_clear();
        // Nobody reads its stderr. It is a pipe, because an empty root has no /dev/null.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        Courier::new(child.map_err(|error| io::Error::other(format!("the courier cannot be started: {error}")))?)
    }

    fn new(mut child: Child) -> io::Result<Courier> {
        drop(child.stderr.take());
        let (to, from) = child.stdin.take().zip(child.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
        for pipe in [to.as_fd(), from.as_fd()] {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Courier { child, to: Some(to), from })
    }

    /// Hands the job over and listens until the courier tells how it ended, or the deadline. `phase` is the last one
    /// that it told.
    fn run_until(
        &mut self,
        deadline: Instant,
        job: &Job,
        reporter: &Reporter,
        phase: &mut Phase,
    ) -> io::Result<Delivery> {
        let (mut lines, no_message) = (0..MAX_LINES, || io::Error::other(NO_MESSAGE));
        let job = serde_json::to_vec(job)?;
        let (mut job, mut heard) = (&job[..], Vec::new());
        loop {
            self.wait(deadline)?;
            if let Some(to) = &mut self.to {
                match to.write(job) {
                    Ok(written) => job = &job[written..],
                    Err(error) if is_retry(&error) => {}
                    // The courier ended early. What it wrote before that is still in the other pipe.
                    Err(_) => job = &[],
                }
                self.to = self.to.take().filter(|_| !job.is_empty());
            }
            let mut buffer = [0; 4096];
            match self.from.read(&mut buffer) {
                Ok(0) => return Err(io::Error::other("the courier ended without an answer")),
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(error),
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
            if heard.len() > MAX_LINE {
                return Err(no_message());
            }
        }
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let mut pipes = vec![PollFd::new(&self.from, PollFlags::IN)];
        pipes.extend(self.to.as_ref().map(|to| PollFd::new(to, PollFlags::OUT)));
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = poll(&mut pipes, Timespec::try_from(left).ok().as_ref())?;
        // poll(2) alone would never time out on a courier that does not stop talking.
        if ready > 0 && !left.is_zero() { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    /// Kills the courier and waits for it. Otherwise a zombie would stay with a container's process 1, which may never
    /// reap it.
    fn stop(mut self) {
        let _ = self.child.kill();
        // The alarm ends this wait as well.
        let _ = self.child.wait();
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Runs a shell script in place of a courier. Returns the phase that it reached, and how it ended.
    fn ran(script: &str, deadline: Duration) -> (Phase, io::Result<Delivery>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut courier, mut phase) = (Courier::new(command.spawn().unwrap()).unwrap(), Phase::Start);
        let deadline = Instant::now() + deadline;
        let ended = courier.run_until(deadline, &Job::default(), &Reporter::default(), &mut phase);
        courier.stop();
        (phase, ended)
    }

    #[test]
    fn what_a_courier_that_was_taken_over_may_do() {
        let long = Duration::from_secs(60);
        let (frame, no_answer) = (r#"{"Phase":"tls"}"#, "the courier ended without an answer");
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
        let script = r#"printf '{"Delivery":{"Failed":{"phase":"tls","why":"%05000d"}}}\n' 0; sleep 60"#;
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
