//! The identity file, which other software writes too: an edit does what it says and nothing else.
#![no_main]

use std::collections::BTreeSet;

use install_record::ledger::identity::{Identity, is_uuid};
use install_record::profile::IdentityRules;
use libfuzzer_sys::fuzz_target;

const ID: &str = "13f5fc62-35b4-4716-b3e6-96c761fc204d";
const FAMILY: &str = "PRODUCT_FAMILY_PS";

fuzz_target!(|data: &[u8]| {
    let rules = IdentityRules {
        file: "/usr/local/percona/telemetry_uuid".into(),
        id: "instanceId".to_owned(),
        reserved: vec!["config_write_check".to_owned()],
    };
    let families = |identity: &Identity| identity.reported(&rules).map(str::to_owned).collect::<BTreeSet<_>>();
    let before = Identity::new(data.to_vec());
    let id = before.instance_id(&rules);
    assert!(id.is_none_or(is_uuid), "{id:?}");

    // A mark is added at the end, once, under the same ID.
    let marked = before.with_reported(FAMILY, &rules);
    assert!(marked.bytes().starts_with(before.bytes()));
    assert_eq!(marked.instance_id(&rules), id);
    let mut expected = families(&before);
    expected.insert(FAMILY.to_owned());
    assert_eq!(families(&marked), expected);
    assert_eq!(marked.with_reported(FAMILY, &rules), marked);

    // A new ID starts over; what is not ours stays, byte for byte, whatever the ID was.
    let fresh = marked.with_instance_id(ID, &rules);
    assert_eq!(fresh.instance_id(&rules), Some(ID));
    assert_eq!(families(&fresh), BTreeSet::new());
    assert_eq!(fresh.with_instance_id(ID, &rules), fresh);
    let foreign = fresh.bytes().strip_prefix(format!("instanceId:{ID}\n").as_bytes()).expect("the ID's line first");
    let lines: BTreeSet<&[u8]> = marked.bytes().split_inclusive(|b| *b == b'\n').collect();
    assert!(foreign.split_inclusive(|b| *b == b'\n').all(|line| lines.contains(line)));

    // Forgetting takes the ID and every mark, and what it leaves it leaves again.
    if let Some(rest) = fresh.with_reported(FAMILY, &rules).forgotten(&rules) {
        assert_eq!((rest.instance_id(&rules), families(&rest)), (None, BTreeSet::new()));
        assert_eq!(rest.forgotten(&rules), Some(rest.clone()));
    }
});
