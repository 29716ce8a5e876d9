//! The entry codec: bytes from outside are an entry or an error, and what is
//! an entry says the same after having been laid out anew.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::cache::{Entry, EntryParts, Snapshot};

fuzz_target!(|data: &[u8]| {
    let Ok(read) = Entry::decode(data, &Snapshot::default()) else { return };
    assert_eq!(read.as_bytes(), data);
    let anew = laid_out(&read);

    assert_eq!(anew.status(), read.status());
    assert_eq!(anew.lifetimes(), read.lifetimes());
    assert_eq!(anew.body(), read.body());
    assert_eq!((anew.is_head_only(), anew.is_empty()), (read.is_head_only(), read.is_empty()));
    assert_eq!(anew.headers(), read.headers());
    for name in read.headers().keys() {
        assert_eq!(anew.header(name), read.header(name));
    }

    // The digest and the flags are the body's now and values of one name stand together:
    // from here on not a byte changes.
    let again = Entry::decode(anew.as_bytes(), &Snapshot::default()).expect("what was laid out can be read");
    assert_eq!(again, anew);
    assert_eq!(laid_out(&again), anew);
});

fn laid_out(entry: &Entry) -> Entry {
    let parts = EntryParts {
        status: entry.status(),
        headers: &entry.headers(),
        body: entry.body(),
        head_only: entry.is_head_only(),
        lifetimes: entry.lifetimes(),
        tags: &Snapshot::carried(entry.tags()),
    };
    Entry::new(&parts).expect("an entry has room for what an entry held")
}
