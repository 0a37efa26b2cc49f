//! Starts the courier, listens to it, and ends it at the deadline.
//!
//! Whatever happens to the courier, `deliver` returns at the deadline, and the courier is gone by then. The parent only
//! moves bytes and waits in poll(2). It parses nothing but the courier's own lines, and takes no more of them than an
//! honest courier needs. The courier inherits three pipes and nothing else.

use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{io, io::Read, io::Write, os::fd::AsFd, time::Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::courier::message::{Delivery, Frame, Job, MAX_LINE, Phase};
use crate::{consent::Permit, courier, kernel, outcome::Reporter};

/// The most lines that an honest courier writes about one request, and as many again before the first request.
const MAX_LINES: usize = 16;

const NO_MESSAGE: &str = "the courier sent an invalid line";

/// Delivers the job's requests, in order. `on_delivery` gets one result for each, as soon as it is known. Without
/// requests, no courier is started.
pub fn deliver(_: &Permit, reporter: &Reporter, job: &Job, deadline: Instant, mut on_delivery: impl FnMut(Delivery)) {
    if job.requests.is_empty() {
        return;
    }
    let (mut phase, mut left) = (Phase::Start, job.requests.len());
    let on_frame = |frame| {
        match frame {
            Frame::Note(note) => reporter.explain(format_args!("courier: {note}")),
            Frame::Phase(reached) => {
                phase = reached;
                reporter.explain(format_args!("courier: {}", reached.name()));
            }
            Frame::Delivery(delivery) => {
                on_delivery(delivery);
                left -= 1;
            }
        }
        // A courier that was taken over could send more results than there are requests.
        left > 0
    };
    let ended = Courier::start().and_then(|mut courier| {
        let ended = courier.run_until(deadline, job, on_frame);
        courier.stop();
        ended
    });
    let why = match ended {
        Ok(()) => "the courier ended without an answer".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => "the time was up".to_owned(),
        Err(error) => error.to_string(),
    };
    for _ in 0..left {
        on_delivery(Delivery::Failed { phase, why: why.clone() });
        // The others were not tried.
        phase = Phase::Start;
    }
}

struct Courier {
    child: Child,
    /// Closed when the whole job has gone through.
    to: Option<ChildStdin>,
    from: ChildStdout,
}

impl Courier {
    /// Starts this program again, as the courier. If that fails, the record waits.
    fn start() -> io::Result<Courier> {
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

    /// Hands the job over and listens until `on_frame` has heard enough, the courier ends, or the deadline.
    fn run_until(&mut self, deadline: Instant, job: &Job, mut on_frame: impl FnMut(Frame) -> bool) -> io::Result<()> {
        let mut lines = 0..MAX_LINES * (1 + job.requests.len());
        let no_message = || io::Error::other(NO_MESSAGE);
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
                Ok(0) => return Ok(()),
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(error),
            }
            while let Some(end) = memchr::memchr(b'\n', &heard) {
                lines.next().ok_or_else(no_message)?;
                let frame: Frame = serde_json::from_slice(&heard[..end]).map_err(|_| no_message())?;
                heard.drain(..=end);
                if !on_frame(frame.bounded()) {
                    return Ok(());
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

    /// Runs a shell script in place of a courier. Returns how many frames were heard, and how it ended.
    fn heard(script: &str, deadline: Duration) -> (usize, io::Result<()>) {
        let (frames, ended) = frames(script, deadline);
        (frames.len(), ended)
    }

    fn frames(script: &str, deadline: Duration) -> (Vec<Frame>, io::Result<()>) {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut courier = Courier::new(command.spawn().unwrap()).unwrap();
        let mut frames = Vec::new();
        let ended = courier.run_until(Instant::now() + deadline, &Job::default(), |frame| {
            frames.push(frame);
            true
        });
        courier.stop();
        (frames, ended)
    }

    #[test]
    fn what_a_courier_that_was_taken_over_may_do() {
        let long = Duration::from_secs(60);
        let frame = r#"{"Phase":"tls"}"#;
        assert!(matches!(heard(&format!("echo '{frame}'; echo '{frame}'"), long), (2, Ok(()))));
        // An unfinished line does not count.
        assert!(matches!(heard(&format!("printf '%s' '{frame}'"), long), (0, Ok(()))));
        for script in [
            &format!("echo '{frame}'; echo junk; sleep 60"),
            &format!("echo '{frame}'; echo '{{}}'; sleep 60"),
            &format!("echo '{frame}'; tr '\\0' x </dev/zero"),
        ] {
            let (count, ended) = heard(script, long);
            assert_eq!((count, ended.unwrap_err().to_string()), (1, NO_MESSAGE.to_owned()), "{script}");
        }
    }

    #[test]
    fn what_a_courier_says_is_cut_by_its_parent_too() {
        let script = r#"printf '{"Delivery":{"Failed":{"phase":"tls","why":"%05000d"}}}\n' 0"#;
        let (frames, _) = frames(script, Duration::from_secs(60));
        let [Frame::Delivery(Delivery::Failed { why, .. })] = &frames[..] else { panic!("{frames:?}") };
        assert_eq!(why.len(), courier::message::MAX_REASON);
    }

    #[test]
    fn a_courier_that_does_not_stop_talking_does_not_move_the_deadline() {
        let (count, ended) = heard("sleep 60", Duration::ZERO);
        assert_eq!((count, ended.unwrap_err().kind()), (0, io::ErrorKind::TimedOut));
        let (count, ended) = heard(r#"while :; do echo '{"Phase":"tls"}'; done"#, Duration::from_secs(60));
        assert_eq!((count, ended.unwrap_err().to_string()), (MAX_LINES, NO_MESSAGE.to_owned()));
    }
}
