//! Has a courier deliver each claimed record, and writes the answers into the ledger.

use std::time::Instant;

use crate::consent::{Permit, value};
use crate::courier::message::{Delivery, Job, Phase};
use crate::ledger::{Answer, Attempt, Claim, Ledger, Record};
use crate::{dispatch, endpoint::Endpoint, facts::time, host::Host, options::Options, outcome, outcome::Outcome};

/// Variables that name a bundle. CURL_CA_BUNDLE is what call-home.sh's curl reads.
const BUNDLES: [&str; 2] = ["SSL_CERT_FILE", "CURL_CA_BUNDLE"];

/// Delivers every claimed record, in order, and writes each result into the record's file as soon as it is known. Records
/// whose server has asked to be left alone, or could not be reached, are skipped. `permit` is for the first record. Before
/// each further one, `ask` asks again, because somebody may have said no since. Returns how each ended.
pub fn deliver(
    permit: Permit,
    ask: impl Fn() -> Result<Permit, Outcome>,
    ledger: &Ledger,
    options: &Options,
    claims: &mut [Claim],
) -> Vec<Outcome> {
    let (mut first, mut left_alone) = (Some(permit), ledger.pauses());
    // A copy was asked for. It has the very bytes that are sent.
    let mut asked = options.profile.debug.iter().filter_map(|name| ledger.seen.host.var(name));
    let is_asked = asked.any(|asked| value::is_set(asked.as_encoded_bytes()));
    let deliver = |claim: &mut Claim| {
        let job = job(ledger.seen.host, options, &claim.journal.record);
        if let Some((_, why)) = left_alone.iter().find(|(url, _)| *url == job.url) {
            return Outcome::Pending(why.clone(), ledger.store.path.clone());
        }
        let permit = match first.take().map_or_else(&ask, Ok) {
            Ok(permit) => permit,
            Err(refused) => {
                ledger.reporter.explain(&refused);
                return refused;
            }
        };
        if is_asked {
            outcome::print(format!("{}\n", job.body).as_bytes());
        }
        let delivery = dispatch::deliver(&permit, ledger.reporter, &job, options.deadline);
        let is_left_alone = match &delivery {
            Delivery::Failed { phase, .. } => matches!(phase, Phase::Resolve | Phase::Connect | Phase::Proxy),
            Delivery::Answered { retry_after, .. } => retry_after.is_some(),
        };
        let why = "the server asks to wait, or cannot be reached".to_owned();
        left_alone.extend(is_left_alone.then_some((job.url, why)));
        note(ledger, claim, delivery)
    };
    claims.iter_mut().map(deliver).collect()
}

/// Writes the result into the record's file.
fn note(ledger: &Ledger, claim: &mut Claim, delivery: Delivery) -> Outcome {
    let (at, url) = (time::in_seconds(ledger.seen.host.now()), claim.journal.record.url.clone());
    let (phase, why, retry_after) = match delivery {
        Delivery::Failed { phase, why } => (phase, why, None),
        Delivery::Answered { status, accepted, answer: text, retry_after } => {
            let host = Endpoint::new(&url).map(|endpoint| endpoint.host().to_owned()).unwrap_or_default();
            let why = format!("{host} answered {status}");
            // This refusal is final: the same record would be refused again.
            if accepted || (400..=499).contains(&status) && ![408, 425, 429].contains(&status) {
                // The mark remembers an answer that cannot be written down here.
                let _ = claim.answered(Answer { at, url, status, accepted, text });
                let Record { profile, family, .. } = &claim.journal.record;
                let sent = || Outcome::Sent(format!("{} to {host}", family.as_ref().unwrap_or(profile)));
                return if accepted { sent() } else { Outcome::Lost(why) };
            }
            (Phase::Receive, why, retry_after.map(|pause| pause.as_secs()))
        }
    };
    let pending = Outcome::Pending(format!("{}: {why}", phase.name()), ledger.store.path.clone());
    // Records that were not reached are left unchanged.
    if phase != Phase::Start {
        let _ = claim.defer(Attempt { at, url, phase: phase.name(), why, retry_after });
    }
    pending
}

/// What the courier is told of a record.
fn job(host: &Host, options: &Options, record: &Record) -> Job {
    let first_of = |names: &[&str]| {
        let values = names.iter().filter_map(|name| Some(host.var(name)?.to_string_lossy().into_owned()));
        values.into_iter().find(|value| !value.trim().is_empty()).unwrap_or_default()
    };
    let directories = first_of(&["SSL_CERT_DIR"]).trim_matches(':').to_owned();
    Job {
        url: record.url.clone(),
        headers: record.headers.clone(),
        body: record.body.clone(),
        success: options.profile.success.clone(),
        // The courier divides this among a host's addresses, so it must not be more than the time that is left.
        connect_timeout: options.connect_timeout.min(options.deadline.saturating_duration_since(Instant::now())),
        // The names and their order are curl's, which administrators know.
        proxy: first_of(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        no_proxy: first_of(&["no_proxy", "NO_PROXY"]),
        certificates_file: first_of(if directories.is_empty() { &BUNDLES } else { &BUNDLES[..1] }),
        certificates_directories: directories,
    }
}
