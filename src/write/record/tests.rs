use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::postgrest::timestamp::Micros;

fn object(value: &Value) -> Object {
    Object::parse(value.to_string().as_bytes()).unwrap()
}

fn sealer() -> Sealer {
    Sealer::from_secret(&[b's'; 32]).unwrap()
}

fn record() -> Record {
    let caller = CallerName { fingerprint: [3; 16], role: "authenticated".into(), sub: "a".into() };
    let credential = Credential { token: "a.b.c".into(), api_key: None, expires: Some(Micros(1)) };
    let sealed = sealer().seal(&credential, WriteId(9), caller.id()).unwrap();
    Record {
        route: "users".into(),
        relation: Relation::new("public", "users"),
        profile: None,
        headers: vec![("x-a".into(), "1".into())],
        key: vec![KeyPart { column: "id".into(), value: "7".into() }],
        action: Action::Patch,
        changes: object(&json!({ "name": "é" })),
        base: Base::Row(object(&json!({ "id": 7, "name": null }))),
        updated_at: UpdatedAt { column: "updated_at".into(), kind: TimestampKind::WithZone },
        types: BTreeMap::from([("id".into(), "bigint".into()), ("name".into(), "text".into())]),
        guard: Guard::NotNewer,
        on_reject: OnReject::Park,
        credentials: CredentialMode::Token,
        caller,
        session: [5; 16],
        rights: [0xab; 16],
        sealed,
    }
}

#[test]
fn the_form_on_disk() {
    let bytes = record().encode().unwrap();
    let mut written: Value = serde_json::from_slice(&bytes).unwrap();
    assert!(bytes.starts_with(b"{\"version\":1,"));
    assert!(written["record"]["sealed"].take().is_string());
    let expected = json!({ "version": 1, "record": {
        "route": "users",
        "relation": { "schema": "public", "name": "users" },
        "profile": null,
        "headers": [["x-a", "1"]],
        "key": [{ "column": "id", "value": "7" }],
        "action": "patch",
        "changes": { "name": "é" },
        "base": { "row": { "id": 7, "name": null } },
        "updated_at": { "column": "updated_at", "kind": "with_zone" },
        "types": { "id": "bigint", "name": "text" },
        "guard": "not_newer",
        "on_reject": "park",
        "credentials": "token",
        "caller": { "fingerprint": "03".repeat(16), "role": "authenticated", "sub": "a" },
        "session": "05".repeat(16),
        "rights": "ab".repeat(16),
        "sealed": null,
    } });
    assert_eq!(written, expected);
}

#[test]
fn values_stay_digit_by_digit() {
    let exact = br#"{"a":1.10,"b":12345678901234567890123,"c":"\u0041","d":{"z":1, "a":2}}"#;
    let record = Record { changes: Object::parse(exact).unwrap(), base: Base::Absent, ..record() };
    let again = Record::decode(&record.encode().unwrap()).unwrap();
    assert!(again == record);
    assert_eq!(again.changes.get("b").unwrap().get(), "12345678901234567890123");
    assert_eq!(again.changes.get("a").unwrap().get(), "1.10");
}

#[test]
fn other_versions_are_refused_by_their_number() {
    let text = String::from_utf8(record().encode().unwrap().to_vec()).unwrap();
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(Record::decode(newer.as_bytes()).unwrap_err(), RecordError::Version { found: 2 });
    // A newer one may look different altogether.
    let error = Record::decode(br#"{"version":30,"what":[1]}"#).unwrap_err();
    assert!(error.to_string().starts_with("The queued write is of version 30, this Sluice reads version 1;"));
    for (from, to) in [
        ("\"version\":1", "\"version\":\"1\""),
        ("\"version\":1,", ""),
        ("\"version\":1", "\"version\":1,\"more\":1"),
        ("\"route\":", "\"more\":1,\"route\":"),
        ("\"action\":\"patch\"", "\"action\":\"delete\""),
        ("\"rights\":\"abab", "\"rights\":\"+bab"),
        ("\"rights\":\"abab", "\"rights\":\"ab"),
        ("\"guard\":\"not_newer\"", "\"guard\":null"),
        ("\"changes\":{", "\"changes\":{\"name\":1,"),
    ] {
        assert!(text.contains(from), "{from}");
        let error = Record::decode(text.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error, RecordError::Damaged, "{to}");
    }
}

#[test]
fn the_credential_is_that_of_the_write() {
    let record = record();
    assert_eq!(record.credential(&sealer(), WriteId(9)).unwrap().token, "a.b.c");
    assert_eq!(record.credential(&sealer(), WriteId(8)), Err(SealError::Damaged));
    let stranger = CallerName { fingerprint: [4; 16], ..record.caller.clone() };
    let stolen = Record { caller: stranger, ..record };
    assert_eq!(stolen.credential(&sealer(), WriteId(9)), Err(SealError::Damaged));
}

#[test]
fn nothing_of_the_row_is_shown() {
    let shown = format!("{:?} {:?} {:?}", record(), record().base, record().caller);
    assert!(!shown.contains('é') && !shown.contains("x-a") && !shown.contains("\"a\""), "{shown}");
    assert!(shown.contains("users") && shown.contains("Patch"), "{shown}");
}

#[test]
fn types_are_those_that_were_noted() {
    assert_eq!(record().column_type("name"), ColumnType::declared("text", None, None));
    assert_eq!(record().column_type("other"), ColumnType::Unknown);
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("\\PC{0,4}", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Object> {
    prop::collection::btree_map("\\PC{0,8}", any_value(), 0..4)
        .prop_map(|fields| object(&Value::Object(fields.into_iter().collect())))
}

fn any_record() -> impl Strategy<Value = Record> {
    let texts = (any::<String>(), any::<String>(), any::<Option<String>>(), any::<String>());
    let words = (
        prop::sample::select(vec![Action::Patch, Action::Put, Action::Insert, Action::Upsert]),
        prop::sample::select(vec![Guard::NotNewer, Guard::Unchanged]),
        prop::sample::select(vec![OnReject::Skip, OnReject::Park]),
        any::<Option<std::time::Duration>>(),
        any::<bool>(),
    );
    let row = prop::option::of(any_object());
    (texts, words, any_object(), row, any::<[u8; 16]>()).prop_map(|(texts, words, changes, row, rights)| {
        let (route, name, profile, value) = texts;
        let (action, guard, on_reject, max, has_zone) = words;
        let kind = if has_zone { TimestampKind::WithZone } else { TimestampKind::WithoutZone };
        Record {
            route,
            relation: Relation::new(value.clone(), name.clone()),
            headers: vec![(name.clone(), value.clone())],
            profile,
            key: vec![KeyPart { column: name.clone(), value }],
            action,
            changes,
            base: row.map_or(Base::Absent, Base::Row),
            updated_at: UpdatedAt { column: name.clone(), kind },
            types: BTreeMap::from([(name.clone(), "text".into())]),
            guard,
            on_reject,
            credentials: max.map_or(CredentialMode::Token, |max| CredentialMode::Remint { max }),
            caller: CallerName { fingerprint: rights, role: name.clone(), sub: name },
            session: rights,
            rights,
            ..record()
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in any_record()) {
        let bytes = record.encode().unwrap();
        prop_assert!(Record::decode(&bytes) == Ok(record));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::decode(&bytes);
    }

    #[test]
    fn a_damaged_record_is_read_without_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = record().encode().unwrap().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = Record::decode(&bytes);
        bytes.truncate(at);
        prop_assert_eq!(Record::decode(&bytes).map(|_| ()), Err(RecordError::Damaged));
    }
}
