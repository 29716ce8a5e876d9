use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;

use super::*;

fn object(bucket: &str, name: &str) -> Tag {
    Tag::Object { bucket: bucket.into(), name: name.into() }
}

fn bucket(name: &str) -> Tag {
    Tag::Bucket(name.into())
}

struct Sent<'a> {
    method: &'a str,
    url: &'a str,
    headers: &'a [(&'static str, &'a str)],
    body: Option<&'a str>,
}

fn sent<'a>(method: &'a str, url: &'a str) -> Sent<'a> {
    Sent { method, url, headers: &[], body: None }
}

impl Sent<'_> {
    fn with<T>(&self, use_it: impl FnOnce(&RequestView<'_>, &DecodedPath, &Query, WriteBody<'_>) -> T) -> T {
        let (path, query) = self.url.split_once('?').unwrap_or((self.url, ""));
        let headers: HeaderMap = self
            .headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect();
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let path = format!("/storage/v1{path}");
        let view = RequestView { method: &method, path: &path, query, headers: &headers };
        let body = self.body.map_or(WriteBody::Unknown, |body| WriteBody::Whole(body.as_bytes()));
        use_it(&view, &DecodedPath::parse(&path).unwrap(), &Query::parse(query).unwrap(), body)
    }

    fn moves(&self) -> Vec<Tag> {
        self.with(write_tags)
    }

    fn reads(&self) -> Option<Vec<Tag>> {
        self.with(|request, path, _, _| {
            assert_eq!(is_public_object_read(request, path), read_tags(request, path).is_some());
            read_tags(request, path)
        })
    }
}

#[test]
fn a_public_read_carries_its_object_bucket_and_all_storage() {
    for path in [
        "/object/public/avatars/a/b.png",
        "/object/public/avatars/%61/b.png?t=1",
        "/object/public/avatars/a/b%2Epng",
        "/object/info/public/avatars/a/b.png",
        "/object/info/avatars/a/b.png",
        "/object/avatars/a/b.png",
        "/render/image/public/avatars/a/b.png?width=5",
    ] {
        let expected = vec![Tag::All, object("avatars", "a/b.png"), bucket("avatars"), Tag::Storage];
        assert_eq!(sent("GET", path).reads(), Some(expected), "{path}");
    }
}

#[test]
fn other_reads_are_not_public() {
    for path in [
        "/object/authenticated/b/o",
        "/object/info/authenticated/b/o",
        "/object/sign/b/o?token=t",
        "/object/list/b",
        "/object/list/b/o",
        "/object/upload/sign/b/o",
        "/render/image/authenticated/b/o",
        "/render/image/sign/b/o",
        "/object/public/b",
        "/object/b",
        "/bucket/b",
        "/s3/b/o",
        "/status",
    ] {
        assert_eq!(sent("GET", path).reads(), None, "{path}");
    }
}

#[test]
fn paths_without_public_are_public_only_for_the_anonymous() {
    for header in ["authorization", "apikey"] {
        let read = |url| Sent { headers: &[(header, "x")], ..sent("GET", url) }.reads();
        assert_eq!(read("/object/b/o"), None);
        assert_eq!(read("/object/info/b/o"), None);
        assert!(read("/object/public/b/o").is_some());
    }
}

#[test]
fn writes_by_their_path() {
    let o = || vec![object("b", "d/o")];
    let b = || vec![bucket("b")];
    let cases: [(&str, &str, Vec<Tag>); 30] = [
        ("POST", "/object/b/d/o", o()),
        ("PUT", "/object/b/%64/o", o()),
        ("DELETE", "/object/b/d/o", o()),
        ("PUT", "/object/upload/sign/b/d/o?token=t", o()),
        ("POST", "/object/upload/sign/b/d/o", vec![]),
        ("POST", "/object/sign/b/d/o", vec![]),
        ("POST", "/object/sign/b", vec![]),
        ("POST", "/object/list/b", vec![]),
        ("POST", "/object/list-v2/b", vec![]),
        ("POST", "/object/public/b/o", vec![Tag::Storage]),
        ("DELETE", "/object/authenticated/b/o", vec![Tag::Storage]),
        ("DELETE", "/object/b", b()),
        ("POST", "/bucket/b/empty", b()),
        ("DELETE", "/bucket/b", b()),
        ("PUT", "/bucket/b", b()),
        ("POST", "/bucket", vec![Tag::Storage]),
        ("PUT", "/s3/b/d/o", o()),
        ("DELETE", "/s3/b/d/o", o()),
        ("POST", "/s3/b/d/o?uploads", vec![]),
        ("PUT", "/s3/b/d/o?partNumber=1&uploadId=u", vec![]),
        ("POST", "/s3/b/d/o?uploadId=u", o()),
        ("DELETE", "/s3/b/d/o?uploadId=u", vec![]),
        ("POST", "/s3/b?delete", b()),
        ("PUT", "/s3/b", b()),
        ("DELETE", "/cdn/b/d/o", o()),
        ("DELETE", "/cdn/b", b()),
        ("DELETE", "/cdn", vec![Tag::Storage]),
        ("POST", "/something/new", vec![Tag::Storage]),
        ("GET", "/object/b/d/o", vec![]),
        ("HEAD", "/upload/resumable/x", vec![]),
    ];
    for (method, url, expected) in cases {
        assert_eq!(sent(method, url).moves(), expected, "{method} {url}");
    }
}

