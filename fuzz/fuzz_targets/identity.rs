//! Identity files, which other software writes too: an edit does what it says, and what it wrote it reads. That what is not
//! ours stays as it is, is tested in src/ledger/identity.rs.
#![no_main]

use install_record::id::IdFormat;
use install_record::ledger::identity::Identity;
use install_record::profile::IdRule;
use libfuzzer_sys::fuzz_target;

const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const FAMILY: &str = "PRODUCT_FAMILY_PS";
const LINES: &str = r#"{"file":"/x","key":"instanceId","reserved":["config_write_check"]}"#;
const JSON: &str = r#"{"file":"/x","pointer":"/telemetry/id"}"#;

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let is_json = kind % 2 == 1;
    let rule: IdRule = serde_json::from_str(if is_json { JSON } else { LINES }).expect("a rule");
    let before = Identity(text.to_vec());
    let id = before.id(&rule);
    assert!(id.iter().all(|id| IdFormat::Uuid.holds(id)), "{id:?}");

    // A mark is added at the end, once, under the same ID.
    let is_marked = !is_json && !before.is_reported(FAMILY, &rule);
    let marked = if is_marked { before.with_reported(FAMILY) } else { before.clone() };
    assert!(marked.0.starts_with(&before.0));
    assert_eq!(marked.id(&rule), id);
    assert!(is_json || marked.is_reported(FAMILY, &rule));

    // A new ID starts over. No ID is given up where none can be written.
    let Ok(fresh) = marked.with_id(ID, &rule) else { return assert!(is_json && id.is_none()) };
    assert_eq!(fresh.id(&rule).as_deref(), Some(ID));
    assert_eq!(fresh.reported(&rule).next(), None);
    assert_eq!(fresh.with_id(ID, &rule).ok().as_ref(), Some(&fresh));

    // Forgetting takes the ID and every mark, and what it leaves it leaves again.
    let full = if is_json { fresh } else { fresh.with_reported(FAMILY) };
    if let Some(rest) = full.forgotten(&rule).expect("it was written") {
        assert_eq!((rest.id(&rule), rest.reported(&rule).next()), (None, None));
        assert_eq!(rest.forgotten(&rule).expect("it was read"), Some(rest.clone()));
    }
});
