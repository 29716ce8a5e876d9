//! When connections end: for silence, for slowness, and because Sluice stops.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::front_connections::{in_front, row};
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Gate};
use crate::support::front::{Client, FrontHits, indexed};

/// What a machine under load may be late by.
const LATE: Duration = Duration::from_secs(4);

/// Panics unless `period` has passed since `from`, and not much more.
#[track_caller]
fn expect_after(from: Instant, period: Duration) {
    let passed = from.elapsed();
    // Timers of the kernel and of the runtime count in whole milliseconds.
    assert!(passed >= period - Duration::from_millis(20), "too early: {passed:?}, not {period:?}");
    assert!(passed < period + LATE, "too late: {passed:?}, not {period:?}");
}

#[test]
fn an_idle_connection_is_closed_after_idle_timeout_and_not_before() {
    let limits = "idle_timeout = \"1s\"\nheader_timeout = \"30s\"";
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", limits));
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    let counted = FrontHits::from_now(&sluice);
    // Longer than the timeout in all, never that long in one go.
    for _ in 0..7 {
        std::thread::sleep(Duration::from_millis(300));
        client.get(&row(&sluice, 1)).expect_hit();
    }
    counted.expect(7, "one after the other");
    let last = Instant::now();
    client.expect_end();
    expect_after(last, Duration::from_secs(1));
}

#[test]
fn an_idle_connection_is_closed_after_an_answer_of_upstreams_too() {
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", "idle_timeout = \"1s\""));
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    std::thread::sleep(Duration::from_millis(700));
    client.write(&sluice.request("POST", "/functions/v1/echo").body("x").encode());
    client.read("POST").expect(200);
    let last = Instant::now();
    client.expect_end();
    expect_after(last, Duration::from_secs(1));
}

#[test]
fn a_connection_that_never_asks_is_closed_after_header_timeout() {
    let limits = "idle_timeout = \"30s\"\nheader_timeout = \"1s\"";
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", limits));
    let opened = Instant::now();
    Client::open(sluice.address()).expect_end();
    expect_after(opened, Duration::from_secs(1));
}

#[test]
fn a_head_that_never_ends_is_answered_408() {
    let limits = "idle_timeout = \"30s\"\nheader_timeout = \"1s\"";
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", limits));
    let mut first = Client::open(sluice.address());
    let mut later = Client::open(sluice.address());
    indexed(&sluice, &mut later, &row(&sluice, 1));
    // The time begins with the head, not with the answer before it.
    std::thread::sleep(Duration::from_millis(600));
    let begun = Instant::now();
    for client in [&mut first, &mut later] {
        client.write(b"GET / HTTP/1.1\r\nHost: sluice.test\r\nX-Long: ");
    }
    // Bytes that trickle in don't extend it.
    while begun.elapsed() < Duration::from_millis(900) {
        first.write(b"x");
        later.write(b"x");
        std::thread::sleep(Duration::from_millis(20));
    }
    for mut client in [first, later] {
        let answer = client.read("GET").expect(408);
        expect_after(begun, Duration::from_secs(1));
        assert!(answer.closes(), "{:?}", answer.fields);
        client.expect_end();
    }
}

#[test]
fn a_head_that_begins_in_time_has_its_own_timeout() {
    let limits = "idle_timeout = \"1s\"\nheader_timeout = \"5s\"";
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", limits));
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    let request = row(&sluice, 1).encode();
    std::thread::sleep(Duration::from_millis(700));
    client.write(&request[..20]);
    // The idle timeout passes meanwhile.
    std::thread::sleep(Duration::from_millis(700));
    client.write(&request[20..]);
    client.read("GET").expect(200).expect_hit();
    let last = Instant::now();
    client.expect_end();
    expect_after(last, Duration::from_secs(1));
}

#[test]
fn while_it_stops_hits_are_answered_and_end_their_connections() {
    let (_upstream, sluice) = in_front(|setup| setup.top("stop_delay = \"2s\""));
    let mut kept = Client::open(sluice.address());
    let known = indexed(&sluice, &mut kept, &row(&sluice, 1));
    assert!(!known.closes());
    sluice.process().signal("TERM");
    eventually("it says that it stops", || sluice.admin("GET", "/readyz").send().status == 503);
    // Those that are kept, and new ones until the listeners close.
    for mut client in [kept, Client::open(sluice.address())] {
        let answer = client.get(&row(&sluice, 1)).expect(200).expect_hit();
        assert!(answer.closes(), "a kept connection would be cut under the next request");
        assert_eq!(answer.body, known.body);
        client.expect_end();
    }
    assert_eq!(sluice.process().wait().code(), Some(0));
}

