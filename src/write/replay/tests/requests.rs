//! Requests as they are sent.

use proptest::prelude::*;

use super::*;

fn odd() -> Record {
    let mut record = record(Action::Patch, "{'a \\'b':1,'name':'b'}");
    record.relation = Relation::new("other", "odd table");
    record.profile = Some("other".into());
    record.headers =
        [("x-tenant", "7"), ("x-tenant", "8"), ("Prefer", "tx=rollback"), ("range", "0-0"), ("bad name", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
    record.key = [("id", "a,b+c"), ("order", "")]
        .map(|(column, value)| KeyPart { column: column.into(), value: value.into() })
        .to_vec();
    record.updated_at.column = "changed at".into();
    record
}

/// Method, target, headers and body, line by line.
fn lines(ask: &Ask) -> Vec<String> {
    let headers = ask.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let mut headers: Vec<_> = headers.collect();
    headers.sort();
    let mut lines = vec![format!("{} {}", ask.method, ask.target)];
    lines.append(&mut headers);
    lines.push(String::from_utf8(ask.body.to_vec()).unwrap());
    lines
}

fn next(replay: &mut Replay, answer: &str) -> Ask {
    match step(replay, answer) {
        Step::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_patch_and_its_read_are_spelt_out() {
    let (mut replay, ask) = Replay::new(job(vec![(10, odd())])).unwrap();
    assert_eq!(
        lines(&ask),
        [
            "PATCH /rest/v1/odd%20table?id=eq.a%2Cb%2Bc&%22order%22=eq.\
             &%22changed%20at%22=lte.1970-01-01T00%3A00%3A10%2B00%3A00&select=id%2Corder%2C%22changed%20at%22",
            "accept: application/json",
            "content-profile: other",
            "content-type: application/json",
            "prefer: return=representation",
            "x-tenant: 7",
            "x-tenant: 8",
            r#"{"a \"b":1,"name":"b","changed at":"1970-01-01T00:00:10+00:00"}"#,
        ]
    );
    assert_eq!(
        lines(&next(&mut replay, "200 []")),
        [
            "GET /rest/v1/odd%20table?id=eq.a%2Cb%2Bc&%22order%22=eq.&select=%2A",
            "accept-profile: other",
            "accept: application/json",
            "x-tenant: 7",
            "x-tenant: 8",
            "",
        ]
    );
}

#[test]
fn an_insert_and_its_read_are_spelt_out() {
    let record = Record { action: Action::Insert, ..odd() };
    let (mut replay, ask) = Replay::new(job(vec![(10, record)])).unwrap();
    assert_eq!(
        lines(&ask),
        [
            "POST /rest/v1/odd%20table",
            "accept: application/json",
            "content-profile: other",
            "content-type: application/json",
            "prefer: return=minimal",
            "x-tenant: 7",
            "x-tenant: 8",
            r#"{"id":"a,b+c","order":"","a \"b":1,"name":"b","changed at":"1970-01-01T00:00:10+00:00"}"#,
        ]
    );
    let read = next(&mut replay, "409 {'code':'23505'}");
    assert_eq!(
        read.target,
        "/rest/v1/odd%20table?id=eq.a%2Cb%2Bc&%22order%22=eq.\
         &select=id%2Corder%2C%22changed%20at%22%2C%22a%20%5C%22b%22%2Cname"
    );
}

#[test]
fn an_upsert_names_its_key_as_the_target() {
    let record = Record { action: Action::Upsert, base: Base::Absent, ..odd() };
    let (mut replay, _) = Replay::new(job(vec![(10, record)])).unwrap();
    next(&mut replay, "200 []");
    assert_eq!(
        lines(&next(&mut replay, "200 []"))[..5],
        [
            "POST /rest/v1/odd%20table?on_conflict=id%2Corder&select=id%2Corder%2C%22changed%20at%22",
            "accept: application/json",
            "content-profile: other",
            "content-type: application/json",
            "prefer: resolution=ignore-duplicates,return=representation",
        ]
    );
}

#[test]
fn without_a_profile_none_is_sent() {
    let (mut replay, ask) = Replay::new(patch("{'n':1}")).unwrap();
    let read = next(&mut replay, "200 []");
    for ask in [ask, read] {
        assert!(!ask.headers.contains_key("content-profile") && !ask.headers.contains_key("accept-profile"));
    }
}

#[test]
fn a_time_without_zone_is_sent_without_one() {
    let mut job = patch("{}");
    job.members[0].record.updated_at.kind = TimestampKind::WithoutZone;
    let (_, ask) = Replay::new(job).unwrap();
    assert!(ask.target.contains("at=lte.1970-01-01T00%3A00%3A10&"), "{}", ask.target);
    assert_eq!(&ask.body[..], br#"{"at":"1970-01-01T00:00:10"}"#);
}

fn any_answer() -> impl Strategy<Value = String> {
    let body = prop_oneof![
        Just("[]".to_owned()),
        Just("[{'id':5,'name':'b','n':2,'at':'@10'}]".to_owned()),
        Just("[{'id':5,'name':'x','n':2,'at':'@20'}]".to_owned()),
        Just("[{'id':5,'name':'x','n':2,'at':null}]".to_owned()),
        Just("{'code':'42501'}".to_owned()),
        Just("{'code':'23505'}".to_owned()),
        "\\PC{0,12}",
    ];
    (prop_oneof![4 => Just(200), 2 => Just(201), 1 => Just(409), 1 => Just(403), 1 => 100_u16..600], body)
        .prop_map(|(status, body)| format!("{status} {body}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever upstream says: no panic, no endless conversation, and each
    /// member ends once at most.
    #[test]
    fn every_conversation_ends(
        actions in prop::collection::vec((0..4_usize, 0..3_usize, any::<bool>()), 1..5),
        answers in prop::collection::vec(any_answer(), 60),
        echo in prop::option::of(Just("@20")),
        dead_letter in any::<bool>(),
    ) {
        let member = |(action, changes, absent): (usize, usize, bool)| {
            let action = [Action::Patch, Action::Patch, Action::Upsert, Action::Insert][action];
            let mut record = record(action, ["{'name':'b'}", "{'n':2}", "{}"][changes]);
            if absent {
                record.base = Base::Absent;
            }
            record
        };
        let mut job = job((10..).zip(actions.into_iter().map(member)).collect());
        (job.echo, job.retried_dead_letter) = (echo.map(spelt), dead_letter);
        let members = job.members.len();
        let (mut replay, _) = Replay::new(job).unwrap();
        let (mut asked, mut ended) = (1, 0);
        for answer in answers {
            match step(&mut replay, &answer) {
                Step::Ask(ask) => {
                    asked += 1;
                    prop_assert!(ask.member < members);
                }
                Step::End(end) => {
                    ended += end.ended.len();
                    prop_assert!(!end.ended.is_empty() && ended <= members);
                    if replay.proceed().is_none() {
                        prop_assert_eq!(ended, members);
                        break;
                    }
                    asked += 1;
                }
                Step::Retry(_) | Step::NewToken => break,
            }
        }
        prop_assert!(asked <= 14 * (2 * members + 1), "{asked} requests for {members} writes");
    }
}
