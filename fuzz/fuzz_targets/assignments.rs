//! The files where variables are set: no text hides a "no" that follows it, and a quoted value means what it says.
#![no_main]

use install_record::consent::assignments::Syntax::{EnvironmentD, PamEnv, Shell};
use install_record::consent::assignments::{Syntax, refusal};
use install_record::consent::value::says_no;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 2] = ["PERCONA_TELEMETRY_DISABLE", "DO_NOT_TRACK"];

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let syntax: Syntax = [Shell, PamEnv, EnvironmentD][usize::from(kind % 3)];

    // Each name has its own answer, whichever others are asked for. (A name in pieces, `DO_NOT_T'RACK=1'`, is found
    // only where another one makes the file worth reading.)
    let found = refusal(text, syntax, &NAMES);
    let alone = NAMES.map(|name| refusal(text, syntax, &[name]));
    for (name, alone) in NAMES.into_iter().zip(alone) {
        assert!(alone.is_none() || (contains(text, name) && found.is_some()), "{alone:?}, {found:?}");
        assert!(found != Some(name) || alone.is_some() || !contains(text, name), "{alone:?}, {found:?}");
    }

    // A plain "no" on a line of its own is one after any text, but for text that makes that line a here-document's end.
    let unquoted: Vec<u8> = text.iter().copied().filter(|b| !b"\"'$\\\n".contains(b)).collect();
    for name in NAMES {
        let line = format!("{name}=1");
        let ends_document = syntax == Shell && contains(text, "<<") && contains(&unquoted, &line);
        if !ends_document {
            let file = [text, b"\n\n", line.as_bytes(), b"\n"].concat();
            assert_eq!(refusal(&file, syntax, &[name]), Some(name));
        }
    }

    // A quoted value means what the same value means in an environment.
    let breaks: &[u8] = if syntax == PamEnv { b"'#\n" } else { b"'\n" };
    if !text.iter().any(|b| breaks.contains(b)) {
        let file = [b"DO_NOT_TRACK='", text, b"'\n"].concat();
        assert_eq!(refusal(&file, syntax, &["DO_NOT_TRACK"]).is_some(), says_no(text));
    }
});
