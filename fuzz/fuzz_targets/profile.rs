//! Profiles, and the records that their templates make of any facts: JSON within its limits, or a reasoned refusal.
#![no_main]

use std::fs;

use install_record::facts::{self, Facts};
use install_record::host::Host;
use install_record::profile::{Source, is_name};
use install_record::template::{MAX_BODY, MAX_TEXT, Values, render, render_line};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    // The profile, and behind a NUL a text for every fact and every value that is given.
    let end = data.iter().position(|b| *b == 0).unwrap_or(data.len());
    let (text, word) = (&data[..end], String::from_utf8_lossy(&data[data.len().min(end + 1)..]).into_owned());

    let path = std::env::temp_dir().join(format!("install-record-fuzz-{}.json", std::process::id()));
    fs::write(&path, text).expect("a temporary file");
    let source = Source::find(&Host::new(None), Some(path.as_os_str())).expect("a file");
    fs::remove_file(&path).expect("a temporary file");
    let (consent, profile) = (source.consent(), source.profile());
    if let Ok(rules) = &consent {
        assert!(is_name(&rules.profile), "{rules:?}");
    }
    let Ok(profile) = profile else { return };
    assert!(is_name(&profile.name), "{profile:?}");
    if let Ok(rules) = consent {
        assert_eq!(rules.profile, profile.name);
    }

    for (_, template) in profile.bodies() {
        let wanted = profile.named_given(template);
        let pairs: Vec<(String, String)> = wanted.map(|key| ((*key).to_owned(), word.clone())).collect();
        let Ok((values, _)) = profile.supplied(template, &pairs) else { continue };
        let full = facts::names().map(|fact| (fact, word.as_str().into())).collect::<Facts>();
        for values in [Values::default(), Values { facts: full, given: values.given }] {
            let body = render(template, &values);
            serde_json::from_str::<Value>(&body).expect("JSON");
            assert_eq!(render(template, &values), body);
            assert!(body.len() <= MAX_BODY, "{} bytes", body.len());
            for (_, header) in &profile.headers {
                let line = render_line(header, &values);
                assert!(line.len() <= MAX_TEXT && line.bytes().all(|b| b == b' ' || b.is_ascii_graphic()), "{line:?}");
            }
        }
    }
});
