//! Every way in which a run can end, as one sentence and an exit status; and the reporter that writes it.

use std::{fmt, io::Write, path::PathBuf};

use crate::{consent::Refusal, host::path_error::PathError};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Outcome {
    /// The record was sent before.
    #[error("nothing is sent: this was reported before")]
    AlreadyReported,
    /// There is no record to send here: somebody said no, an image is being built, another run sends it, or the profile
    /// has none for this.
    #[error("nothing is sent: {0}")]
    Skipped(String),
    /// The record was accepted: which product, and where.
    #[error("sent one install record of {0}; to say no: install-record off")]
    Sent(String),
    /// The record was not delivered and waits: why, and in which directory.
    #[error("install record pending in {place} ({0}); a later run tries again; to say no: install-record off", place = .1.display())]
    Pending(String, PathBuf),
    /// The record was not delivered and is not kept, and why. The caller can do nothing about it, and an installation
    /// must not fail because of it.
    #[error("install record not sent ({0}); to say no: install-record off")]
    Lost(String),
    /// A flush has ended: how many waiting records were delivered, how many were not, and why the first of those was
    /// not.
    #[error("sent {what}; to say no: install-record off", what = flushed(*.0, *.1, .2))]
    Flushed(usize, usize, String),
    /// Output that was asked for, for stdout; and why what it shows would not be sent.
    #[error("nothing would be sent: {}", .1.as_deref().unwrap_or_default())]
    Printed(Vec<u8>, Option<String>),
    /// An administrator's command was carried out.
    #[error("{0}")]
    Done(String),
    /// An administrator's command could not be carried out.
    #[error("{0}")]
    Failed(String),
    /// The command line is wrong, or the profile that it names: the mistake, and what to do instead.
    #[error("{0}")]
    Usage(String),
}

impl Outcome {
    /// Text that was asked for.
    pub fn printed(text: String) -> Outcome {
        Outcome::Printed(harmless(&text, "\n").into_bytes(), None)
    }

    /// The same where an administrator asked for it. This was no installation, so it reports that it failed.
    pub fn of_command(self) -> Outcome {
        match self {
            Outcome::Lost(why) | Outcome::Skipped(why) => Outcome::Failed(why),
            other => other,
        }
    }

    /// The exit status. Only usage errors and administrator's commands can fail. `send` and `flush` end with 0 whatever
    /// the machine or the network does, unless `strict`.
    pub fn exit_status(&self, strict: bool) -> u8 {
        match self {
            Outcome::Usage(_) => 2,
            Outcome::Failed(_) => 1,
            Outcome::Pending(..) | Outcome::Lost(_) | Outcome::Flushed(_, 1.., _) => strict.into(),
            _ => 0,
        }
    }

    /// Writes output that was asked for to stdout, and at most one line to stderr. Nothing else goes to stdout, because
    /// under debconf stdout is a protocol.
    pub fn report(&self, reporter: &Reporter) {
        if let Outcome::Printed(text, _) = self {
            print(text);
        }
        match self {
            Outcome::AlreadyReported | Outcome::Skipped(_) => reporter.explain(self),
            Outcome::Usage(_) | Outcome::Failed(_) => reporter.say(self),
            Outcome::Flushed(0, 0, _) | Outcome::Printed(_, None) => {}
            _ => reporter.warn(self),
        }
    }
}

fn flushed(sent: usize, left: usize, why: &str) -> String {
    let s = if sent == 1 { "" } else { "s" };
    let left = if left == 0 { String::new() } else { format!(", {left} not delivered ({why})") };
    format!("{sent} pending install record{s}{left}")
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Outcome {
        match refusal {
            Refusal::Unplaced(what) => Outcome::Usage(what),
            said => Outcome::Skipped(said.to_string()),
        }
    }
}

/// What cannot be remembered is not sent.
impl From<PathError> for Outcome {
    fn from(error: PathError) -> Outcome {
        Outcome::Lost(error.to_string())
    }
}

/// Writes to stdout what somebody asked for. It is no error if the reader has gone away.
pub fn print(text: &[u8]) {
    let _ = std::io::stdout().write_all(text).and_then(|()| std::io::stdout().flush());
}

/// Writes to stderr, as much as `--quiet` and `--verbose` allow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    /// `--quiet`
    pub is_quiet: bool,
    /// `--verbose`
    pub is_verbose: bool,
}

impl Reporter {
    /// Under `--verbose`, tells one step, one decision, or one thing that is missing and what follows from it.
    pub fn explain(&self, what: impl fmt::Display) {
        if self.is_verbose {
            self.say(what);
        }
    }

    /// Unless `--quiet`, tells what was ignored or cannot be used, and what follows from it.
    pub fn warn(&self, what: impl fmt::Display) {
        if !self.is_quiet {
            self.say(what);
        }
    }

    fn say(&self, what: impl fmt::Display) {
        // One write keeps the lines of parallel runs whole. An error is ignored, because stderr may be closed or full.
        let line = harmless(&what.to_string(), "");
        let _ = std::io::stderr().write_all(format!("install-record: {line}\n").as_bytes());
    }
}

/// Makes a text safe for a terminal: control characters are replaced, except those that are `allowed`. Such a text can
/// hold words from files, processes and servers.
fn harmless(text: &str, allowed: &str) -> String {
    text.chars().map(|c| if c.is_control() && !allowed.contains(c) { '?' } else { c }).collect()
}
