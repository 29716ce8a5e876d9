use super::*;

const LIMITS: HeadLimits = HeadLimits { max_bytes: 1024, max_headers: 8 };

/// What a test asks of a head, without its borrows.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    line: String,
    fields: usize,
    raw: String,
    length: usize,
    framing: Framing,
}

fn parsed(text: &str) -> Result<Option<Seen>, HeadError> {
    let mut fields: Fields = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let head = parse(text.as_bytes(), &mut fields, LIMITS)?;
    Ok(head.map(|head| Seen {
        line: format!("{} {} {}", head.method, head.target, head.is_http_11),
        fields: head.fields.len(),
        raw: String::from_utf8_lossy(head.raw).into_owned(),
        length: head.length,
        framing: head.framing,
    }))
}

fn framing_of(fields: &str) -> Result<Framing, HeadError> {
    parsed(&format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n")).map(|head| head.unwrap().framing)
}

#[test]
fn a_head_is_found_once_it_is_complete() {
    let head = "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(parsed(&head[..20]), Ok(None));
    for (before, after) in [("", ""), ("", "rest"), ("\r\n\r\n", "GET")] {
        let seen = parsed(&format!("{before}{head}{after}")).unwrap().unwrap();
        let expected = Seen {
            line: "GET /a?b true".into(),
            fields: 1,
            raw: head.into(),
            length: before.len() + head.len(),
            framing: Framing::None,
        };
        assert_eq!(seen, expected, "{before:?} {after:?}");
    }
}

#[test]
fn framing_is_read_from_the_fields() {
    assert_eq!(framing_of("Content-Length: 12\r\n"), Ok(Framing::Length(12)));
    assert_eq!(framing_of("Content-Length: 0\r\n"), Ok(Framing::None));
    assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
    assert_eq!(framing_of("Connection: upgrade\r\nUpgrade: websocket\r\n"), Ok(Framing::Tunnel));
    assert_eq!(framing_of("Connection: upgrade\r\nUpgrade: h2c\r\n"), Ok(Framing::None));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for fields in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "Content-Length: 1, 1\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "A: b\r\n c\r\n",
        "A: b\0c\r\n",
        "A\0: b\r\n",
        "Host: other\r\n",
    ] {
        assert!(matches!(framing_of(fields), Err(HeadError::Malformed(_))), "{fields:?}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(matches!(parsed(old), Err(HeadError::Malformed(_))));
    assert!(matches!(parsed("GET / HTTP/1.1\r\n\r\n"), Err(HeadError::Malformed(_))));
    assert!(matches!(parsed("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), Err(HeadError::Malformed(_))));
    for target in ["rest", "http://", "http://u@h/", "ftp://h/", "h:80"] {
        let head = parsed(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(matches!(head, Err(HeadError::Malformed(_))), "{target}");
    }
    assert!(matches!(parsed("GET / HTTP/1.1\r\nHost: u@h\r\n\r\n"), Err(HeadError::Malformed(_))));
    let absolute = |host: &str| parsed(&format!("GET http://h/a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    assert!(matches!(absolute("other"), Err(HeadError::Malformed(_))));
    assert!(matches!(absolute("H"), Ok(Some(_))));
    assert_eq!(parsed("CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n"), Err(HeadError::Method));
}

#[test]
fn targets_that_gateways_take_are_encoded() {
    let encode = |text: &str| encoded(text.as_bytes());
    assert_eq!(
        encode("GET /a?b=in.(\"c\") HTTP/1.1\r\nA: \"\r\n"),
        "GET /a?b=in.(%22c%22) HTTP/1.1\r\nA: \"\r\n"
    );
    assert_eq!(encode("GET /<`> HTTP/1.1\r\n"), "GET /%3C%60%3E HTTP/1.1\r\n");
    for as_it_is in ["GET /a HTTP/1.1\r\nA: <\r\n", "", "<"] {
        assert_eq!(encode(as_it_is), as_it_is);
    }
}

#[test]
fn what_is_too_large_is_refused() {
    let many = "A: b\r\n".repeat(9);
    assert!(matches!(framing_of(&many), Err(HeadError::TooLarge(_))));
    let long = format!("A: {}\r\n", "b".repeat(2000));
    assert!(matches!(framing_of(&long), Err(HeadError::TooLarge(_))));
    let endless = "GET /".to_owned() + &"a".repeat(2000);
    assert!(matches!(parsed(&endless), Err(HeadError::TooLarge(_))));
}

#[test]
fn connection_names_no_field_of_the_message() {
    for options in ["content-length", "keep-alive, Content-Length", "HOST", "x,content-type ,close"] {
        let refused = framing_of(&format!("Connection: {options}\r\n"));
        assert!(matches!(refused, Err(HeadError::Malformed(_))), "{options}");
        let refused = framing_of(&format!("Connection: close\r\nConnection: {options}\r\n"));
        assert!(matches!(refused, Err(HeadError::Malformed(_))), "{options}");
    }
    assert_eq!(framing_of("Connection: keep-alive, x-content-length\r\n"), Ok(Framing::None));
}
