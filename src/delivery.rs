//! Has a courier deliver each claimed record, and writes the answers into the ledger.

use std::{path::PathBuf, time::Instant};

use crate::consent::{Permit, value};
use crate::courier::message::{Delivery, Job, Phase};
use crate::ledger::{Answer, Attempt, Claim, Ledger};
use crate::{
    dispatch, endpoint::Endpoint, facts::time::Time, host::Host, kernel::LAST_WORDS, options::Options, outcome,
    outcome::Outcome,
};

/// Variables that name a bundle. CURL_CA_BUNDLE is what call-home.sh's curl reads.
const BUNDLES: [&str; 2] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// How a claimed record ended.
#[derive(Debug)]
pub enum Ended {
    /// It was accepted; the path of the receipt, if that could be kept.
    Sent(Option<PathBuf>),
    /// It waits, and why.
    Kept(String),
    /// It was refused for good, and by whom.
    Refused(String),
}

/// Claimed records with what came of them.
pub type Delivered = Vec<(Claim, Ended)>;

/// Delivers every claimed record, in order, and writes each result into the record's file as soon as it is known. Records
/// whose server has asked to be left alone, or could not be reached, are skipped.
pub fn deliver(permit: &Permit, ledger: &Ledger, options: &Options, claims: Vec<Claim>) -> Delivered {
    let (pauses, mut skipped) = (ledger.pauses(), Vec::new());
    // A copy was asked for. It has the very bytes that are sent.
    let mut asked = options.profile.debug.iter().filter_map(|name| ledger.host.var(name));
    let is_asked = asked.any(|asked| value::is_set(asked.as_encoded_bytes()));
    let deliver = |mut claim: Claim| {
        let job = job(ledger.host, options, &claim);
        if let Some(until) = pauses.iter().filter(|it| it.0 == job.url).map(|it| it.1).max() {
            return (claim, Ended::Kept(outcome::asked_to_wait(until)));
        }
        if skipped.contains(&job.url) {
            return (claim, Ended::Kept("the server asks to wait, or cannot be reached".to_owned()));
        }
        if is_asked {
            outcome::print(format!("{}\n", job.body).as_bytes());
        }
        let delivery = dispatch::deliver(permit, ledger.reporter, &job, options.deadline);
        let is_left_alone = match &delivery {
            Delivery::Failed { phase, .. } => matches!(phase, Phase::Resolve | Phase::Connect | Phase::Proxy),
            Delivery::Answered { retry_after, .. } => retry_after.is_some(),
        };
        skipped.extend(is_left_alone.then_some(job.url));
        let end = note(ledger, &mut claim, delivery);
        (claim, end)
    };
    claims.into_iter().map(deliver).collect()
}

/// Makes receipts of the records that were answered.
pub fn complete(ledger: &Ledger, delivered: Delivered) -> Vec<Ended> {
    let is_answered = |claim: &Claim| claim.journal.answer.is_some();
    let _lock = delivered.iter().any(|(claim, _)| is_answered(claim)).then(|| ledger.store.lock());
    let completed = delivered.into_iter().map(|(claim, end)| {
        let receipt = if is_answered(&claim) { ledger.complete(&claim) } else { None };
        if let Ended::Sent(_) = end { Ended::Sent(receipt) } else { end }
    });
    completed.collect()
}

/// Writes the result into the record's file.
fn note(ledger: &Ledger, claim: &mut Claim, delivery: Delivery) -> Ended {
    let (at, url) = (Time(ledger.host.now()).in_seconds(), claim.journal.record.url.clone());
    let (noted, end) = match delivery {
        Delivery::Failed { phase, why } => {
            let end = Ended::Kept(format!("{}: {why}", phase.name()));
            let attempt = Attempt { at, url, phase: phase.name(), why, retry_after: None };
            // Records that were not reached are left unchanged.
            (if phase == Phase::Start { Ok(()) } else { claim.defer(attempt) }, end)
        }
        Delivery::Answered { status, accepted, answer: text, retry_after } => {
            let host = Endpoint::new(&url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default();
            let but = if (200..=299).contains(&status) { ", which does not confirm the record" } else { "" };
            let why = format!("{host} answered {status}{but}");
            if accepted && !ledger.reporter.is_quiet {
                // This is said if the alarm comes before everything is written down.
                let record = &claim.journal.record;
                let sent = Outcome::Sent(format!("{} to {host}", record.family.as_ref().unwrap_or(&record.profile)));
                let _ = LAST_WORDS.set(format!("install-record: {sent}\n"));
            }
            // This refusal is final: the same record would be refused again.
            if accepted || (400..=499).contains(&status) && ![408, 425, 429].contains(&status) {
                let end = if accepted { Ended::Sent(None) } else { Ended::Refused(why) };
                (claim.answered(Answer { at, url, status, accepted, text }), end)
            } else {
                let (phase, retry_after) = (Phase::Receive.name(), retry_after.map(|pause| pause.as_secs()));
                (claim.defer(Attempt { at, url, phase, why: why.clone(), retry_after }), Ended::Kept(why))
            }
        }
    };
    if let Err(error) = noted {
        let id = &claim.journal.record.id;
        ledger.reporter.explain(format_args!("{id}: {error}, so its file does not say what came of it"));
    }
    end
}

/// What the courier is told of a record.
fn job(host: &Host, options: &Options, claim: &Claim) -> Job {
    let first_of = |names: &[&str]| {
        let values = names.iter().filter_map(|name| Some(host.var(name)?.to_string_lossy().into_owned()));
        values.into_iter().find(|value| !value.trim().is_empty()).unwrap_or_default()
    };
    let directories = first_of(&["SSL_CERT_DIR"]).trim_matches(':').to_owned();
    let record = &claim.journal.record;
    Job {
        url: record.url.clone(),
        headers: record.headers.clone(),
        body: record.body.clone(),
        success: options.profile.success.clone(),
        // The courier divides this among a host's addresses, so it must not be more than the time that is left.
        connect_timeout: options.connect_timeout.min(options.deadline.saturating_duration_since(Instant::now())),
        user_agent: format!("install-record/{}", env!("CARGO_PKG_VERSION")),
        // The names and their order are curl's, which administrators know.
        proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
        certificates_file: first_of(if directories.is_empty() { &BUNDLES } else { &BUNDLES[..1] }),
        certificates_directories: directories,
    }
}