#[test]
fn writes_by_their_body() {
    let move_to = r#"{"bucketId":"b","sourceKey":"s","destinationBucket":"c","destinationKey":"d"}"#;
    let within = r#"{"bucketId":"b","sourceKey":"s","destinationKey":"d"}"#;
    let many = format!(r#"{{"prefixes":[{}"x"]}}"#, r#""y","#.repeat(MAX_NAMED_OBJECTS));
    let cases = [
        ("POST", "/object/move", move_to, vec![object("b", "s"), object("c", "d")]),
        ("POST", "/object/move", within, vec![object("b", "d"), object("b", "s")]),
        ("POST", "/object/move", r#"{"bucketId":"b"}"#, vec![bucket("b")]),
        ("POST", "/object/move", "{}", vec![Tag::Storage]),
        ("POST", "/object/copy", move_to, vec![object("c", "d")]),
        ("POST", "/object/copy", within, vec![object("b", "d")]),
        ("POST", "/object/copy", "nothing", vec![Tag::Storage]),
        (
            "DELETE",
            "/object/b",
            r#"{"prefixes":["x","d/y","x"]}"#,
            vec![object("b", "d/y"), object("b", "x")],
        ),
        ("DELETE", "/object/b", r#"{"prefixes":"x"}"#, vec![bucket("b")]),
        ("DELETE", "/object/b", &many, vec![bucket("b")]),
        ("POST", "/bucket", r#"{"id":"b","name":"n"}"#, vec![bucket("b")]),
        ("POST", "/bucket", r#"{"name":"n","public":true}"#, vec![bucket("n")]),
    ];
    for (method, url, body, expected) in cases {
        assert_eq!(Sent { body: Some(body), ..sent(method, url) }.moves(), expected, "{method} {url} {body}");
    }
    assert_eq!(sent("POST", "/object/move").moves(), [Tag::Storage]);
    assert_eq!(sent("POST", "/object/copy").moves(), [Tag::Storage]);
}

#[test]
fn a_resumable_upload_s_id_names_its_object() {
    let id = "avatars/tus/t.png/7d3a6b3e-0000-4000-8000-000000000000";
    for encoded in [URL_SAFE_NO_PAD.encode(id), URL_SAFE.encode(id)] {
        for url in [format!("/upload/resumable/{encoded}"), format!("/upload/resumable/sign/{encoded}")] {
            for method in ["PATCH", "PUT", "DELETE"] {
                assert_eq!(sent(method, &url).moves(), [object("avatars", "tus/t.png")], "{method} {url}");
            }
        }
    }
    for id in ["sign", "!", &URL_SAFE_NO_PAD.encode("avatars/version"), &URL_SAFE_NO_PAD.encode(b"\xff/a/b")]
    {
        assert_eq!(sent("PATCH", &format!("/upload/resumable/{id}")).moves(), [Tag::Storage], "{id}");
    }
}

#[test]
fn a_resumable_upload_s_creation_names_its_object() {
    let (b, o, t) = (STANDARD.encode("avatars"), STANDARD.encode("tus/t.png"), STANDARD.encode("image/png"));
    let named = vec![object("avatars", "tus/t.png")];
    for (metadata, expected) in [
        (format!("bucketName {b},objectName {o},contentType {t}"), named.clone()),
        (format!("contentType {t}, objectName {o} , bucketName {b},private"), named),
        (format!("bucketName {b}"), vec![Tag::Storage]),
        (format!("bucketName {b},objectName {o},objectName {t}"), vec![Tag::Storage]),
        (format!("bucketName {b},objectName ?"), vec![Tag::Storage]),
    ] {
        for url in ["/upload/resumable", "/upload/resumable/sign"] {
            let headers = &[("upload-metadata", metadata.as_str())];
            assert_eq!(Sent { headers, ..sent("POST", url) }.moves(), expected, "{metadata}");
        }
    }
    assert_eq!(sent("POST", "/upload/resumable").moves(), [Tag::Storage]);
}
