//! Claims to requests, requests to the courier, answers back into the ledger.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::consent::{Permit, value};
use crate::courier::message::{Delivery, HttpRequest, Job, Phase};
use crate::dispatch;
use crate::endpoint::Endpoint;
use crate::facts::time::Time;
use crate::host::Host;
use crate::ledger::{Answer, Attempt, Claim, Ledger};
use crate::outcome::{self, Reporter};
use crate::profile::Profile;

/// Variables that name a bundle. CURL_CA_BUNDLE is what call-home.sh's curl reads.
const BUNDLES: [&str; 2] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// What a delivery needs beside the claims.
pub struct Delivering<'a> {
    /// The proof that nobody said no.
    pub permit: &'a Permit,
    /// The machine.
    pub host: &'a Host,
    /// Where steps are told.
    pub reporter: &'a Reporter,
    /// Where it is written down.
    pub ledger: &'a Ledger<'a>,
    /// The records' profile.
    pub profile: &'a Profile,
    /// How long one connection may take to be made.
    pub connect_timeout: Duration,
    /// When it ends.
    pub deadline: Instant,
}

/// How a claimed record ended.
#[derive(Debug)]
pub enum Ended {
    /// It was accepted.
    Sent {
        /// Where the receipt is.
        receipt: Option<PathBuf>,
    },
    /// It waits.
    Kept {
        /// Why.
        why: String,
    },
    /// It was refused for good.
    Refused {
        /// By whom.
        why: String,
    },
}

impl Delivering<'_> {
    /// Has every claimed record delivered, in order, and written down.
    pub fn deliver(&self, mut claims: Vec<Claim>) -> Vec<Ended> {
        if claims.is_empty() {
            return Vec::new();
        }
        // Whoever asks for a copy gets the very bytes.
        let mut asked = self.profile.debug.iter().filter_map(|name| self.host.var(name));
        if asked.any(|asked| value::is_set(asked.as_encoded_bytes())) {
            claims.iter().for_each(|claim| outcome::print(format!("{}\n", claim.journal.record.body).as_bytes()));
        }
        let deliveries = dispatch::deliver(self.permit, self.host, self.reporter, &self.job(&claims), self.deadline);
        // The answers are on disk before anything waits for the lock.
        let ends: Vec<Ended> =
            claims.iter_mut().zip(deliveries).map(|(claim, delivery)| self.note(claim, delivery)).collect();
        let is_answered = |claim: &Claim| claim.journal.answer.is_some();
        let lock = claims.iter().any(is_answered).then(|| self.ledger.store.lock());
        let complete = |(claim, end)| match end {
            Ended::Sent { .. } => Ended::Sent { receipt: self.ledger.complete(self.permit, claim) },
            Ended::Refused { why } => {
                self.ledger.complete(self.permit, claim);
                Ended::Refused { why }
            }
            Ended::Kept { why } => Ended::Kept { why },
        };
        let ends = claims.iter().zip(ends).map(complete).collect();
        drop(lock);
        ends
    }

    /// Writes into the record's file what came of it.
    fn note(&self, claim: &mut Claim, delivery: Delivery) -> Ended {
        let (at, url) = (Time::now(self.host).in_seconds(), claim.url.clone());
        let (noted, end) = match delivery {
            // Records that were not reached are left unchanged.
            Delivery::Failed { phase, why } => {
                let reason = format!("{}: {why}", phase.name());
                let attempt = Attempt { at, url, phase: phase.name().to_owned(), why, retry_after: None };
                let noted = if phase == Phase::Start { Ok(()) } else { claim.defer(attempt) };
                (noted, Ended::Kept { why: reason })
            }
            Delivery::Answered { status, accepted, answer: text, retry_after } => {
                let why = format!("{} answered {status}", host_of(&url));
                // What is refused for good would be refused again.
                if accepted || (400..=499).contains(&status) && ![408, 425, 429].contains(&status) {
                    let noted = claim.answered(Answer { at, url, status, accepted, text });
                    (noted, if accepted { Ended::Sent { receipt: None } } else { Ended::Refused { why } })
                } else {
                    let retry_after = retry_after.map(|pause| pause.as_secs());
                    let phase = Phase::Receive.name().to_owned();
                    (claim.defer(Attempt { at, url, phase, why: why.clone(), retry_after }), Ended::Kept { why })
                }
            }
        };
        if let Err(error) = noted {
            self.reporter.explain(format_args!(
                "{}: {error}, so its file does not say what came of it",
                claim.journal.record.id
            ));
        }
        end
    }

    fn job(&self, claims: &[Claim]) -> Job {
        let first_of = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| self.host.var(name)).filter(|value| !value.is_empty());
            values.next().map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let requests = claims.iter().map(|claim| HttpRequest {
            url: claim.url.clone(),
            headers: claim.journal.record.headers.clone(),
            body: claim.journal.record.body.clone(),
        });
        let directories = first_of(&["SSL_CERT_DIR"]);
        Job {
            // The courier shares the time out among a host's addresses: that which there is.
            connect_timeout: self.connect_timeout.min(self.deadline.saturating_duration_since(Instant::now())),
            user_agent: format!("install-record/{}", env!("CARGO_PKG_VERSION")),
            // curl's names and order: administrators know them from there.
            proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
            certificates_file: first_of(if directories.is_empty() { &BUNDLES } else { &BUNDLES[..1] }),
            certificates_directories: directories,
            success: self.profile.success.clone(),
            requests: requests.collect(),
        }
    }
}

/// The host of a URL, for messages.
pub fn host_of(url: &str) -> String {
    Endpoint::new(url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default()
}
