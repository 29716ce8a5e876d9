//! What needs no row.

use super::*;

/// A request as supabase-js sends it is nothing that these rules refuse.
#[test]
fn ordinary_writes_pass() {
    let whole = r#"{"id":"abcdefab-0000-1111-2222-333344445555","name":"B","bio":"x","age":1,"owner":null,"meta":null,"price":null,"updated_at":"x","total":null}"#;
    for request in [
        Request::patch(r#"{"name":"B"}"#),
        Request::patch(r#"{"name":"B"}"#).asking("select=*").preferring("return=representation"),
        Request::patch(r#"{"name":"B"}"#).asking("select=id,%22name%22").preferring("return=minimal"),
        Request::patch(r#"{"name":"B"}"#).asking("columns=name"),
        Request::patch(r#"{"name":"B"}"#).having("x-ignored", "1").having("accept", "application/json"),
        Request::patch(r#"{"name":"B"}"#)
            .preferring("")
            .preferring(" return=minimal ,")
            .without("content-type"),
        Request::patch(r#"{"name":"B"}"#).with(|request| {
            request.vary = vec![HeaderName::from_static("x-tenant")];
            request.headers.insert("x-tenant", HeaderValue::from_static("a"));
        }),
        Request::patch(r#"{"name":"B"}"#).without("content-profile"),
        Request::put(whole),
        Request::insert(&format!(r#"{{"id":"{ID}","name":"B"}}"#)).asking("columns=%22id%22,%22name%22"),
        Request::upsert(&format!(r#"{{"id":"{ID}","name":"B"}}"#)).asking("on_conflict=id"),
        Request::patch(r#"{"updated_at":null,"member":"ü,)\"'"}"#)
            .on("members", "team=eq.5&member=eq.%C3%BC,)%22'"),
    ] {
        let result = request.examined();
        // The last one repeats its key alone.
        assert!(result.is_ok(), "{} {} {}: {result:?}", request.method, request.query, request.body);
    }
}

#[test]
fn the_route_and_the_caller() {
    let patch = || Request::patch(r#"{"name":"B"}"#);
    let claims = |name: &'static str, value: Value| {
        patch().with(|request| {
            request.claims.insert(name.to_owned(), value);
        })
    };
    refused(
        vec![
            (patch().with(|request| request.policy.methods.patch = false), Reason::Method),
            (patch().with(|request| request.method = Method::DELETE), Reason::Method),
            (patch().with(|request| request.is_verified = false), Reason::Token),
            (patch().with(|request| request.is_admitted = false), Reason::ApiKey),
            (patch().with(|request| drop(request.claims.remove("sub"))), Reason::Subject),
            (claims("sub", json!(5)), Reason::Subject),
            (claims("sub", json!("")), Reason::Subject),
            (claims("iss", json!(5)), Reason::Subject),
            (patch().with(|request| drop(request.claims.remove("role"))), Reason::Role),
            (claims("role", json!("anon")), Reason::Role),
            (claims("role", json!("service_role")), Reason::Role),
            (claims("role", json!(["authenticated"])), Reason::Role),
            (patch().with(|request| request.token_life = Some(59)), Reason::TokenLife),
            (patch().with(|request| request.token_life = Some(0)), Reason::TokenLife),
        ],
        Row::Known(ROW),
    );
    for request in [
        patch().with(|request| request.token_life = Some(60)),
        patch().with(|request| request.token_life = None),
        patch().with(|request| {
            request.token_life = Some(0);
            request.policy.credentials = crate::route::CredentialMode::Remint { max: Duration::ZERO };
        }),
    ] {
        assert_eq!(request.examined(), Ok(()));
    }
}

#[test]
fn headers_that_may_matter() {
    let patch = || Request::patch(r#"{"name":"B"}"#);
    let header = |name: &'static str| Reason::Header(HeaderName::from_static(name));
    for name in [
        "range",
        "range-unit",
        "if-none-match",
        "if-modified-since",
        "if-range",
        "if-match",
        "if-unmodified-since",
        "expect",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "cookie",
        "x-tenant",
        "accept-profile",
        "content-range",
    ] {
        refused(vec![(patch().having(name, "1"), header(name))], Row::Known(ROW));
    }
    let unreadable = |request: &mut Request, name: &'static str| {
        request.vary = vec![HeaderName::from_static(name)];
        request.headers.insert(name, HeaderValue::from_bytes(b"\xff").unwrap());
    };
    // Neither list makes these harmless.
    let listed = |name: &'static str| {
        patch().having(name, "1").with(|request| request.vary = vec![HeaderName::from_static(name)])
    };
    refused(
        vec![
            (patch().with(|request| unreadable(request, "x-tenant")), header("x-tenant")),
            (listed("range"), header("range")),
            (listed("expect"), header("expect")),
            (listed("content-encoding"), Reason::ContentEncoding),
            (patch().having("content-encoding", "identity"), Reason::ContentEncoding),
        ],
        Row::Known(ROW),
    );
}

#[test]
fn the_body_and_the_answer_are_json() {
    let patch = || Request::patch(r#"{"name":"B"}"#);
    let typed = |value: &str| patch().without("content-type").having("content-type", value);
    refused(
        vec![
            (typed("text/csv"), Reason::ContentType),
            (typed("Application/JSON"), Reason::ContentType),
            (typed("application/json; charset=latin1"), Reason::ContentType),
            (typed("application/json;charset=utf-8;x=y"), Reason::ContentType),
            (typed("application/vnd.pgrst.object+json"), Reason::ContentType),
            (typed("application/x-www-form-urlencoded"), Reason::ContentType),
            (patch().having("content-type", "application/json"), Reason::ContentType),
            (patch().having("accept", "text/csv"), Reason::Accept),
            (patch().having("accept", "application/vnd.pgrst.plan+json"), Reason::Accept),
            (patch().having("accept", "application/vnd.pgrst.object+json;nulls=stripped"), Reason::Accept),
            (patch().having("accept", "application/json, */*"), Reason::Accept),
            (patch().having("accept", "*/*").having("accept", "text/csv"), Reason::Accept),
        ],
        Row::Known(ROW),
    );
    for value in ["application/json;charset=UTF-8", "application/json ; charset=utf-8", "application/json;"] {
        assert_eq!(typed(value).examined(), Ok(()), "{value}");
    }
}

#[test]
fn the_schema_is_the_one_that_was_planned_for() {
    let patch = || Request::patch(r#"{"name":"B"}"#);
    let doubted = patch().with(|request| request.default_schema_holds = false);
    refused(
        vec![
            (patch().having("content-profile", "public"), Reason::ContentProfile),
            (patch().without("content-profile").having("content-profile", "api"), Reason::ContentProfile),
            (doubted.clone().without("content-profile"), Reason::DefaultSchema),
        ],
        Row::Known(ROW),
    );
    assert_eq!(doubted.examined(), Ok(()));
}

#[test]
fn preferences_that_can_be_kept() {
    for preference in [
        "count=exact",
        "tx=rollback",
        "missing=default",
        "handling=strict",
        "max-affected=1",
        "timezone=Europe/Berlin",
        "return=headers-only",
        "return = minimal",
        "Return=minimal",
        "respond-async",
        "resolution=ignore-duplicates",
        "return=minimal,return=representation",
        "return=minimal, return=minimal",
        "return=minimal;x=y",
    ] {
        let patch = Request::patch(r#"{"name":"B"}"#).preferring(preference);
        refused(vec![(patch, Reason::Prefer)], Row::Known(ROW));
    }
    let mut unreadable = Request::patch(r#"{"name":"B"}"#);
    unreadable.headers.insert("prefer", HeaderValue::from_bytes(b"return=\xff").unwrap());
    let merging = Request::upsert(&format!(r#"{{"id":"{ID}","name":"B"}}"#));
    refused(
        vec![
            (unreadable, Reason::Prefer),
            (merging.clone().preferring("resolution=ignore-duplicates"), Reason::Prefer),
            (merging.preferring("resolution=merge-duplicates"), Reason::Prefer),
        ],
        Row::Known(ROW),
    );
}

#[test]
fn the_tables_shape() {
    let patch = || Request::patch(r#"{"name":"B"}"#);
    let keyed = |request: Request, columns: &[&str]| {
        let key = columns.iter().map(|&column| column.to_owned()).collect();
        request.with(|request| request.policy.key = Some(key))
    };
    let timed = |column: &str| {
        let column = column.to_owned();
        patch().with(|request| request.policy.updated_at = column)
    };
    let undescribed = || patch().with(|request| request.is_described = false);
    let feed = || Request::patch(r#"{"name":"B"}"#).on("feed", &format!("id=eq.{ID}"));
    refused(
        vec![
            (undescribed(), Reason::Schema),
            (keyed(undescribed(), &["id"]), Reason::Schema),
            (undescribed().only(&["name"]), Reason::Schema),
            (patch().on("nowhere", &format!("id=eq.{ID}")), Reason::Schema),
            (feed(), Reason::View),
            (keyed(feed(), &["id"]), Reason::View),
            (feed().only(&["name"]), Reason::View),
            (keyed(patch(), &["name"]), Reason::Key),
            (keyed(feed().only(&["name"]), &["updated_at"]), Reason::KeyType),
            (keyed(feed().only(&["name"]), &[]), Reason::KeyType),
            (Request::patch(r#"{"updated_at":1}"#).on("prices", "amount=eq.5"), Reason::KeyType),
            (Request::patch("{}").on("choices", "select=eq.5"), Reason::KeyType),
            (timed("changed"), Reason::UpdatedAtColumn),
            (timed("name"), Reason::UpdatedAtColumn),
            (Request::patch("{}").on("notes", "id=eq.5"), Reason::UpdatedAtColumn),
        ],
        Row::Known(ROW),
    );
    let stated = keyed(feed().only(&["name"]), &["id"]);
    assert_eq!(stated.examined(), Ok(()));
    // What a view's columns may hold is not all said.
    assert_eq!(stated.with(|request| request.body = r#"{"name":null}"#.into()).examined(), Err(Reason::Null));
    assert_eq!(keyed(patch(), &["id"]).examined(), Ok(()));
}

#[test]
fn filters_are_the_whole_key() {
    let patch = |query: &str| Request::patch(r#"{"name":"B"}"#).on("profiles", query);
    let eq = format!("id=eq.{ID}");
    for (query, reason) in [
        ("".to_owned(), Reason::Filter),
        ("id=in.(1)".to_owned(), Reason::Filter),
        (format!("id=not.eq.{ID}"), Reason::Filter),
        (format!("id=eq(any).{{{ID}}}"), Reason::Filter),
        (format!("id={ID}"), Reason::Filter),
        (format!("id=EQ.{ID}"), Reason::Filter),
        ("id=eq.ABCDEFAB-0000-1111-2222-333344445555".to_owned(), Reason::KeySpelling),
        (format!("id=eq.%7B{ID}%7D"), Reason::KeySpelling),
        ("id=eq.5".to_owned(), Reason::KeySpelling),
        ("id=eq.".to_owned(), Reason::KeySpelling),
        (format!("id=eq.%20{ID}"), Reason::KeySpelling),
        (format!("{eq}&id=eq.{ID}"), Reason::RepeatedParameter),
        (format!("{eq}&select=id&select=id"), Reason::RepeatedParameter),
        (format!("{eq}&name=eq.Ann"), Reason::Parameter),
        (format!("{eq}&or=(id.eq.1)"), Reason::Parameter),
        (format!("{eq}&limit=1"), Reason::Parameter),
        (format!("{eq}&order=id"), Reason::Parameter),
        (format!("{eq}&apikey=key"), Reason::Parameter),
        (format!("{eq}&on_conflict=id"), Reason::Parameter),
        (format!("{eq}&updated_at=lte.2026-01-01"), Reason::Parameter),
        (format!("{eq}&=x"), Reason::Parameter),
    ] {
        refused(vec![(patch(&query), reason)], Row::Known(ROW));
    }
    for query in ["team=eq.05&member=eq.a", "team=eq.%205&member=eq.a", "team=eq.%2B5&member=eq.a"] {
        let request = Request::patch("{}").on("members", query);
        refused(vec![(request, Reason::KeySpelling)], Row::Absent);
    }
    refused(vec![(Request::patch("{}").on("members", "team=eq.5"), Reason::Filter)], Row::Absent);
}

#[test]
fn values_that_look_like_operators_are_text() {
    for (query, value) in [
        ("eq.1,or=(a.eq.1)", "1,or=(a.eq.1)"),
        ("eq.not.eq.1", "not.eq.1"),
        ("eq.%22x%22", "\"x\""),
        ("eq.null", "null"),
        ("eq.", ""),
        ("eq.a+b%2Bc", "a b+c"),
    ] {
        let request = Request::patch(r#"{"team":5}"#).on("members", &format!("team=eq.5&member={query}"));
        let key = request.judged(|candidate| Ok(candidate.key().to_vec())).unwrap();
        let parts: Vec<_> = key.iter().map(|part| (part.column.as_str(), part.value.as_str())).collect();
        assert_eq!(parts, [("member", value), ("team", "5")], "{query}");
    }
}

#[test]
fn columns_names_what_the_body_has() {
    let patch = |columns: &str| Request::patch(r#"{"name":"B","updated_at":"x"}"#).asking(columns);
    for columns in ["columns=name", "columns=name,updated_at,age", "columns=", "columns=name,name,updated_at"]
    {
        refused(vec![(patch(columns), Reason::ColumnsParameter)], Row::Known(ROW));
    }
    assert_eq!(patch("columns=updated_at,%22name%22").examined(), Ok(()));
}

#[test]
fn select_is_plain_columns() {
    for select in [
        "",
        "*,name",
        "name,name",
        "n:name",
        "name::text",
        "meta->a",
        "meta->>a",
        "teams(name)",
        "count()",
        "age.sum()",
        "nothing",
        "name,",
        "...teams(name)",
    ] {
        let patch = Request::patch(r#"{"name":"B"}"#).asking(&format!("select={select}"));
        refused(vec![(patch, Reason::Select)], Row::Known(ROW));
    }
}

#[test]
fn the_conflict_target_is_the_key() {
    let body = format!(r#"{{"id":"{ID}","name":"B"}}"#);
    for target in ["on_conflict=name", "on_conflict=", "on_conflict=id,name", "on_conflict=id,id"] {
        let cases = [Request::upsert(&body), Request::insert(&body)];
        refused(cases.map(|request| (request.asking(target), Reason::OnConflict)).into(), Row::Absent);
    }
    for parameter in ["id=eq.1", "or=(id.eq.1)", "limit=1"] {
        refused(vec![(Request::upsert(&body).asking(parameter), Reason::Parameter)], Row::Absent);
    }
    let member = Request::upsert(r#"{"team":5,"member":"a"}"#);
    assert_eq!(member.on("members", "on_conflict=team,member").examined(), Ok(()));
    // What PostgREST itself takes for a view's key is not what the file says.
    let feed = Request::upsert(r#"{"id":"abcdefab-0000-1111-2222-333344445555","name":"x"}"#).on("feed", "");
    let feed = feed.only(&["id"]).with(|request| request.policy.key = Some(vec!["name".into()]));
    refused(vec![(feed, Reason::OnConflict)], Row::Absent);
}

#[test]
fn bodies_are_one_object() {
    let deep = format!(r#"{{"meta":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let large = format!(r#"{{"name":"{}"}}"#, "x".repeat(65_536));
    for (body, reason) in [
        ("", Reason::NotJson),
        ("name=B", Reason::NotJson),
        (r#"{"name":"B"} {}"#, Reason::NotJson),
        (r#"{"name":"B""#, Reason::NotJson),
        (r#"{"name":NaN}"#, Reason::NotJson),
        (deep.as_str(), Reason::NotJson),
        (r#"[{"name":"B"}]"#, Reason::NotAnObject),
        ("null", Reason::NotAnObject),
        ("5", Reason::NotAnObject),
        (r#"{"name":"B","n\u0061me":"C"}"#, Reason::RepeatedField),
        (large.as_str(), Reason::BodyTooLarge),
        (r#"{"nothing":1}"#, Reason::UnknownColumn),
        (r#"{"Name":"B"}"#, Reason::UnknownColumn),
    ] {
        refused(vec![(Request::patch(body), reason)], Row::Known(ROW));
    }
}

#[test]
fn values_fit_their_columns() {
    for body in [
        r#"{"age":9223372036854775808}"#,
        r#"{"age":1.5}"#,
        r#"{"age":true}"#,
        r#"{"name":"a\u0000b"}"#,
        r#"{"meta":{"a":"\u0000"}}"#,
        r#"{"name":["a"]}"#,
        r#"{"bio":"123456789"}"#,
        r#"{"owner":"nobody"}"#,
        r#"{"price":1.5}"#,
        r#"{"id":5}"#,
        r#"{"id":null}"#,
    ] {
        refused(vec![(Request::patch(body), Reason::Value)], Row::Known(ROW));
    }
    refused(vec![(Request::patch(r#"{"name":null}"#), Reason::Null)], Row::Known(ROW));
    assert_eq!(Request::patch(r#"{"bio":null}"#).examined(), Ok(()));
}

#[test]
fn the_key_stays() {
    let other = format!(r#"{{"id":"{OTHER_ID}","name":"B"}}"#);
    let put = |body: &str| {
        let rest = r#""bio":"x","age":1,"owner":null,"meta":null,"price":null,"total":null"#;
        Request::put(&format!("{{{body}{rest}}}"))
    };
    refused(
        vec![
            (Request::patch(&other), Reason::KeyChange),
            (put(&format!(r#""id":"{OTHER_ID}","name":"B","#)), Reason::KeyChange),
            (put(r#""name":"B","#), Reason::KeyMissing),
            (Request::insert(r#"{"name":"B"}"#), Reason::KeyMissing),
            (Request::upsert(r#"{"name":"B"}"#), Reason::KeyMissing),
            (Request::upsert(r#"{"team":5}"#).on("members", ""), Reason::KeyMissing),
        ],
        Row::Known(ROW),
    );
}

#[test]
fn columns_that_have_to_be_there() {
    refused(
        vec![
            (Request::put(&format!(r#"{{"id":"{ID}","name":"B"}}"#)), Reason::MissingColumn),
            (Request::insert(&format!(r#"{{"id":"{ID}","bio":"B"}}"#)), Reason::MissingColumn),
            (Request::upsert(&format!(r#"{{"id":"{ID}","bio":"B"}}"#)), Reason::MissingColumn),
        ],
        Row::Absent,
    );
}
