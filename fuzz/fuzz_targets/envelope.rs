//! Entries as Redis has them: whatever a value there has become, it is what
//! was stored or an error.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use sluice::cache::Key;
use sluice::store::envelope::{Envelope, MAX_ENTRY, seal};
use sluice::store::stamp::{Stamp, Stamps};
use sluice::tag::TagId;

fuzz_target!(|data: &[u8]| {
    let key = Key::from([7; 32]);
    // Bytes of any origin never panic.
    if let Ok(envelope) = Envelope::read(Bytes::copy_from_slice(data)) {
        let _ = envelope.open(&key, MAX_ENTRY);
    }

    let [changes, cut, entry @ ..] = data else { return };
    let (changes, entry) = entry.split_at(usize::from(*changes).min(entry.len()));
    let stamps: Stamps = [(TagId(1), Some(Stamp(1))), (TagId(2), Some(Stamp(2)))].into_iter().collect();
    let frame = seal(&key, &stamps, false, entry).expect("a complete, small entry");
    let damaged = damage(frame, changes, *cut);
    if let Ok(opened) = Envelope::read(damaged.into()).and_then(|envelope| envelope.open(&key, MAX_ENTRY)) {
        assert_eq!(&opened[..], entry);
    }
});

/// Changes some of the frame's bytes and cuts off up to 15.
fn damage(mut frame: Vec<u8>, changes: &[u8], cut: u8) -> Vec<u8> {
    for pair in changes.chunks_exact(2) {
        let at = usize::from(pair[0]) % frame.len();
        frame[at] ^= pair[1];
    }
    let length = frame.len() - usize::from(cut % 16).min(frame.len());
    frame.truncate(length);
    frame
}
