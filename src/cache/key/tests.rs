use super::*;
use http::HeaderValue;
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, String)>,
    vary: Vec<&'static str>,
    body: Option<Vec<u8>>,
    partition: Vec<u8>,
}

fn asked(path: &str) -> Asked {
    Asked {
        method: Method::GET,
        path: path.split('/').skip(1).map(str::to_owned).collect(),
        query: vec![],
        headers: vec![],
        vary: vec![],
        body: None,
        partition: vec![],
    }
}

fn key(asked: &Asked) -> Key {
    let path = DecodedPath::parse(&format!("/{}", asked.path.join("/"))).unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in &asked.headers {
        headers.append(*name, HeaderValue::try_from(value).unwrap());
    }
    let vary: Vec<HeaderName> = asked.vary.iter().map(|name| HeaderName::from_static(name)).collect();
    Key::of(&KeyParts {
        method: &asked.method,
        path: &path,
        query: &asked.query,
        headers: &headers,
        dialect: Dialect::of(&path),
        vary: &vary,
        post_body: asked.body.as_deref(),
        partition: &asked.partition,
    })
}

fn with(mut asked: Asked, change: impl FnOnce(&mut Asked)) -> Asked {
    change(&mut asked);
    asked
}

fn header(asked: &Asked, name: &'static str, value: &str) -> Asked {
    with(asked.clone(), |asked| asked.headers.push((name, value.into())))
}

#[test]
fn whatever_upstream_reads_tells_keys_apart() {
    let base = asked("/rest/v1/users");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let others = [
        asked("/rest/v1/user"),
        with(base.clone(), |one| one.query = vec![pair("id", "eq.1")]),
        with(base.clone(), |one| one.query = vec![pair("id", "eq.1"), pair("id", "")]),
        with(base.clone(), |one| one.query = vec![pair("ideq.1", "")]),
        header(&base, "accept", "text/csv"),
        header(&base, "accept", ""),
        header(&header(&base, "accept", "text/csv"), "accept", ""),
        header(&base, "prefer", "text/csv"),
        header(&base, "range", "0-4"),
        header(&base, "range-unit", "items"),
        header(&base, "accept-profile", "public"),
        with(base.clone(), |one| one.vary = vec!["x-tenant"]),
        header(&with(base.clone(), |one| one.vary = vec!["x-tenant"]), "x-tenant", ""),
        with(base.clone(), |one| one.partition = vec![0]),
        with(base.clone(), |one| one.method = Method::POST),
        with(base.clone(), |one| (one.method, one.body) = (Method::POST, Some(vec![]))),
        header(
            &with(base.clone(), |one| (one.method, one.body) = (Method::POST, Some(vec![]))),
            "content-type",
            "text/plain",
        ),
        header(&with(base.clone(), |one| one.method = Method::POST), "content-profile", "public"),
    ];
    let mut keys: Vec<Key> = others.iter().chain([&base]).map(key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1);
}

#[test]
fn what_upstream_does_not_see_is_no_part() {
    let base = asked("/rest/v1/users");
    for other in [
        header(&base, "user-agent", "x"),
        header(&base, "if-none-match", "\"a\""),
        header(&base, "accept-encoding", "br"),
        header(&base, "authorization", "Bearer x"),
        header(&base, "content-profile", "other"),
        with(base.clone(), |one| one.query = vec![("apikey".into(), "secret".into())]),
        with(base.clone(), |one| one.method = Method::HEAD),
        asked("/rest/v1/us%65rs"),
    ] {
        assert_eq!(key(&other), key(&base), "{other:?}");
    }
}

#[test]
fn head_parts_from_get_once_a_range_counts() {
    let get = header(&asked("/rest/v1/users"), "range", "0-4");
    let head = with(get.clone(), |one| one.method = Method::HEAD);
    assert_ne!(key(&get), key(&head));
}

#[test]
fn storage_ignores_ranges_and_only_renders_by_accept() {
    let object = asked("/storage/v1/object/public/b/o");
    assert_eq!(key(&header(&object, "range", "bytes=0-4")), key(&object));
    assert_eq!(key(&header(&object, "accept", "image/webp")), key(&object));
    let render = asked("/storage/v1/render/image/public/b/o");
    assert_ne!(key(&header(&render, "accept", "image/webp")), key(&render));
    assert_eq!(key(&header(&render, "range", "bytes=0-4")), key(&render));
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let text = "[ab=&]{0,2}";
    let pairs = proptest::collection::vec((text, text), 0..3);
    let headers = proptest::collection::vec(
        (prop::sample::select(vec!["accept", "prefer", "range"]), "[ab]{0,2}"),
        0..3,
    );
    let body = proptest::option::of(proptest::collection::vec(0_u8..3, 0..3));
    let path = proptest::collection::vec("[ab]{1,2}", 1..4);
    (path, pairs, headers, body, proptest::collection::vec(0_u8..3, 0..3)).prop_map(
        |(path, query, mut headers, body, partition)| {
            headers.sort_by_key(|(name, _)| *name);
            let method = if body.is_some() { Method::POST } else { Method::GET };
            Asked { method, path, query, headers, vary: vec![], body, partition }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn keys_are_equal_only_for_equal_parts(one in any_asked(), other in any_asked()) {
        prop_assert_eq!(key(&one) == key(&other), one == other);
    }
}
