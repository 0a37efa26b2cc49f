//! What a courier that was taken over may say to its parent: one line of it.
#![no_main]

use install_record::courier::message::{Delivery, Frame, MAX_ANSWER, MAX_REASON, MAX_RETRY_AFTER};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(frame) = serde_json::from_slice::<Frame>(data) else { return };
    // Said again, it is the same.
    let again = serde_json::to_vec(&frame).expect("JSON");
    assert_eq!(serde_json::from_slice::<Frame>(&again).expect("a frame"), frame);
    // And what is kept of it is bounded.
    if let Frame::Delivery(delivery) = frame {
        match delivery.bounded() {
            Delivery::Answered { answer, retry_after, .. } => {
                assert!(answer.len() <= MAX_ANSWER && retry_after.is_none_or(|pause| pause <= MAX_RETRY_AFTER));
            }
            Delivery::Failed { why, .. } => assert!(why.len() <= MAX_REASON),
        }
    }
});
