//! What a deferred write is answered: the body and the headers that PostgREST
//! would give, had it done the write. The status is always 202.

use bytes::Bytes;
use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::admission::Admitted;
use super::record::Action;
use crate::postgrest::object::text_value;
use crate::postgrest::timestamp::Micros;

const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const ARRAY: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const OBJECT: HeaderValue = HeaderValue::from_static("application/vnd.pgrst.object+json; charset=utf-8");

/// The answer's body: the changed row, where the client asked for it, else nothing.
pub fn body(admitted: &Admitted, updated_at: Micros) -> Bytes {
    let Some(returns) = &admitted.returns else { return Bytes::new() };
    let mut row = returns.row.clone();
    let column = &admitted.updated_at;
    if row.get(&column.column).is_some() {
        row.set(&column.column, text_value(&updated_at.text(column.kind)));
    }
    let row = row.to_json();
    Bytes::from(if returns.object { row } else { format!("[{row}]") })
}

/// The headers about the body and the preferences that were kept.
pub fn headers(admitted: &Admitted) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(3);
    if let Some(applied) = admitted.preference_applied {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(applied));
    }
    if let Some(returns) = &admitted.returns {
        headers.insert(CONTENT_TYPE, if returns.object { OBJECT } else { ARRAY });
    }
    // PostgREST counts the rows that it updates, never those that it inserts.
    match admitted.action {
        Action::Patch => headers.insert(CONTENT_RANGE, HeaderValue::from_static("0-0/*")),
        Action::Insert | Action::Upsert => headers.insert(CONTENT_RANGE, HeaderValue::from_static("*/*")),
        Action::Put => None,
    };
    headers
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::postgrest::object::Object;
    use crate::postgrest::timestamp::TimestampKind;
    use crate::write::admission::Returns;
    use crate::write::record::{Base, UpdatedAt};

    fn admitted(action: Action, returns: Option<(&str, bool)>) -> Admitted {
        let row = |json: &str| Object::parse(json.as_bytes()).unwrap();
        Admitted {
            action,
            key: Vec::new(),
            changes: Object::new(),
            base: Base::Absent,
            updated_at: UpdatedAt { column: "changed".into(), kind: TimestampKind::WithZone },
            types: BTreeMap::new(),
            floor: None,
            alone: false,
            returns: returns.map(|(json, object)| Returns { row: row(json), object }),
            preference_applied: returns.map(|_| "return=representation"),
        }
    }

    #[test]
    fn the_time_is_set_where_it_was_asked_for() {
        let at = Micros(1_000_000);
        for (row, object, body) in [
            (
                r#"{"b":1.50,"changed":null,"a":"x"}"#,
                false,
                r#"[{"b":1.50,"changed":"1970-01-01T00:00:01+00:00","a":"x"}]"#,
            ),
            (r#"{"a":{"b": 1}}"#, true, r#"{"a":{"b": 1}}"#),
        ] {
            assert_eq!(super::body(&admitted(Action::Patch, Some((row, object))), at), body);
        }
        assert_eq!(super::body(&admitted(Action::Patch, None), at), "");
    }

    #[test]
    fn headers_are_those_of_postgrest() {
        let array = "application/json; charset=utf-8";
        let object = "application/vnd.pgrst.object+json; charset=utf-8";
        for (action, returns, content_type, content_range) in [
            (Action::Patch, None, None, Some("0-0/*")),
            (Action::Patch, Some(false), Some(array), Some("0-0/*")),
            (Action::Insert, Some(true), Some(object), Some("*/*")),
            (Action::Upsert, Some(false), Some(array), Some("*/*")),
            (Action::Put, Some(true), Some(object), None),
        ] {
            let headers = headers(&admitted(action, returns.map(|object| ("{}", object))));
            let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!((value("content-type"), value("content-range")), (content_type, content_range));
            assert_eq!(value("preference-applied"), returns.map(|_| "return=representation"));
        }
    }
}
