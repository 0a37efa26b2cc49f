//! The deadline, and the courier's life and death.
//!
//! Whatever the courier meets, `deliver` returns at the deadline, and the courier is gone by then. The parent only
//! moves bytes and waits in poll(2); it parses nothing but the courier's own frames, and takes no more of them than an
//! honest courier has to say. The courier inherits three pipes and nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::consent::Permit;
use crate::courier;
use crate::courier::job::{Frame, Job, Phase, Verdict};
use crate::host::Host;
use crate::kernel;
use crate::outcome::Reporter;

/// How long the end of a killed courier is waited for. It is there at once, unless the courier hangs where no signal
/// reaches it, in a read from a dead file server say; on a machine that is very busy it takes a few dozen milliseconds,
/// and who did not wait would leave a zombie to a container's process 1, which may never reap it.
const STOP_PATIENCE: Duration = Duration::from_millis(250);

/// What a courier may say under --verbose, in bytes: less than a pipe holds, so that one that was taken over cannot
/// have us wait for somebody who does not read our stderr.
const MAX_TALK: usize = 32 << 10;

/// The longest reason, in characters: it becomes part of one line.
const MAX_REASON: usize = 300;

/// The descriptors that a caller may leave open, where the kernel cannot tell: bash and debconf use less than 300.
const LIKELY_DESCRIPTORS: i32 = 1024;

/// Has the job's parcels delivered, in order; one verdict a parcel.
pub fn deliver(_: &Permit, host: &Host, reporter: &Reporter, job: &Job, deadline: Instant) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let mut phase = Phase::Start;
    let mut talk = MAX_TALK;
    let mut explain = |what: &str| {
        if let Some(left) = talk.checked_sub(what.len()) {
            talk = left;
            reporter.explain(format_args!("courier: {what}"));
        }
    };
    let why = match Courier::start(host, reporter) {
        Err(error) => format!("the courier cannot be started: {error}"),
        Ok(mut courier) => {
            let ended = courier.attend(&job.encode(), deadline, |frame| {
                match frame {
                    Frame::Note(note) => explain(&note),
                    Frame::Phase(reached) => {
                        phase = reached;
                        explain(reached.name());
                    }
                    Frame::Verdict(Verdict::Failed { phase, why }) => {
                        verdicts.push(Verdict::Failed { phase, why: why.chars().take(MAX_REASON).collect() });
                    }
                    Frame::Verdict(verdict) => verdicts.push(verdict),
                }
                // A courier that was taken over could promise more than it was given.
                if verdicts.len() < job.parcels.len() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            courier.stop();
            match ended {
                Ok(()) => "the courier ended without a word".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => "the time was up".to_owned(),
                Err(error) => error.to_string(),
            }
        }
    };
    while verdicts.len() < job.parcels.len() {
        verdicts.push(Verdict::Failed { phase, why: why.clone() });
        phase = Phase::Start;
    }
    verdicts
}

struct Courier {
    /// `None` where it is a thread, which ends with this process.
    child: Option<Child>,
    /// Closed when the whole job has gone through.
    to: Option<File>,
    from: File,
}

impl Courier {
    /// Starts a courier: this program again, or a thread of it where that cannot be.
    fn start(host: &Host, reporter: &Reporter) -> io::Result<Courier> {
        keep_descriptors();
        let mut why = None;
        for program in host.own_program() {
            let spawned = Command::new(&program)
                .arg(courier::COMMAND)
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                // Read by nobody; and unlike /dev/null it is there in an empty root.
                .stderr(Stdio::piped())
                .spawn();
            match spawned {
                Ok(mut child) => {
                    drop(child.stderr.take());
                    if let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) {
                        return Courier::new(Some(child), to.into(), from.into());
                    }
                }
                Err(error) => why = Some(error),
            }
        }
        reporter.explain(format_args!(
            "this program cannot be started again ({}), so the courier is a thread of it",
            why.map_or_else(|| "it cannot be found".to_owned(), |error| error.to_string())
        ));
        let (input, to) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from, output) = pipe_with(PipeFlags::CLOEXEC)?;
        std::thread::Builder::new().spawn(move || courier::run(File::from(input), File::from(output)))?;
        Courier::new(None, to, from)
    }

    fn new(child: Option<Child>, to: OwnedFd, from: OwnedFd) -> io::Result<Courier> {
        for fd in [&to, &from] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        Ok(Courier { child, to: Some(to.into()), from: from.into() })
    }

    /// Hands the job over and hears the courier out, until that was all, it ends, or `deadline`.
    fn attend(
        &mut self,
        mut job: &[u8],
        deadline: Instant,
        mut hear: impl FnMut(Frame) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut heard = Vec::new();
        loop {
            self.wait(deadline)?;
            if let Some(to) = &mut self.to {
                match to.write(job) {
                    Ok(written) => job = &job[written..],
                    Err(error) if is_retry(&error) => {}
                    // It ended early; what it said first is still in the other pipe.
                    Err(_) => job = &[],
                }
                if job.is_empty() {
                    self.to = None;
                }
            }
            let mut buffer = [0; 4096];
            match self.from.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => heard.extend_from_slice(&buffer[..count]),
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(error),
            }
            while let Some(frame) = Frame::decode(&mut heard).map_err(io::Error::other)? {
                if hear(frame).is_break() {
                    return Ok(());
                }
            }
        }
    }

    fn wait(&self, deadline: Instant) -> io::Result<()> {
        let mut pipes = vec![PollFd::new(&self.from, PollFlags::IN)];
        pipes.extend(self.to.as_ref().map(|to| PollFd::new(to, PollFlags::OUT)));
        let left = deadline.saturating_duration_since(Instant::now());
        // poll(2) alone would never time out on a courier that does not stop talking.
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut pipes, Some(&timeout)) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn stop(self) {
        let Some(mut child) = self.child else { return };
        let _ = child.kill();
        let patience = Instant::now() + STOP_PATIENCE;
        while let Ok(None) = child.try_wait()
            && Instant::now() < patience
        {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// Keeps our caller's descriptors, of which dpkg, rpm and debconf leave some open, to ourselves: a courier that held a
/// pipe of theirs could write to it. In us they stay as they are.
fn keep_descriptors() {
    const FIRST: i32 = 3;
    if kernel::close_on_exec_from(FIRST).is_ok() {
        return;
    }
    // Linux before 5.11; the list holds its own descriptor at least, where there is one.
    let listed = Host::new(None).names("proc/self/fd").unwrap_or_default();
    let listed: Vec<i32> = listed.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    let open = if listed.is_empty() { (FIRST..LIKELY_DESCRIPTORS).collect() } else { listed };
    open.into_iter().filter(|descriptor| *descriptor >= FIRST).for_each(kernel::close_on_exec);
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_courier_that_does_not_stop_talking_does_not_move_the_deadline() {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        File::from(to.try_clone().unwrap()).write_all(&Frame::Phase(Phase::Start).encode().repeat(1000)).unwrap();
        let mut courier = Courier { child: None, to: None, from: from.into() };
        let mut heard = 0;
        let ended = courier.attend(&[], Instant::now(), |_| {
            heard += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((ended.unwrap_err().kind(), heard), (io::ErrorKind::TimedOut, 0));
    }
}
