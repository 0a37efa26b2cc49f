//! Every way in which a run can end, as one sentence and an exit status; and the reporter that writes it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::UsageError;
use crate::consent::Refusal;
use crate::facts::time::Time;
use crate::ledger::Unkept;
use crate::profile::ProfileError;
use crate::profile::given::GivenError;

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// Somebody said no; nothing was touched.
    OptedOut(Refusal),
    /// The record was sent before.
    AlreadyReported,
    /// Another run is sending the same record.
    InProgress,
    /// The product's profile has no record for this.
    Skipped {
        /// Why.
        why: String,
    },
    /// This is an image being built, by the evidence named; the machine that is made from it will report.
    ImageBuild(&'static str),
    /// The record was accepted.
    Sent {
        /// Product and version.
        what: String,
        /// The receiving host.
        host: String,
        /// Where the receipt is.
        receipt: Option<PathBuf>,
    },
    /// The record was not delivered and waits.
    Pending {
        /// Why.
        why: String,
        /// The directory in which it waits.
        place: PathBuf,
    },
    /// The record was not delivered and is not kept.
    Lost {
        /// Why.
        why: String,
    },
    /// What was pending, after a flush: delivered, still pending, refused for good or by consent.
    Flushed {
        /// Delivered now.
        sent: usize,
        /// Not delivered; the reason of the last one.
        left: Option<(usize, String)>,
    },
    /// Bytes that were asked for, for stdout, and a remark for stderr.
    Printed {
        /// The bytes.
        text: Vec<u8>,
        /// What to know about them.
        remark: Option<String>,
    },
    /// An administrator's command was carried out.
    Done(String),
    /// An administrator's command could not be carried out.
    Failed(String),
    /// The command line, a variable or a profile cannot be meant.
    Usage(String),
}

impl Outcome {
    /// Text that was asked for.
    pub fn printed(text: String) -> Outcome {
        Outcome::Printed { text: text.into_bytes(), remark: None }
    }

    /// A record that waits in `place` because its server asked to be left alone until then, in seconds since 1970.
    pub fn held(until: i64, place: &Path) -> Outcome {
        Outcome::Pending { why: asked_to_wait(until), place: place.to_owned() }
    }

    /// The exit status. Only a usage error and an administrator's own command can fail; what `send` and `flush` do
    /// is 0 whatever the machine or the network does, unless `strict`.
    pub fn exit_status(&self, strict: bool) -> u8 {
        match self {
            Outcome::Usage(_) => 2,
            Outcome::Failed(_) => 1,
            Outcome::Pending { .. } | Outcome::Lost { .. } | Outcome::Flushed { left: Some(_), .. } => strict.into(),
            _ => 0,
        }
    }

    /// The one line for stderr, if there is something to say.
    fn line(&self) -> Option<String> {
        const SAY_NO: &str = "to say no: install-record off";
        const RETRY: &str = "a later run tries again";
        match self {
            Outcome::OptedOut(_) | Outcome::AlreadyReported | Outcome::InProgress => None,
            Outcome::ImageBuild(_) | Outcome::Skipped { .. } => None,
            Outcome::Sent { what, host, receipt } => {
                let receipt = receipt.as_ref().map(|path| format!(", receipt in {}", path.display()));
                Some(format!("sent one install record of {what} to {host}{}; {SAY_NO}", receipt.unwrap_or_default()))
            }
            Outcome::Pending { why, place } => {
                Some(format!("install record pending in {} ({why}); {RETRY}; {SAY_NO}", place.display()))
            }
            Outcome::Lost { why } => Some(format!("install record not sent ({why}); {SAY_NO}")),
            Outcome::Flushed { sent, left: None } if *sent == 0 => None,
            Outcome::Flushed { sent, left: None } => Some(format!("sent {sent} pending install records; {SAY_NO}")),
            Outcome::Flushed { sent, left: Some((left, why)) } => {
                Some(format!("sent {sent} pending install records, {left} still pending ({why}); {RETRY}; {SAY_NO}"))
            }
            Outcome::Printed { remark, .. } => remark.clone(),
            Outcome::Done(line) | Outcome::Failed(line) | Outcome::Usage(line) => Some(line.clone()),
        }
    }

    /// Says what there is to say: bytes that were asked for on stdout, one line on stderr. Never a line on stdout
    /// by itself: under debconf that is a protocol.
    pub fn report(&self, reporter: &Reporter) {
        match self {
            Outcome::OptedOut(refusal) => {
                reporter.explain(format_args!("nothing is sent: {refusal}, {}", refusal.reason()));
            }
            Outcome::AlreadyReported => reporter.explain(format_args!("nothing is sent: this was reported before")),
            Outcome::InProgress => reporter.explain(format_args!("nothing is sent: another run is reporting this")),
            Outcome::Skipped { why } => reporter.explain(format_args!("nothing is sent: {why}")),
            Outcome::ImageBuild(evidence) => {
                reporter.explain(format_args!("nothing is sent: {evidence}, assuming that an image is being built"))
            }
            _ => {}
        }
        if let Outcome::Printed { text, .. } = self {
            print(text);
        }
        if let Some(line) = self.line()
            && (!reporter.is_quiet || matches!(self, Outcome::Usage(_) | Outcome::Failed(_)))
        {
            reporter.say(format_args!("{line}"));
        }
    }
}

/// Why a record waits whose server asked to be left alone until then, in seconds since 1970.
pub fn asked_to_wait(until: i64) -> String {
    format!("the server asked to wait until {}", Time::at(until).in_seconds())
}

impl From<ProfileError> for Outcome {
    fn from(error: ProfileError) -> Outcome {
        match error {
            // Whoever called us cannot help it, and an installation must not fail by it.
            ProfileError::Unusable { .. } => Outcome::Lost { why: error.to_string() },
            ProfileError::Unknown { .. } | ProfileError::NoFile(_) | ProfileError::Malformed { .. } => {
                Outcome::Usage(error.to_string())
            }
        }
    }
}

impl From<GivenError> for Outcome {
    fn from(error: GivenError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

impl From<UsageError> for Outcome {
    fn from(error: UsageError) -> Outcome {
        Outcome::Usage(error.to_string())
    }
}

/// What cannot be remembered is not sent.
impl From<Unkept> for Outcome {
    fn from(error: Unkept) -> Outcome {
        Outcome::Lost { why: error.to_string() }
    }
}

/// Bytes for stdout, where somebody asked for them. A reader that has gone away is its own business.
pub fn print(text: &[u8]) {
    let _ = std::io::stdout().write_all(text).and_then(|()| std::io::stdout().flush());
}

/// What may be said on stderr, and how much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reporter {
    /// `--quiet`
    pub is_quiet: bool,
    /// `--verbose`
    pub is_verbose: bool,
}

impl Reporter {
    /// One step, one decision or one loss with its consequence, for `--verbose`.
    pub fn explain(&self, what: fmt::Arguments<'_>) {
        if self.is_verbose {
            self.say(what);
        }
    }

    /// What was ignored or cannot be used, with its consequence.
    pub fn warn(&self, what: fmt::Arguments<'_>) {
        if !self.is_quiet {
            self.say(what);
        }
    }

    fn say(&self, what: fmt::Arguments<'_>) {
        // One write, so that lines of parallel runs stay whole; and stderr may be closed or full.
        let line: String = what.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        let _ = std::io::stderr().write_all(format!("install-record: {line}\n").as_bytes());
    }
}
