//! What holds whatever is sent.

use proptest::prelude::*;

use super::*;
use crate::postgrest::schema::Table;

/// JSON of every kind, much of it unfit for any column.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,25})([.][0-9]{1,5})?(e[0-9]{1,3})?",
        any::<String>().prop_map(|text| json!(text).to_string()),
        prop::sample::select(vec![ID, OTHER_ID, "2026-01-01T00:00:00Z", "eq.5", "1,or=(a.eq.1)"])
            .prop_map(|text| json!(text).to_string()),
        Just(r#""\ud800""#.to_owned()),
        Just(r#""\u0000""#.to_owned()),
        Just(r#"{"a": [1, {"b": "\u00e9"}], "a": 2}"#.to_owned()),
        Just("[".repeat(100)),
    ]
}

/// A value that the column holds, more often than not.
fn value_of(column: &str) -> impl Strategy<Value = String> + use<> {
    let quoted = |text: &str| json!(text).to_string();
    let fitting = match column {
        "id" => prop::sample::select(vec![quoted(ID), quoted(&ID.to_uppercase()), quoted(OTHER_ID)]).boxed(),
        "name" => any::<String>().prop_map(|text| json!(text).to_string()).boxed(),
        "bio" => "[a-z]{0,8}".prop_map(|text| json!(text).to_string()).boxed(),
        "age" => any::<i64>().prop_map(|number| number.to_string()).boxed(),
        "owner" => any::<u128>().prop_map(|number| format!("\"{number:032X}\"")).boxed(),
        "meta" => Just(r#"{"b": 1.0, "a": [null]}"#.to_owned()).boxed(),
        "updated_at" => Just(quoted("2026-01-01 00:00:00Z")).boxed(),
        // What the row has.
        "price" => Just("1.5".to_owned()).boxed(),
        _ => Just("7".to_owned()).boxed(),
    };
    prop_oneof![6 => fitting, 1 => value()]
}

fn body() -> impl Strategy<Value = String> {
    let columns = vec!["id", "name", "bio", "age", "owner", "meta", "price", "updated_at", "total"];
    let fields = prop::sample::subsequence(columns, 0..6).prop_flat_map(|columns| {
        columns.into_iter().map(|column| (Just(column), value_of(column))).collect::<Vec<_>>()
    });
    prop_oneof![
        8 => fields.prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
            format!("{{{}}}", fields.join(","))
        }),
        1 => any::<String>(),
        1 => value(),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![Method::PATCH, Method::PUT, Method::POST, Method::DELETE])
}

/// Whether each change is as upstream will print it, and none is the key or the time.
fn is_clean(table: &Table, admitted: &Admitted) -> bool {
    admitted.changes.iter().all(|(name, value)| {
        let Some(column) = table.column(name) else { return false };
        let canonical = column.column_type.canonical(value);
        let is_same = canonical.is_some_and(|canonical| canonical.get() == value.get());
        is_same && name != "updated_at" && !table.key().iter().any(|key| key == name)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_admitted_is_canonical_and_keeps_the_key(
        method in prop::sample::select(vec![Method::PATCH, Method::PATCH, Method::POST]), body in body(),
        merges in any::<bool>(), returns in any::<bool>(), is_limited in any::<bool>(),
        is_absent in prop::bool::weighted(0.2)
    ) {
        let is_insert = method == Method::POST;
        let body = match body.strip_prefix('{') {
            Some(rest) if is_insert && !rest.contains("\"id\"") => {
                let comma = if rest.starts_with('}') { "" } else { "," };
                format!(r#"{{"id":"{ID}","name":"B"{comma}{rest}"#)
            }
            _ => body,
        };
        let query = if is_insert { String::new() } else { format!("id=eq.{ID}") };
        let mut request = Request::new(method, &query, &body);
        if merges { request = request.preferring("resolution=merge-duplicates"); }
        if returns { request = request.preferring("return=representation"); }
        if is_limited { request = request.only(&["name", "bio"]); }
        let row = if is_absent { Row::Absent } else { Row::Known(ROW) };
        if let Ok(admitted) = request.admitted(row) {
            let table = SCHEMA.table("profiles").unwrap();
            prop_assert!(is_clean(table, &admitted), "{}", admitted.changes.to_json());
            let key = admitted.key[0].value.as_str();
            prop_assert!(key == ID || (is_insert && key == OTHER_ID), "{}", key);
            let allowed = |name: &str| !is_limited || matches!(name, "name" | "bio");
            prop_assert!(admitted.changes.iter().all(|(name, _)| allowed(name)));
            let answered = crate::write::representation::body(&admitted, Micros(0));
            prop_assert_eq!(answered.is_empty(), !returns);
            prop_assert!(answered.is_empty() || Object::parse_rows(&answered).is_some());
        }
    }

    #[test]
    fn a_change_of_one_column_passes_if_its_value_does(value in value()) {
        for column in ["name", "bio", "age", "owner", "meta", "price"] {
            let request = Request::patch(&format!(r#"{{"{column}":{value}}}"#));
            let column_type = &SCHEMA.table("profiles").unwrap().column(column).unwrap().column_type;
            let raw = serde_json::value::RawValue::from_string(value.clone()).ok();
            let canonical = raw.and_then(|raw| column_type.canonical(&raw)).map(|value| value.get().to_owned());
            if let Ok(admitted) = request.admitted(Row::Known(ROW)) {
                prop_assert_eq!(admitted.changes.get(column).map(|value| value.get().to_owned()), canonical);
            } else {
                let refusable = canonical.is_none() || value == "null";
                prop_assert!(refusable, "{} {}", column, value);
            }
        }
    }

    #[test]
    fn nothing_panics(
        method in method(), query in "([a-z=&.,()0-9*\"_:>-]|%[2-7][0-9a-f]){0,40}", body in any::<Vec<u8>>(),
        header in "(accept|prefer|content-type|content-profile|x-any)", value in "\\PC{0,20}",
        is_described in any::<bool>()
    ) {
        if Query::parse(&query).is_err() {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body).into_owned();
        let mut request = Request::new(method, &query, &body);
        request.is_described = is_described;
        if let Ok(value) = HeaderValue::from_str(&value) {
            request.headers.append(HeaderName::try_from(header).unwrap(), value);
        }
        for row in [Row::Known(ROW), Row::Absent, Row::Unknown] {
            let _ = request.admitted(row);
        }
    }
}
