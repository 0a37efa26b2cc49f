//! What a courier that was taken over may say to its parent, in whatever pieces it arrives.
#![no_main]

use install_record::courier::job::{Frame, NotAFrame};
use libfuzzer_sys::fuzz_target;

/// All frames at the front of `bytes`, what is left, and whether that can be no frame any more.
fn all(bytes: &mut Vec<u8>) -> (Vec<Frame>, Result<(), NotAFrame>) {
    let mut frames = Vec::new();
    loop {
        match Frame::decode(bytes) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, Ok(())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut whole = data.to_vec();
    let (frames, end) = all(&mut whole);
    assert!(data.ends_with(&whole));

    // Byte by byte it is the same.
    let (mut pieces, mut seen, mut seen_end) = (Vec::new(), Vec::new(), Ok(()));
    for byte in data {
        pieces.push(*byte);
        let (more, end) = all(&mut pieces);
        seen.extend(more);
        if end.is_err() {
            seen_end = end;
            break;
        }
    }
    assert_eq!((&seen, seen_end), (&frames, end));

    // And said again, it is the same once more.
    let mut again: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    assert_eq!(all(&mut again), (frames, Ok(())));
    assert_eq!(again, [0; 0]);
});
