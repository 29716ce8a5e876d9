//! Tables of which nothing is known but what the file states.

use super::*;
use crate::postgrest::timestamp::TimestampKind;

fn stated(request: Request) -> Request {
    request.only(&["name", "age"]).with(|request| {
        request.is_described = false;
        request.policy.key = Some(vec!["id".into()]);
    })
}

#[test]
fn values_go_upstream_as_they_are() {
    let patch = stated(Request::patch(r#"{"name":"B","age":9007199254740993.10,"bio":null}"#));
    let admitted = patch.admitted(Row::Known(ROW)).unwrap();
    assert_eq!(admitted.changes.to_json(), r#"{"name":"B","age":9007199254740993.10}"#);
    assert_eq!(admitted.updated_at.kind, TimestampKind::WithZone);
    assert!(admitted.floor.is_some() && admitted.types.is_empty());
}

#[test]
fn the_row_tells_what_no_description_does() {
    let patch = |body: &str| stated(Request::patch(body));
    let put = stated(Request::put(&format!(r#"{{"id":"{ID}","name":"B"}}"#)));
    let upsert = stated(Request::upsert(&format!(r#"{{"id":"{ID}","name":"B"}}"#)));
    refused(
        vec![
            (patch(r#"{"name":null}"#), Reason::Null),
            (patch(r#"{"name":"\u0000"}"#), Reason::Value),
            (patch(r#"{"nothing":1}"#), Reason::Columns),
            (patch(r#"{"bio":"x"}"#), Reason::Columns),
            (patch(r#"{"name":"B"}"#).preferring("return=representation"), Reason::Representation),
            (put, Reason::MissingColumn),
            // Nobody knows then whether PostgREST takes the same columns for the key.
            (upsert.clone(), Reason::OnConflict),
            (stated(Request::insert(&format!(r#"{{"id":"{ID}","name":"B"}}"#))), Reason::Schema),
        ],
        Row::Known(ROW),
    );
    let upsert = upsert.asking("on_conflict=id");
    assert!(upsert.admitted(Row::Known(ROW)).is_ok());
    refused(vec![(upsert, Reason::Schema)], Row::Absent);
    let answered =
        patch(r#"{"name":"B"}"#).preferring("return=representation").asking("select=id,updated_at");
    assert!(answered.admitted(Row::Known(ROW)).is_ok());
    let untimed: &'static str =
        Box::leak(ROW.replace("2026-02-01T00:00:00.5+00:00", "today").into_boxed_str());
    refused(vec![(patch(r#"{"name":"B"}"#), Reason::UpdatedAtColumn)], Row::Known(untimed));
}

#[test]
fn keys_are_spelt_as_the_row_prints_them() {
    let keyed = |query: &str| stated(Request::patch(r#"{"name":"B"}"#)).on("profiles", query);
    refused(
        vec![
            (keyed("id=eq.05"), Reason::KeySpelling),
            (keyed("id=eq.ABCDEFAB-0000-1111-2222-333344445555"), Reason::KeySpelling),
            (keyed("id=eq.Ann"), Reason::RowKey),
        ],
        Row::Known(r#"{"id":"ann","name":"A","age":1,"updated_at":null}"#),
    );
    let timed = keyed("id=eq.5").with(|request| request.policy.updated_at = "id".into());
    assert_eq!(timed.examined(), Err(Reason::KeyType));
    let row = r#"{"id":5,"name":"A","age":1,"updated_at":"2026-02-01T00:00:00"}"#;
    let admitted = keyed("id=eq.5").admitted(Row::Known(row)).unwrap();
    assert_eq!(admitted.updated_at.kind, TimestampKind::WithoutZone);
}
