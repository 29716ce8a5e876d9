use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderValue};

use super::*;
use crate::cache::{Entry, EntryParts, EntryTags, Generations, Key, Lifetimes, Memory, Timestamp, VaryNames};
use crate::identity::Caller;
use crate::postgrest::query::Query;
use crate::proxy::front::index::{Index, ReaderId, Slot};
use crate::proxy::gateway::Stores;
use crate::proxy::gateway::tests::settings;
use crate::proxy::head::{HeadLimits, MAX_HEADERS, parse};
use crate::request::Dialect;
use crate::tag::TagId;
use crate::telemetry::metrics::Metrics;

const TAG: TagId = TagId(5);
const GET: &str = "GET /storage/v1/object/public/a/b HTTP/1.1\r\nHost: h\r\n\r\n";
const LIMITS: HeadLimits = HeadLimits { max_bytes: 4096, max_headers: 16 };

fn key() -> Key {
    Key::from([3; 16])
}

fn tags() -> EntryTags {
    EntryTags::new(&[TAG], &[])
}

/// Hits over a memory whose one entry [`GET`] asks for.
fn hits() -> Hits {
    let stores = Stores {
        memory: Arc::new(Memory::new(1 << 20)),
        index: Index::new(1 << 20),
        generations: Arc::new(Generations::new()),
        shared: None,
        queue: None,
    };
    let gateway = Arc::new(Gateway::new(settings(), stores, Arc::new(Metrics::new())));
    store(&gateway, 60_000, b"body");
    let hits = Hits::new(gateway);
    enter(&hits);
    hits
}

fn store(gateway: &Gateway, lifetime: u64, body: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("image/png"));
    let received_at = Timestamp::from(SystemTime::now());
    let parts = EntryParts {
        status: StatusCode::OK,
        headers: &headers,
        body,
        head_only: false,
        lifetimes: Lifetimes { received_at, lifetime, ..Lifetimes::default() },
        tags: &gateway.generations.read(tags().of(false), Instant::now()),
    };
    gateway.memory.insert(key(), Entry::new(&parts).unwrap());
}

fn enter(hits: &Hits) {
    let settings = hits.gateway.settings();
    let caller = Caller::without_credentials(&HeaderMap::new(), &Query::parse("").unwrap()).unwrap();
    let edition = settings.edition();
    let reader = ReaderId::of(&caller, "objects", Dialect::Object, edition);
    let slot = Slot { key: key(), tags: tags().prints(), coding: None, reader };
    let Answer::Elsewhere(Some(spelling)) = ask(hits, GET).0 else { panic!("it is known already") };
    hits.gateway.index.enter(spelling, slot, || Reader {
        edition,
        grounds: caller.grounds(),
        writer: caller.writer(),
        dialect: Dialect::Object,
        vary: Arc::new(VaryNames::new(Dialect::Object, false, &[], false)),
        route: "objects".into(),
        metrics: hits.gateway.metrics.route("objects"),
    });
}

fn ask(hits: &Hits, head: &str) -> (Answer, String) {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let head = parse(head.as_bytes(), &mut fields, LIMITS).unwrap().unwrap();
    let mut out = Vec::new();
    let answer = hits.answer(&head, None, Instant::now(), &mut out);
    (answer, String::from_utf8(out).unwrap())
}

fn is_hit(hits: &Hits) -> bool {
    matches!(ask(hits, GET).0, Answer::Written { .. })
}

#[test]
fn an_answer_is_the_head_and_the_body() {
    let (answer, text) = ask(&hits(), GET);
    assert!(matches!(answer, Answer::Written { body: None }));
    assert!(text.starts_with("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n"), "{text}");
    assert!(
        text.contains("\r\ncontent-length: 4\r\n") && text.contains("\r\ncache-status: sluice; hit; ttl=")
    );
    assert!(text.ends_with("\r\nconnection: keep-alive\r\n\r\nbody"), "{text}");
}

#[test]
fn a_long_body_is_not_copied() {
    let hits = hits();
    store(&hits.gateway, 60_000, &[b'x'; GATHERED + 1]);
    let (answer, text) = ask(&hits, GET);
    let Answer::Written { body: Some(body) } = answer else { panic!("{answer:?}") };
    assert_eq!(body.len(), GATHERED + 1);
    assert!(text.ends_with("\r\n\r\n"));
}

#[test]
fn what_may_change_is_asked_each_time() {
    type End = &'static dyn Fn(&Gateway);
    let ends: [(&str, End); 6] = [
        ("a write", &|gateway| gateway.generations.advance(&[TAG])),
        ("removal", &|gateway| gateway.memory.remove(&key())),
        ("its time", &|gateway| store(gateway, 0, b"body")),
        ("other schemas", &|gateway| {
            let schema = ("public".to_owned(), crate::postgrest::schema::Schema::default());
            gateway.settings().set_schemas([schema].into_iter().collect());
        }),
        ("other settings", &|gateway| gateway.replace(settings())),
        ("the stop", &|gateway| gateway.stopping.store(true, Ordering::Relaxed)),
    ];
    for (what, end) in ends {
        let hits = hits();
        assert!(is_hit(&hits), "{what}");
        end(&hits.gateway);
        assert!(!is_hit(&hits), "{what}");
    }
}

#[test]
fn an_entry_with_other_tags_than_the_request_has_now_is_not_its_answer() {
    let hits = hits();
    let other = hits.gateway.generations.read(EntryTags::new(&[TAG, TagId(6)], &[]).all(), Instant::now());
    let parts = EntryParts {
        status: StatusCode::OK,
        headers: &HeaderMap::new(),
        body: b"body",
        head_only: false,
        lifetimes: Lifetimes {
            received_at: Timestamp::from(SystemTime::now()),
            lifetime: 60_000,
            ..Lifetimes::default()
        },
        tags: &other,
    };
    hits.gateway.memory.insert(key(), Entry::new(&parts).unwrap());
    assert!(!is_hit(&hits));
}

#[test]
fn a_client_that_has_it_is_told_so() {
    let hits = hits();
    let (_, text) = ask(&hits, GET);
    let etag = text.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (_, text) = ask(&hits, &GET.replace("Host", &format!("If-None-Match: {etag}\r\nHost")));
    assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n") && text.ends_with("\r\n\r\n"), "{text}");
}