#[test]
fn while_it_stops_pipelined_hits_end_with_the_one_that_says_so() {
    let (_upstream, sluice) = in_front(|setup| setup.top("stop_delay = \"2s\""));
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    sluice.process().signal("TERM");
    eventually("it says that it stops", || sluice.admin("GET", "/readyz").send().status == 503);
    client.write(&row(&sluice, 1).encode().repeat(3));
    assert!(client.read("GET").expect(200).expect_hit().closes());
    // What comes behind it was not answered: clients ask again elsewhere (RFC 9112, section 9.6).
    // Closing over unread bytes may reset the connection.
    assert_eq!(client.read_to_end().unwrap_or_default(), b"");
    assert_eq!(sluice.process().wait().code(), Some(0));
}

#[test]
fn what_is_under_way_is_finished_before_it_stops() {
    let (upstream, sluice) = in_front(|setup| setup.top("stop_timeout = \"20s\""));
    let gate = Gate::new();
    let mut idle = Client::open(sluice.address());
    indexed(&sluice, &mut idle, &row(&sluice, 1));
    let slow = Answer::json("[{\"id\":3}]").header("Content-Range", "0-0/*").act();
    upstream.once("GET /rest/v1/users?id=eq.3", Act::Hold(gate.clone(), Box::new(slow)));
    // A hit and a miss behind it, and a head of which half has come.
    let mut pipelined = Client::open(sluice.address());
    pipelined.write(&[row(&sluice, 1).encode(), row(&sluice, 3).encode()].concat());
    assert_eq!(pipelined.read("GET").expect_hit().text(), "[{\"id\":1}]");
    let mut half = Client::open(sluice.address());
    let request = row(&sluice, 1).encode();
    half.write(&request[..30]);
    upstream.wait_for("GET /rest/v1/users?id=eq.3", 1);
    // The half head has arrived once a later connection's request is answered.
    Client::open(sluice.address()).get(&row(&sluice, 1)).expect_hit();
    let stopped = Instant::now();
    sluice.process().signal("TERM");
    idle.expect_end();
    eventually("new connections are refused", || sluice.get("/").try_send().is_err());
    assert!(sluice.process().exited().is_none(), "it doesn't wait for what is under way");
    half.write(&request[30..]);
    let answer = half.read("GET").expect(200).expect_hit();
    assert!(answer.closes(), "{:?}", answer.fields);
    half.expect_end();
    gate.open();
    let answer = pipelined.read("GET").expect(200);
    assert!(answer.closes(), "{:?}", answer.fields);
    assert_eq!(answer.text(), "[{\"id\":3}]");
    pipelined.expect_end();
    assert_eq!(sluice.process().wait().code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
}

#[test]
fn a_client_that_stalls_does_not_hold_up_the_stop_for_longer_than_it_may() {
    let (_upstream, sluice) = in_front(|setup| setup.top("stop_timeout = \"1s\""));
    let large = sluice.get("/storage/v1/object/public/media/large.bin");
    let stream = TcpStream::connect(sluice.address()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
    let mut client = Client::over(stream);
    indexed(&sluice, &mut client, &large);
    client.write(&large.encode().repeat(200));
    client.read("GET").expect_hit();
    // The kernel takes some more as its buffers grow.
    let (mut before, mut same) = (0.0, 0);
    eventually("no more is sent than fits", || {
        let now = sluice.metric("sluice_front_hits_total");
        same = if std::mem::replace(&mut before, now) == now { same + 1 } else { 0 };
        same == 60
    });
    let stopped = Instant::now();
    assert_eq!(sluice.stop(), Some(0));
    expect_after(stopped, Duration::from_secs(1));
}

#[test]
fn any_line_of_connection_can_close() {
    let (_upstream, sluice) = in_front(|setup| setup);
    for _ in 0..3 {
        let mut client = Client::open(sluice.address());
        let head = String::from_utf8(row(&sluice, 1).encode()).unwrap();
        let lines = "\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n";
        client.write(head.replacen("\r\n\r\n", lines, 1).as_bytes());
        assert!(client.read("GET").expect(200).closes());
        client.expect_end();
    }
}
