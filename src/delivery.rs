//! Turns claims into requests, hands these to the courier, and writes the answers into the ledger.

use std::time::Instant;

use crate::consent::{Permit, value};
use crate::courier::message::{Delivery, HttpRequest, Job, Phase};
use crate::ledger::{Answer, Attempt, Claim, Ledger, Record};
use crate::{dispatch, endpoint::Endpoint, facts::time::Time, host::Host, options::Options, outcome};

/// Variables that name a bundle. CURL_CA_BUNDLE is what call-home.sh's curl reads.
const BUNDLES: [&str; 2] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// How a claimed record ended.
#[derive(Debug)]
pub enum Ended {
    /// It was accepted.
    Sent,
    /// It waits, and why.
    Kept(String),
    /// It was refused for good, and by whom.
    Refused(String),
}

/// Claimed records with what came of them.
pub type Delivered = Vec<(Claim, Ended)>;

/// Delivers every claimed record, in order, and writes each result into the record's file as soon as it is known. Records
/// whose server has asked to be left alone are skipped.
pub fn deliver(permit: &Permit, ledger: &Ledger, options: &Options, mut claims: Vec<Claim>) -> Delivered {
    let pauses = ledger.pauses();
    let until = |claim: &Claim| pauses.iter().filter(|it| it.0 == claim.journal.record.url).map(|it| it.1).max();
    let skipped = |claim: &Claim| until(claim).map(|until| Ended::Kept(outcome::asked_to_wait(until)));
    let mut ends: Vec<Option<Ended>> = claims.iter().map(skipped).collect();
    let tried = claims.iter().zip(&ends).filter(|(_, end)| end.is_none());
    let job = job(ledger.host, options, tried.map(|(claim, _)| &claim.journal.record));
    // A copy was asked for. It has the very bytes that are sent.
    let mut asked = options.profile.debug.iter().filter_map(|name| ledger.host.var(name));
    if asked.any(|asked| value::is_set(asked.as_encoded_bytes())) {
        job.requests.iter().for_each(|request| outcome::print(format!("{}\n", request.body).as_bytes()));
    }
    dispatch::deliver(permit, ledger.reporter, &job, options.deadline, |delivery| {
        if let Some(next) = ends.iter().position(Option::is_none) {
            ends[next] = Some(note(ledger, &mut claims[next], delivery));
        }
    });
    claims.into_iter().zip(ends.into_iter().flatten()).collect()
}

/// Makes receipts of the records that were answered.
pub fn complete(ledger: &Ledger, delivered: Delivered) -> Vec<Ended> {
    let is_answered = |claim: &Claim| claim.journal.answer.is_some();
    let _lock = delivered.iter().any(|(claim, _)| is_answered(claim)).then(|| ledger.store.lock());
    delivered.iter().filter(|(claim, _)| is_answered(claim)).for_each(|(claim, _)| ledger.complete(claim));
    delivered.into_iter().map(|(_, end)| end).collect()
}

/// Writes the result into the record's file.
fn note(ledger: &Ledger, claim: &mut Claim, delivery: Delivery) -> Ended {
    let (at, url) = (Time(ledger.host.now()).in_seconds(), claim.journal.record.url.clone());
    let (phase, why, retry_after) = match delivery {
        Delivery::Failed { phase, why } => (phase, why, None),
        Delivery::Answered { status, accepted, answer: text, retry_after } => {
            let host = Endpoint::new(&url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default();
            let why = format!("{host} answered {status}");
            // This refusal is final: the same record would be refused again.
            if accepted || (400..=499).contains(&status) && ![408, 425, 429].contains(&status) {
                // The mark remembers an answer that cannot be written down here.
                let _ = claim.answered(Answer { at, url, status, accepted, text });
                return if accepted { Ended::Sent } else { Ended::Refused(why) };
            }
            (Phase::Receive, why, retry_after.map(|pause| pause.as_secs()))
        }
    };
    let (phase, is_reached) = (phase.name(), phase != Phase::Start);
    let kept = Ended::Kept(format!("{phase}: {why}"));
    // Records that were not reached are left unchanged.
    if is_reached {
        let _ = claim.defer(Attempt { at, url, phase, why, retry_after });
    }
    kept
}

fn job<'r>(host: &Host, options: &Options, records: impl Iterator<Item = &'r Record>) -> Job {
    let first_of = |names: &[&str]| {
        let values = names.iter().filter_map(|name| Some(host.var(name)?.to_string_lossy().into_owned()));
        values.into_iter().find(|value| !value.trim().is_empty()).unwrap_or_default()
    };
    let request = |Record { url, headers, body, .. }: &Record| HttpRequest {
        url: url.clone(),
        headers: headers.clone(),
        body: body.clone(),
    };
    let directories = first_of(&["SSL_CERT_DIR"]).trim_matches(':').to_owned();
    Job {
        // The courier divides this among a host's addresses, so it must not be more than the time that is left.
        connect_timeout: options.connect_timeout.min(options.deadline.saturating_duration_since(Instant::now())),
        user_agent: format!("install-record/{}", env!("CARGO_PKG_VERSION")),
        // The names and their order are curl's, which administrators know.
        proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
        certificates_file: first_of(if directories.is_empty() { &BUNDLES } else { &BUNDLES[..1] }),
        certificates_directories: directories,
        success: options.profile.success.clone(),
        requests: records.map(request).collect(),
    }
}
