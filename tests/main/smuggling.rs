//! Messages that two parsers could read in two ways are refused.

use crate::support::faulty::{Answer, Faulty};
use crate::support::http::Connection;
use crate::support::sluice::Setup;

const CASES: &[(&str, &[u8])] = &[
    (
        "Content-Length and Transfer-Encoding",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nX",
    ),
    (
        "two Content-Lengths that differ",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nXY",
    ),
    (
        "a list of Content-Lengths that differ",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\nXY",
    ),
    ("a Content-Length with a sign", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\nX"),
    ("a negative Content-Length", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    (
        "a Content-Length of hexadecimal digits",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\nX",
    ),
    (
        "an unknown transfer coding",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "a transfer coding before chunked",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "two Transfer-Encodings",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    ),
    (
        "a chunk size that is no number",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nx\r\n0\r\n\r\n",
    ),
    (
        "a chunk longer than it says",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxxx\r\n0\r\n\r\n",
    ),
    (
        "a chunk without a size",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\nGET /y HTTP/1.1\r\n\r\n",
    ),
    (
        "a bare LF in a chunk extension",
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{}\r\n0\r\n\r\n",
    ),
    ("a folded header", b"GET /x HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n folded\r\n\r\n"),
    ("a NUL in a value", b"GET /x HTTP/1.1\r\nHost: x\r\nX-A: 1\x002\r\n\r\n"),
    ("a bare CR in a value", b"GET /x HTTP/1.1\r\nHost: x\r\nX-A: 1\r2\r\n\r\n"),
    ("a space before the colon", b"GET /x HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n"),
    ("a header without a name", b"GET /x HTTP/1.1\r\nHost: x\r\n: 1\r\n\r\n"),
    ("a line without a colon", b"GET /x HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n"),
    ("two Hosts", b"GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
    ("no Host", b"GET /x HTTP/1.1\r\n\r\n"),
    ("a space in the target", b"GET /x y HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("no version", b"GET /x\r\nHost: x\r\n\r\n"),
];

#[test]
fn ambiguous_messages_are_refused_with_400() {
    let upstream = Faulty::start();
    upstream.always("*", Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url()).start();
    let mut wrong = Vec::new();
    for (name, bytes) in CASES {
        let mut connection = Connection::open(sluice.address()).unwrap();
        connection.write(bytes).unwrap();
        match connection.read("GET") {
            Ok(answer) if answer.status == 400 => {
                let rest = connection.read_to_end().unwrap_or_default();
                if !rest.is_empty() {
                    wrong.push(format!(
                        "{name}: the connection goes on with {:?}",
                        String::from_utf8_lossy(&rest)
                    ));
                }
            }
            other => wrong.push(format!("{name}: {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        upstream.requests("/x").iter().all(|request| request.body.is_empty()),
        "a body of theirs reached upstream whole"
    );
}

#[test]
fn a_body_is_not_taken_for_the_next_request() {
    let upstream = Faulty::start();
    upstream.always("*", Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url()).start();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    for head in [
        "GET /rest/v1/users HTTP/1.1\r\nHost: x\r\n",
        "POST /rest/v1/users HTTP/1.1\r\nHost: x\r\n",
        "HEAD /a HTTP/1.1\r\nHost: x\r\n",
    ] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        let text = format!("{head}Content-Length: {}\r\n\r\n{smuggled}", smuggled.len());
        connection.write(text.as_bytes()).unwrap();
        let _ = connection.read(head.split(' ').next().unwrap());
    }
    assert_eq!(upstream.count("/smuggled"), 0);
}

#[test]
fn a_repeated_content_length_that_agrees_is_one() {
    let upstream = Faulty::start();
    upstream.always("*", Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url()).start();
    let mut connection = Connection::open(sluice.address()).unwrap();
    connection
        .write(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nXY")
        .unwrap();
    let answer = connection.read("POST").unwrap();
    assert!(matches!(answer.status, 200 | 400), "{answer:?}");
    for request in upstream.requests("/x") {
        assert_eq!((request.body.as_slice(), request.all("content-length").len()), (&b"XY"[..], 1));
    }
}

#[test]
fn what_follows_a_chunked_body_is_the_next_request() {
    let upstream = Faulty::start();
    upstream.always("POST /x", Answer::json("[1]").act()).always("GET /y", Answer::json("[2]").act());
    let sluice = Setup::new(&upstream.url()).start();
    let mut connection = Connection::open(sluice.address()).unwrap();
    let both = b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n\
                 GET /y HTTP/1.1\r\nHost: x\r\n\r\n";
    connection.write(both).unwrap();
    assert_eq!(connection.read("POST").unwrap().expect(200).text(), "[1]");
    assert_eq!(connection.read("GET").unwrap().expect(200).text(), "[2]");
    assert_eq!(upstream.requests("POST /x")[0].body, b"{}");
}
