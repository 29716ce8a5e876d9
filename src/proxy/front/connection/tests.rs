use std::io::Read;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::proxy::front::socket::{Socket, SocketStream, Transport};
use crate::proxy::front::spelling::Speller;

const LARGE: usize = 300_000;

/// Answers `/hit/…` with what follows, `/large` with a large body, where the request has a spelling.
fn memory(head: &Head<'_, '_>, _: std::time::Instant, out: &mut Vec<u8>) -> Answer {
    if Speller::new([0; 16], []).read(head).is_none() {
        Answer::Elsewhere(None)
    } else if let Some(text) = head.target.strip_prefix("/hit/") {
        out.extend_from_slice(text.as_bytes());
        out.push(b'\n');
        Answer::Written { body: None }
    } else if head.target == "/large" {
        out.extend_from_slice(b"large\n");
        Answer::Written { body: Some(Bytes::from(vec![b'x'; LARGE])) }
    } else {
        out.extend_from_slice(b"never to be seen");
        Answer::Elsewhere(None)
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn limits() -> Limits {
    let long = Duration::from_secs(60);
    Limits {
        connections: 1,
        header_timeout: long,
        idle_timeout: long,
        body_timeout: long,
        max_headers: 16,
        max_header_bytes: 4096,
    }
}

/// A connection that takes little at a time.
fn connection() -> (Wire, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&near, 4096).unwrap();
    (Wire::new(Transport::plain(Socket::new(SocketStream::Unix(near), None))), far)
}

/// How the connection goes on after `sent`, with the client's side and what it was sent by then.
async fn after(sent: &str, limits: Limits) -> (Next, Wire, std::os::unix::net::UnixStream, Vec<u8>) {
    let (mut wire, mut far) = connection();
    far.write_all(sent.as_bytes()).await.unwrap();
    let (_stop, signal) = watch::channel(false);
    let next = Conversation::new(&limits, signal, memory).next(&mut wire).await;
    let mut far = far.into_std().unwrap();
    let mut answered = vec![0; 4096];
    // It does not block: nothing there is an error.
    let length = far.read(&mut answered).unwrap_or_default();
    answered.truncate(length);
    (next, wire, far, answered)
}

fn forwarded(next: Next) -> Forward {
    match next {
        Next::Forward(forward) => forward,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn answers_leave_in_the_order_of_the_requests_and_before_one_is_handed_over() {
    let post = "POST /a?\"b HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
    let text = format!("{}\r\n{}{post}hi{}", get("/hit/1"), get("/hit/2"), get("/hit/3"));
    let (next, mut wire, _far, answered) = after(&text, limits()).await;
    assert_eq!(answered, b"1\n2\n", "they were sent, and nothing else");
    let forward = forwarded(next);
    assert_eq!(forward.head, post.replace('"', "%22"));
    assert_eq!(forward.framing, Framing::Length(2));
    let mut body = [0; 2];
    wire.read_exact(&mut body).await.unwrap();
    assert_eq!((&body, wire.buffered()), (b"hi", get("/hit/3").as_bytes()));
}

#[tokio::test]
async fn pipelined_answers_leave_in_one_write() {
    let (mut wire, mut far) = connection();
    let asked: String = (0..100).map(|n| get(&format!("/hit/{n}"))).collect();
    let (limits, (_stop, signal)) = (limits(), watch::channel(false));
    let mut conversation = Conversation::new(&limits, signal, memory);
    far.write_all(asked.as_bytes()).await.unwrap();
    let expected: String = (0..100).map(|n| format!("{n}\n")).collect();
    let mut seen = vec![0; 4096];
    tokio::select! {
        biased;
        next = conversation.next(&mut wire) => panic!("{next:?}"),
        read = far.read(&mut seen) => seen.truncate(read.unwrap()),
    }
    assert_eq!(String::from_utf8(seen).unwrap(), expected, "the first read has all of them");
}

#[tokio::test]
async fn only_what_needs_nothing_but_an_answer_is_answered_from_memory() {
    for (request, is_asked) in [
        (get("/hit/x"), true),
        (get("/hit/x").replace("GET", "HEAD"), true),
        (get("/hit/x").replace("Host", "connection: Keep-Alive\r\nHost"), true),
        (get("/hit/x").replace("GET", "DELETE"), false),
        (get("/hit/x").replace("GET", "get"), false),
        (get("/hit/x").replace("1.1", "1.0"), false),
        (get("/hit/x").replace("Host", "Connection: close\r\nHost"), false),
        (get("/hit/x").replace("Host", "Upgrade: h2c\r\nHost"), false),
        (get("/hit/x").replace("Host", "Content-Length: 1\r\nHost"), false),
        (get("/hit/x").replace("Host", "Transfer-Encoding: chunked\r\nHost"), false),
    ] {
        let (next, _, _, answered) = after(&format!("{request}{}", get("/end")), limits()).await;
        assert_eq!(answered.is_empty(), !is_asked, "{request:?}");
        assert_eq!(forwarded(next).head.ends_with(get("/end").as_bytes()), is_asked, "{request:?}");
    }
}

#[tokio::test]
async fn a_large_body_leaves_behind_its_head_and_before_the_next_answer() {
    let (mut wire, mut far) = connection();
    let asked = format!("{}{}{}{}", get("/hit/1"), get("/large"), get("/hit/2"), get("/end"));
    far.write_all(asked.as_bytes()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut all = vec![0; 2 + 6 + LARGE + 2];
        far.read_exact(&mut all).await.unwrap();
        all
    });
    let (limits, (_stop, signal)) = (limits(), watch::channel(false));
    let next = Conversation::new(&limits, signal, memory).next(&mut wire).await;
    assert_eq!(forwarded(next).head, get("/end"));
    let all = reading.await.unwrap();
    assert_eq!((&all[..8], &all[8 + LARGE..]), (&b"1\nlarge\n"[..], &b"2\n"[..]));
    assert!(all[8..8 + LARGE].iter().all(|byte| *byte == b'x'));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_neither_read_nor_kept() {
    let (mut wire, mut far) = connection();
    let (mut limits, (_stop, signal)) = (limits(), watch::channel(false));
    limits.body_timeout = Duration::from_millis(50);
    far.write_all(get("/large").repeat(2).as_bytes()).await.unwrap();
    let mut conversation = Conversation::new(&limits, signal, memory);
    let closed = conversation.next(&mut wire).await;
    assert!(matches!(closed, Next::Close), "{closed:?}");
    assert!(wire.has_unsent());
    assert_eq!(wire.buffered(), get("/large").as_bytes(), "the second one was not begun");
    drop(far);
}

#[tokio::test]
async fn a_client_that_reads_slowly_is_kept() {
    let (mut wire, mut far) = connection();
    let (mut limits, (_stop, signal)) = (limits(), watch::channel(false));
    limits.body_timeout = Duration::from_millis(200);
    far.write_all(format!("{}{}", get("/large"), get("/end")).as_bytes()).await.unwrap();
    let begun = Instant::now();
    // It takes all of it longer than any single pause may be.
    let reading = tokio::spawn(async move {
        let mut left = 6 + LARGE;
        while left > 0 {
            left -= far.read(&mut vec![0; 16 * 1024.min(left)]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        far
    });
    let next = Conversation::new(&limits, signal, memory).next(&mut wire).await;
    assert_eq!(forwarded(next).head, get("/end"));
    assert!(begun.elapsed() > limits.body_timeout);
    reading.await.unwrap();
}

#[tokio::test]
async fn a_trickled_head_is_refused_in_time() {
    let (mut wire, mut far) = connection();
    let (mut limits, (_stop, signal)) = (limits(), watch::channel(false));
    limits.header_timeout = Duration::from_millis(100);
    // The first head counts from its own start.
    far.write_all(get("/hit/1").as_bytes()).await.unwrap();
    let mut conversation = Conversation::new(&limits, signal, memory);
    let begun = Instant::now();
    let trickle = async {
        let mut answer = [0; 2];
        far.read_exact(&mut answer).await.unwrap();
        loop {
            far.write_all(b"G").await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let next = tokio::select! {
        next = conversation.next(&mut wire) => next,
        () = trickle => unreachable!(),
    };
    assert!(matches!(next, Next::Refuse(answer) if answer == Synthetic::request_timeout()), "{next:?}");
    assert!(begun.elapsed() >= limits.header_timeout);
    assert!(wire.buffered().len() > 1, "bytes came meanwhile");
}

#[tokio::test]
async fn a_silent_connection_is_closed_in_time() {
    for (sent, header, idle) in [("", 60, 60_000), ("/hit/1", 60_000, 60)] {
        let mut limits = limits();
        limits.header_timeout = Duration::from_millis(header);
        limits.idle_timeout = Duration::from_millis(idle);
        let begun = Instant::now();
        let sent = if sent.is_empty() { String::new() } else { get(sent) };
        let (next, ..) = after(&sent, limits).await;
        assert!(matches!(next, Next::Close), "{next:?}");
        let elapsed = begun.elapsed();
        assert!((Duration::from_millis(60)..Duration::from_secs(30)).contains(&elapsed), "{elapsed:?}");
    }
}

#[tokio::test]
async fn what_was_asked_before_the_end_is_answered() {
    let (mut wire, mut far) = connection();
    far.write_all(format!("{}{}GET /ha", get("/hit/1"), get("/hit/2")).as_bytes()).await.unwrap();
    far.shutdown().await.unwrap();
    let (limits, (_stop, signal)) = (limits(), watch::channel(false));
    let next = Conversation::new(&limits, signal, memory).next(&mut wire).await;
    assert!(matches!(next, Next::Close), "{next:?}");
    drop(wire);
    let mut answered = Vec::new();
    far.read_to_end(&mut answered).await.unwrap();
    assert_eq!(answered, b"1\n2\n");
}

#[tokio::test]
async fn a_stop_closes_what_is_idle_and_asks_memory_for_nothing_more() {
    let (mut wire, mut far) = connection();
    let (limits, (stop, signal)) = (limits(), watch::channel(false));
    let mut conversation = Conversation::new(&limits, signal, memory);
    far.write_all(get("/hit/1").as_bytes()).await.unwrap();
    let client = async {
        far.read_exact(&mut [0; 2]).await.unwrap();
        // A head that has begun is waited for.
        far.write_all(b"GET /hit/2 HTTP/1.1\r\n").await.unwrap();
        tokio::task::yield_now().await;
        stop.send(true).unwrap();
        tokio::task::yield_now().await;
        far.write_all(b"Host: h\r\n\r\n").await.unwrap();
    };
    let (next, ()) = tokio::join!(conversation.next(&mut wire), client);
    assert_eq!(forwarded(next).head, get("/hit/2"));
    let next = conversation.next(&mut wire).await;
    assert!(matches!(next, Next::Close), "{next:?}");
}

#[tokio::test]
async fn a_stop_wakes_an_idle_connection() {
    let (mut wire, mut far) = connection();
    let (limits, (stop, signal)) = (limits(), watch::channel(false));
    let mut conversation = Conversation::new(&limits, signal, memory);
    far.write_all(get("/hit/1").as_bytes()).await.unwrap();
    let client = async {
        far.read_exact(&mut [0; 2]).await.unwrap();
        stop.send(true).unwrap();
    };
    let (next, ()) = tokio::join!(conversation.next(&mut wire), client);
    assert!(matches!(next, Next::Close), "{next:?}");
}

#[tokio::test]
async fn what_is_no_request_is_told_apart() {
    let preface = std::str::from_utf8(PREFACE).unwrap();
    let (next, wire, ..) = after(&format!("{preface}frames"), limits()).await;
    assert!(matches!(next, Next::Http2), "{next:?}");
    assert!(wire.buffered().starts_with(PREFACE), "nothing of it was consumed");
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(5000));
    for (sent, status) in [
        (format!("{}{preface}", get("/hit/1")), 400),
        (format!("{}GET", get("/hit/1").replace("Host: h", "A: b")), 400),
        ("CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n".into(), 405),
        (long, 431),
    ] {
        let (next, _, _, answered) = after(&sent, limits()).await;
        assert!(matches!(next, Next::Refuse(answer) if answer.status == status), "{next:?}");
        assert_eq!(answered.is_empty(), !sent.contains("Host: h\r\n\r\nPRI"), "{sent:?}");
    }
}
