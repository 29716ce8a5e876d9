//! The query canonicaliser: whatever is read is sorted, and reads the same
//! again from any other spelling of the same parameters.

#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sluice::postgrest::query::{MAX_PARAMETERS, Query};

fuzz_target!(|raw: &str| {
    let Ok(query) = Query::parse(raw) else { return };
    let pairs = query.pairs();
    assert!(pairs.len() <= MAX_PARAMETERS);
    assert!(pairs.is_sorted_by(|(one, _), (next, _)| one <= next));
    assert!(pairs.iter().all(|(name, value)| !name.contains('\0') && !value.contains('\0')));

    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let spelt: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    assert_eq!(Query::parse(&spelt.join("&")).as_ref(), Ok(&query));
    assert_eq!(Query::parse(&format!("&{}&&", spelt.join("&&"))).as_ref(), Ok(&query));

    for (name, _) in pairs {
        let named = pairs.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        assert!(query.all(name).eq(named));
    }
});
