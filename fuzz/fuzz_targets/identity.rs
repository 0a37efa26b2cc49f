//! Identity files, which other software writes too: an edit does what it says and nothing else.
#![no_main]

use std::collections::BTreeSet;

use install_record::id::IdFormat;
use install_record::ledger::identity::Identity;
use install_record::profile::IdRule;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const FAMILY: &str = "PRODUCT_FAMILY_PS";
const POINTER: &str = "/telemetry/id";

fn rule(more: &str) -> IdRule {
    serde_json::from_str(&format!(r#"{{"file":"/usr/local/percona/telemetry_uuid"{more}}}"#)).expect("a rule")
}

fn lines(data: &[u8]) {
    let rule = rule(r#","key":"instanceId","reserved":["config_write_check"]"#);
    let families = |identity: &Identity| identity.reported(&rule).map(str::to_owned).collect::<BTreeSet<_>>();
    let before = Identity(data.to_vec());
    let id = before.id(&rule);
    assert!(id.iter().all(|id| IdFormat::Uuid.holds(id)), "{id:?}");

    // A mark is added at the end, once, under the same ID.
    let marked = if before.is_reported(FAMILY, &rule) { before.clone() } else { before.with_reported(FAMILY) };
    assert!(marked.0.starts_with(&before.0));
    assert_eq!(marked.id(&rule), id);
    assert!(marked.is_reported(FAMILY, &rule) && families(&marked).is_superset(&families(&before)));

    // A new ID starts over; what is not ours stays, byte for byte, whatever the ID was.
    let fresh = marked.with_id(ID, &rule).expect("lines can always be added");
    assert_eq!(fresh.id(&rule).as_deref(), Some(ID));
    assert_eq!(families(&fresh), BTreeSet::new());
    assert_eq!(fresh.with_id(ID, &rule).ok().as_ref(), Some(&fresh));
    let foreign = fresh.0.strip_prefix(format!("instanceId:{ID}\n").as_bytes()).expect("the ID's line first");
    let is_ours = |line: &&[u8]| {
        let Some((key, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else { return false };
        match (key.trim_ascii(), value.trim_ascii()) {
            ("instanceId", _) => true,
            ("" | "config_write_check", _) => false,
            (key, value) => value == "1" || key.starts_with("PRODUCT_FAMILY_"),
        }
    };
    let others: Vec<&[u8]> = marked.0.split_inclusive(|b| *b == b'\n').filter(|line| !is_ours(line)).collect();
    assert_eq!(foreign, others.concat());

    // Forgetting takes the ID and every mark, and what it leaves it leaves again.
    if let Some(rest) = fresh.with_reported(FAMILY).forgotten(&rule).expect("lines can always be taken out") {
        assert_eq!((rest.id(&rule), families(&rest)), (None, BTreeSet::new()));
        assert_eq!(rest.forgotten(&rule).expect("lines"), Some(rest.clone()));
    }
}

/// The JSON of `text` without what is at [`POINTER`], and without an object there that has nothing else in it.
fn others(text: &[u8]) -> Option<Value> {
    let text = text.trim_ascii();
    let mut json: Value = serde_json::from_slice(if text.is_empty() { b"{}" } else { text }).ok()?;
    let members = json.as_object_mut()?;
    if let Some(Value::Object(inner)) = members.get_mut("telemetry") {
        inner.remove("id");
        if inner.is_empty() {
            members.remove("telemetry");
        }
    }
    Some(json)
}

fn json(data: &[u8]) {
    let rule = rule(&format!(r#","pointer":"{POINTER}""#));
    let before = Identity(data.to_vec());
    let Ok(after) = before.with_id(ID, &rule) else {
        // Nothing that could have been ours is given up.
        let has_place = others(data).is_some_and(|json| json.get("telemetry").is_none_or(Value::is_object));
        return assert!(!has_place && before.id(&rule).is_none());
    };
    assert_eq!(after.id(&rule).as_deref(), Some(ID));
    assert_eq!(others(&after.0), others(data));
    assert_eq!(after.with_id(ID, &rule).ok().as_ref(), Some(&after));
    // Where nothing else is left, it is as an empty file.
    let rest = after.forgotten(&rule).expect("it was JSON").unwrap_or_default();
    assert_eq!((rest.id(&rule), others(&rest.0)), (None, others(data)));
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    [lines, json][usize::from(kind % 2)](text);
});
