//! os-release(5): what a writer quoted comes back, whatever stands before it in the file.
#![no_main]

use install_record::facts::os::OsRelease;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    if let Some(title) = OsRelease::parse(&text).title() {
        assert!(!title.is_empty() && !title.contains('\n'), "{title:?}");
        assert!(title.len() <= text.len(), "{title:?} is more than was there");
    }

    // Any one-line text, written in both ways of quoting, is the last and so the one that counts.
    let value: String = text.chars().filter(|c| *c != '\n').collect();
    let mut escaped = String::new();
    for c in value.chars() {
        if matches!(c, '"' | '$' | '`' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    let mut lines = vec![format!("PRETTY_NAME=\"{escaped}\"")];
    if !value.contains('\'') {
        lines.push(format!("PRETTY_NAME='{value}'"));
    }
    for line in lines {
        for end in ["", "\n", "\r\n", " \t # a comment\n"] {
            let file = format!("{text}\n{line}{end}");
            let read = OsRelease::parse(&file);
            assert_eq!(read.get("PRETTY_NAME"), Some(value.as_str()).filter(|value| !value.is_empty()), "{file:?}");
        }
    }
});
