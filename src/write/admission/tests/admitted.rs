//! What the row decides.

use super::*;
use crate::postgrest::timestamp::TimestampKind;
use crate::write::representation;

const AT: &str = "2026-02-02T00:00:00+00:00";

fn at() -> Micros {
    Micros::parse(AT, TimestampKind::WithZone).unwrap()
}

fn base(admitted: &Admitted) -> Option<String> {
    match &admitted.base {
        Base::Row(row) => Some(row.to_json()),
        Base::Absent => None,
    }
}

#[test]
fn a_patch_of_a_known_row() {
    let body = format!(r#"{{"name":"B","age":"007","id":"{}","updated_at":"garbage"}}"#, ID.to_uppercase());
    let request = Request::patch(&body);
    let admitted = request.admitted(Row::Known(ROW)).unwrap();
    assert_eq!(admitted.action, Action::Patch);
    assert_eq!(admitted.key, [KeyPart { column: "id".into(), value: ID.into() }]);
    assert_eq!(admitted.changes.to_json(), r#"{"name":"B","age":7}"#);
    assert_eq!(base(&admitted).as_deref(), Some(ROW));
    let known = Micros::parse("2026-02-01T00:00:00.500001+00:00", TimestampKind::WithZone);
    assert_eq!(admitted.floor, known);
    assert!(!admitted.alone && admitted.returns.is_none() && admitted.preference_applied.is_none());
    let types: Vec<_> = admitted.types.iter().map(|(name, format)| format!("{name} {format}")).collect();
    assert_eq!(types, ["age bigint", "id uuid", "name text"]);
    assert!(request.judged(|candidate| Ok(candidate.needs_row())).unwrap());
}

#[test]
fn numbers_are_kept_digit_by_digit() {
    let request = Request::patch(r#"{"age":9007199254740993}"#);
    let admitted = request.admitted(Row::Known(ROW)).unwrap();
    assert_eq!(admitted.changes.to_json(), r#"{"age":9007199254740993}"#);
    let text = "é".repeat(30_000);
    let admitted = Request::patch(&format!(r#"{{"name":"{text}"}}"#)).admitted(Row::Known(ROW)).unwrap();
    assert_eq!(admitted.changes.get("name").unwrap().get(), format!("\"{text}\""));
}

#[test]
fn the_row_has_to_be_known() {
    let patch = Request::patch(r#"{"name":"B"}"#);
    let upsert = Request::upsert(&format!(r#"{{"id":"{ID}","name":"B"}}"#));
    refused(vec![(patch.clone(), Reason::RowUnknown), (upsert.clone(), Reason::RowUnknown)], Row::Unknown);
    refused(vec![(patch.clone(), Reason::RowNotVisible)], Row::Absent);
    let admitted = upsert.admitted(Row::Absent).unwrap();
    assert_eq!((base(&admitted), admitted.floor, admitted.alone), (None, None, false));
    let other = r#"{"id":"abcdefab-0000-1111-2222-333344446666","updated_at":null}"#;
    refused(vec![(patch.clone(), Reason::RowKey)], Row::Known(other));
    refused(vec![(patch, Reason::RowKey)], Row::Known(r#"{"updated_at":null}"#));
}

#[test]
fn the_rows_time_is_understood() {
    let row =
        |time: &str| -> &'static str { Box::leak(format!(r#"{{"id":"{ID}"{time}}}"#).into_boxed_str()) };
    let patch = Request::patch(r#"{"name":"B"}"#);
    for time in ["", r#","updated_at":"infinity""#, r#","updated_at":5"#, r#","updated_at":"""#] {
        refused(vec![(patch.clone(), Reason::UpdatedAtValue)], Row::Known(row(time)));
    }
    assert_eq!(patch.admitted(Row::Known(row(r#","updated_at":null"#))).unwrap().floor, None);
}

#[test]
fn a_plain_insert_is_alone() {
    let insert = Request::insert(&format!(r#"{{"id":"{}","name":"B"}}"#, ID.to_uppercase()));
    assert!(!insert.judged(|candidate| Ok(candidate.needs_row())).unwrap());
    for row in [Row::Absent, Row::Unknown] {
        let admitted = insert.admitted(row).unwrap();
        assert_eq!((admitted.action, admitted.alone), (Action::Insert, true));
        assert_eq!(admitted.key[0].value, ID);
        assert_eq!(admitted.changes.to_json(), r#"{"name":"B"}"#);
        assert_eq!(insert.admitted_after(row, &[], true).unwrap_err(), Reason::RowPending);
    }
    refused(vec![(insert.clone(), Reason::RowExists)], Row::Known(ROW));
    let changes = object("{}");
    let queued = [QueuedWrite { creates: true, changes: &changes, updated_at: at() }];
    assert_eq!(insert.admitted_after(Row::Unknown, &queued, false).unwrap_err(), Reason::RowPending);
    // A row may consist of its key alone.
    let member = Request::insert(r#"{"team":5,"member":"a"}"#).on("members", "");
    assert!(member.admitted(Row::Unknown).unwrap().changes.is_empty());
}

#[test]
fn queued_writes_are_laid_over_the_row() {
    let (first, second) = (object(r#"{"name":"B","age":1}"#), object(r#"{"age":2}"#));
    let queued = [
        QueuedWrite { creates: false, changes: &first, updated_at: at() },
        QueuedWrite { creates: false, changes: &second, updated_at: at().next() },
    ];
    let request = Request::patch(r#"{"bio":"x"}"#).preferring("return=representation");
    let admitted = request.admitted_after(Row::Known(ROW), &queued, true).unwrap();
    let laid = ROW
        .replace(r#""Ann""#, r#""B""#)
        .replace("30", "2")
        .replace("2026-02-01T00:00:00.5+", "2026-02-02T00:00:00.000001+");
    assert_eq!(base(&admitted), Some(laid.clone()));
    assert_eq!(admitted.floor, Some(at().next().next()));
    let answered = laid.replace(r#""bio":null"#, r#""bio":"x""#).replace(".000001", "");
    let body = representation::body(&admitted, at());
    assert_eq!(body, format!("[{answered}]"));
}

#[test]
fn a_queued_insert_makes_a_row() {
    let insert = object(r#"{"name":"B"}"#);
    let queued = [QueuedWrite { creates: true, changes: &insert, updated_at: at() }];
    let patch = Request::patch(r#"{"age":5}"#);
    let admitted = patch.admitted_after(Row::Absent, &queued, true).unwrap();
    assert_eq!(base(&admitted), Some(format!(r#"{{"id":"{ID}","name":"B","updated_at":"{AT}"}}"#)));
    let whole = patch.clone().preferring("return=representation");
    assert_eq!(whole.admitted_after(Row::Absent, &queued, true).unwrap_err(), Reason::Representation);
    assert!(whole.asking("select=id,name,age").admitted_after(Row::Absent, &queued, true).is_ok());
    // A change of a row that has gone brings it back for nobody.
    let gone = [QueuedWrite { creates: false, ..queued[0] }];
    assert_eq!(patch.admitted_after(Row::Absent, &gone, true).unwrap_err(), Reason::RowNotVisible);
}

#[test]
fn other_columns_may_be_there_unchanged() {
    let only = |body: &str| Request::patch(body).only(&["name"]);
    let same = only(r#"{"name":"B","price":1.5,"meta":{"a":1},"bio":null,"total":7}"#);
    assert_eq!(same.admitted(Row::Known(ROW)).unwrap().changes.to_json(), r#"{"name":"B"}"#);
    let computed =
        |body: &str| Request::patch(body).with(|request| request.policy.computed = vec!["total".into()]);
    refused(
        vec![
            (only(r#"{"name":"B","age":31}"#), Reason::Columns),
            (only(r#"{"name":"B","bio":"x"}"#), Reason::Columns),
            (only(r#"{"name":"B","price":2}"#), Reason::Columns),
            (computed(r#"{"name":"B","total":8}"#), Reason::Computed),
            (only(r#"{"age":30}"#), Reason::Empty),
            (computed(r#"{"total":7}"#), Reason::Empty),
            (Request::patch("{}"), Reason::Empty),
            (Request::patch(r#"{"updated_at":"2026-01-01T00:00:00Z"}"#), Reason::Empty),
            (Request::patch(&format!(r#"{{"id":"{ID}"}}"#)), Reason::Empty),
            (
                Request::upsert(&format!(r#"{{"id":"{ID}","name":"B","bio":"x"}}"#)).only(&["name"]),
                Reason::Columns,
            ),
        ],
        Row::Known(ROW),
    );
    let computed = computed(r#"{"name":"B","total":7}"#).admitted(Row::Known(ROW)).unwrap();
    assert_eq!(computed.changes.to_json(), r#"{"name":"B"}"#);
    let insert =
        |body: &str| Request::insert(&format!(r#"{{"id":"{ID}","name":"B",{body}}}"#)).only(&["name"]);
    assert_eq!(insert(r#""age":30"#).examined(), Err(Reason::Columns));
    let upsert = Request::upsert(&format!(r#"{{"id":"{ID}","name":"B","age":30}}"#)).only(&["name"]);
    refused(vec![(upsert.clone(), Reason::Columns)], Row::Absent);
    assert!(upsert.admitted(Row::Known(ROW)).is_ok());
}

#[test]
fn rows_of_others_are_left_alone() {
    let owned = |request: Request| {
        request.with(|request| {
            let (column, claim) = ("owner".to_owned(), "sub".to_owned());
            request.policy.owner = Some(crate::route::Owner { column, claim });
        })
    };
    let other_row: &'static str = Box::leak(ROW.replace("0a\"", "0b\"").into_boxed_str());
    let ownerless: &'static str = Box::leak(ROW.replace(&format!("\"{SUBJECT}\""), "null").into_boxed_str());
    let patch = || owned(Request::patch(r#"{"name":"B"}"#));
    for row in [other_row, ownerless] {
        refused(vec![(patch(), Reason::Owner)], Row::Known(row));
    }
    let nobody = patch().with(|request| request.policy.owner.as_mut().unwrap().claim = "nothing".into());
    let given_away = owned(Request::patch(&format!(r#"{{"name":"B","owner":"{OTHER_ID}"}}"#)));
    let disowned = owned(Request::patch(r#"{"name":"B","owner":null}"#));
    refused(
        vec![(nobody, Reason::Owner), (given_away, Reason::Owner), (disowned, Reason::Owner)],
        Row::Known(ROW),
    );
    assert!(patch().admitted(Row::Known(ROW)).is_ok());
    // The owner's column needs no mention in `columns`.
    let kept = owned(Request::patch(&format!(r#"{{"name":"B","owner":"{SUBJECT}"}}"#)).only(&["name"]));
    assert_eq!(kept.admitted(Row::Known(ROW)).unwrap().changes.to_json(), r#"{"name":"B"}"#);
    for upsert in [Request::insert, Request::upsert] {
        let made =
            |owner: &str| owned(upsert(&format!(r#"{{"id":"{ID}","name":"B"{owner}}}"#)).only(&["name"]));
        refused(vec![(made(""), Reason::Owner)], Row::Absent);
        refused(vec![(made(&format!(r#","owner":"{OTHER_ID}""#)), Reason::Owner)], Row::Absent);
        let own = made(&format!(r#","owner":"{}""#, SUBJECT.to_uppercase())).admitted(Row::Absent).unwrap();
        assert_eq!(own.changes.to_json(), format!(r#"{{"name":"B","owner":"{SUBJECT}"}}"#));
    }
}

#[test]
fn a_key_may_be_the_owner() {
    let by_id = |subject: &str| {
        let subject = subject.to_owned();
        Request::insert(&format!(r#"{{"id":"{ID}","name":"B"}}"#)).with(|request| {
            let (column, claim) = ("id".to_owned(), "sub".to_owned());
            request.policy.owner = Some(crate::route::Owner { column, claim });
            request.claims.insert("sub".into(), subject.into());
        })
    };
    assert!(by_id(ID).admitted(Row::Absent).is_ok());
    assert_eq!(by_id(OTHER_ID).examined(), Err(Reason::Owner));
}

#[test]
fn a_representation_needs_every_value() {
    let asking = |request: Request| request.preferring("return=representation");
    let patch = || asking(Request::patch(r#"{"name":"B"}"#));
    let computed = patch().with(|request| request.policy.computed = vec!["total".into()]);
    let partial: &'static str = Box::leak(ROW.replace(r#","total":7"#, "").into_boxed_str());
    let newer: &'static str = Box::leak(ROW.replace(r#""total""#, r#""sum":1,"total""#).into_boxed_str());
    refused(vec![(patch(), Reason::Representation)], Row::Known(partial));
    refused(vec![(patch(), Reason::Representation)], Row::Known(newer));
    refused(
        vec![
            (computed.clone(), Reason::Representation),
            (computed.clone().asking("select=total"), Reason::Representation),
        ],
        Row::Known(ROW),
    );
    assert!(computed.asking("select=name,updated_at").admitted(Row::Known(ROW)).is_ok());
    let insert = || asking(Request::insert(&format!(r#"{{"id":"{ID}","name":"B"}}"#)));
    refused(vec![(insert(), Reason::Representation)], Row::Absent);
    refused(vec![(insert().asking("select=id,age"), Reason::Representation)], Row::Absent);
    let admitted = insert().asking("select=updated_at,id,name").admitted(Row::Absent).unwrap();
    let body = representation::body(&admitted, at());
    assert_eq!(body, format!(r#"[{{"updated_at":"{AT}","id":"{ID}","name":"B"}}]"#));
    let one = patch().asking("select=name").having("accept", "application/vnd.pgrst.object+json");
    let body = representation::body(&one.admitted(Row::Known(ROW)).unwrap(), at());
    assert_eq!(body, r#"{"name":"B"}"#);
    let member = asking(Request::insert(r#"{"team":"5","member":"a"}"#)).on("members", "");
    let body = representation::body(&member.admitted(Row::Absent).unwrap(), at());
    assert_eq!(body, r#"[{"team":5,"member":"a","updated_at":"2026-02-02T00:00:00"}]"#);
}

#[test]
fn preferences_are_named_where_they_were_kept() {
    let upsert = |body: &str| Request::upsert(&format!(r#"{{"id":"{ID}",{body}}}"#));
    for (request, applied) in [
        (Request::patch(r#"{"name":"B"}"#), None),
        (Request::patch(r#"{"name":"B"}"#).preferring("return=minimal"), Some("return=minimal")),
        (
            Request::patch(r#"{"name":"B"}"#).preferring("resolution=merge-duplicates,return=representation"),
            Some("return=representation"),
        ),
        (upsert(r#""name":"B""#), Some("resolution=merge-duplicates")),
        (
            upsert(r#""name":"B""#).preferring("return=minimal"),
            Some("resolution=merge-duplicates, return=minimal"),
        ),
        (
            upsert(r#""name":"B""#).preferring("return=representation"),
            Some("resolution=merge-duplicates, return=representation"),
        ),
    ] {
        let admitted = request.admitted(Row::Known(ROW)).unwrap();
        assert_eq!(admitted.preference_applied, applied);
        let headers = representation::headers(&admitted);
        assert_eq!(headers.get("preference-applied").map(|value| value.to_str().unwrap()), applied);
    }
}
