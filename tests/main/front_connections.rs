//! Connections of every temper: pipelined, trickling, half closed, stalled, and ten thousand idle ones.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::front::{Client, FrontHits, indexed, never_the_fronts};
use crate::support::http::Request;
use crate::support::sluice::{Setup, Sluice};
use crate::support::{PATIENCE, eventually};

/// An object too large to be gathered with other answers.
const LARGE: &str = "/storage/v1/object/public/media/large.bin";
const LARGE_SIZE: usize = 512 * 1024;
/// What ten thousand connections are, where the machine allows it.
const CROWD: u64 = 10_000;
/// Most resident memory of one that is idle.
const IDLE_MEMORY: u64 = 16 * 1024;

/// In front of rows 1 to 9 of `users`, a large object and an echo.
pub fn in_front(setup: impl FnOnce(Setup) -> Setup) -> (Faulty, Sluice) {
    let upstream = Faulty::start();
    for id in 1..10 {
        let row = Answer::json(&format!("[{{\"id\":{id}}}]")).header("Content-Range", "0-0/*");
        upstream.always(&format!("GET {}", row_target(id)), row.act());
    }
    let large = Answer::new(200, vec![b'x'; LARGE_SIZE]).header("Content-Type", "video/mp4");
    upstream.always(LARGE, large.act());
    upstream.always("POST /functions/v1/echo", Answer::json("{\"echo\":1}").act());
    let routes = "[[route]]\nname = \"rest\"\ntable = \"*\"\n[route.read]\nttl = \"1h\"\nscope = \"user\"\n\
        [[route]]\nname = \"media\"\npath = '^/storage/v1/object/public/'\n[route.read]\nttl = \"1h\"\n\
        scope = \"public\"\n";
    let sluice = setup(Setup::new(&upstream.url()).routes(routes)).start();
    (upstream, sluice)
}

fn row_target(id: u64) -> String {
    format!("/rest/v1/users?id=eq.{id}")
}

/// The request for a row.
pub fn row(sluice: &Sluice, id: u64) -> Request {
    sluice.get(&row_target(id)).anonymous()
}

#[test]
fn pipelined_hits_are_answered_in_order() {
    let (_upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    for id in [1, 2, 3] {
        indexed(&sluice, &mut client, &row(&sluice, id));
    }
    let order = [1, 2, 3, 3, 2, 1, 1, 1, 3, 2];
    let counted = FrontHits::from_now(&sluice);
    client.write(&order.map(|id| row(&sluice, id).encode()).concat());
    for id in order {
        assert_eq!(client.read("GET").expect(200).expect_hit().text(), format!("[{{\"id\":{id}}}]"));
    }
    counted.expect(10, "ten hits in one write");
    // More than any buffer holds, written while it is read.
    let many = row(&sluice, 1).encode().repeat(500);
    client.write(&many);
    for _ in 0..500 {
        client.read("GET").expect(200).expect_hit();
    }
    client.get(&row(&sluice, 2)).expect_hit();
}

#[test]
fn hits_misses_and_forwarded_requests_are_answered_in_the_order_they_were_asked() {
    let (upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    indexed(&sluice, &mut client, &row(&sluice, 2));
    // The miss takes its time: what comes behind it must wait.
    let gate = Gate::new();
    let slow = Answer::json("[{\"id\":3}]").header("Content-Range", "0-0/*").act();
    upstream.once(&format!("GET {}", row_target(3)), Act::Hold(gate.clone(), Box::new(slow)));
    let post = sluice.request("POST", "/functions/v1/echo").json(&json!({ "large": "x".repeat(20_000) }));
    let head = sluice.request("HEAD", &row_target(1)).anonymous();
    let requests = [
        (row(&sluice, 1), "GET", "[{\"id\":1}]"),
        (row(&sluice, 3), "GET", "[{\"id\":3}]"),
        (row(&sluice, 2), "GET", "[{\"id\":2}]"),
        (post, "POST", "{\"echo\":1}"),
        (head, "HEAD", ""),
        (never_the_fronts(&row(&sluice, 2)), "GET", "[{\"id\":2}]"),
        (row(&sluice, 1), "GET", "[{\"id\":1}]"),
    ];
    client.write(&requests.iter().flat_map(|(request, _, _)| request.encode()).collect::<Vec<_>>());
    assert_eq!(client.read("GET").text(), "[{\"id\":1}]", "a hit doesn't wait for what comes behind it");
    upstream.wait_for(&format!("GET {}", row_target(3)), 1);
    gate.open();
    for (_, method, body) in &requests[1..] {
        assert_eq!(client.read(method).expect(200).text(), *body);
    }
}

#[test]
fn a_head_that_trickles_in_is_answered() {
    let (_upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    let request = sluice.get(LARGE);
    indexed(&sluice, &mut client, &request);
    let counted = FrontHits::from_now(&sluice);
    for byte in request.encode().iter().chain(&request.encode()) {
        client.write(&[*byte]);
        // One read each.
        std::thread::sleep(Duration::from_micros(300));
    }
    for _ in 0..2 {
        assert_eq!(client.read("GET").expect(200).expect_hit().body.len(), LARGE_SIZE);
    }
    counted.expect(2, "heads that arrive in pieces");
}

#[test]
fn a_client_that_has_said_all_gets_all_its_answers() {
    let (_upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    let known = indexed(&sluice, &mut client, &row(&sluice, 1));
    let large = indexed(&sluice, &mut client, &sluice.get(LARGE));
    for count in [1, 3, 200] {
        let mut client = Client::open(sluice.address());
        client.write(&row(&sluice, 1).encode().repeat(count));
        client.write(&sluice.get(LARGE).encode());
        client.stream().shutdown(Shutdown::Write).unwrap();
        for _ in 0..count {
            assert_eq!(client.read("GET").seen(), known.seen());
        }
        assert_eq!(client.read("GET").body.len(), large.body.len());
        client.expect_end();
    }
    // What isn't a whole request is none.
    let mut client = Client::open(sluice.address());
    let request = row(&sluice, 1).encode();
    client.write(&[&request, &request[..request.len() - 1]].concat());
    client.stream().shutdown(Shutdown::Write).unwrap();
    client.read("GET").expect(200);
    client.expect_end();
}

#[test]
fn who_does_not_read_takes_nothing_from_others() {
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", "body_timeout = \"1s\""));
    let mut other = Client::open(sluice.address());
    indexed(&sluice, &mut other, &sluice.get(LARGE));
    indexed(&sluice, &mut other, &row(&sluice, 1));
    let before = sluice.process().resident_memory();
    let asked = Instant::now();
    let mut stalled = [(); 4].map(|()| Client::open(sluice.address()));
    for client in &mut stalled {
        client.write(&sluice.get(LARGE).encode().repeat(1_000));
    }
    eventually("all are served", || sluice.metric("sluice_connections") == 5.0);
    let mut most = 0;
    eventually("those who stall are given up", || {
        let begun = Instant::now();
        other.get(&row(&sluice, 1)).expect(200).expect_hit();
        assert!(begun.elapsed() < Duration::from_secs(2), "others wait: {:?}", begun.elapsed());
        most = most.max(sluice.process().resident_memory());
        sluice.metric("sluice_connections") == 1.0
    });
    assert!(asked.elapsed() >= Duration::from_millis(950), "too early: {:?}", asked.elapsed());
    assert!(asked.elapsed() < Duration::from_secs(10), "too late: {:?}", asked.elapsed());
    assert!(most < before + (32 << 20), "memory grew from {before} to {most}");
    for client in &mut stalled {
        let complete = std::iter::from_fn(|| client.try_read("GET").ok()).count();
        assert!(complete < 1_000, "{complete} answers: nobody was given up");
    }
}

#[test]
fn who_reads_slowly_is_served_to_the_end() {
    let (_upstream, sluice) = in_front(|setup| setup.section("limits", "body_timeout = \"1s\""));
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &sluice.get(LARGE));
    let stream = TcpStream::connect(sluice.address()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
    let mut stream = stream;
    let count = 24;
    stream.write_all(&sluice.get(LARGE).encode().repeat(count)).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (begun, total) = (Instant::now(), read_slowly(&mut stream));
    assert!(begun.elapsed() > Duration::from_secs(2), "the reader is not slow: {:?}", begun.elapsed());
    assert!(total > count * LARGE_SIZE, "{total} bytes came");
}

#[test]
fn a_long_body_of_the_proxys_may_take_longer_than_body_timeout() {
    const FILM: &str = "/storage/v1/object/public/media/film.mp4";
    // More than the kernel takes off Sluice's hands.
    const SIZE: usize = 12 << 20;
    let upstream = Faulty::start();
    let film = Answer::new(200, vec![b'x'; SIZE]).header("Content-Type", "video/mp4");
    upstream.always(FILM, film.act());
    let routes = "[[route]]\nname = \"media\"\npath = '^/storage/v1/object/public/'\n[route.read]\nttl = \"1h\"\n\
        scope = \"public\"\nmax_body = \"16MiB\"\n";
    let sluice =
        Setup::new(&upstream.url()).routes(routes).section("limits", "body_timeout = \"1s\"").start();
    sluice.get(FILM).send().expect(200);
    let request = never_the_fronts(&sluice.get(FILM));
    request.send().expect(200).expect_hit();
    let mut stream = TcpStream::connect(sluice.address()).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 64 * 1024).unwrap();
    stream.write_all(&request.encode()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let (begun, total) = (Instant::now(), read_slowly(&mut stream));
    assert!(begun.elapsed() > Duration::from_secs(2), "the reader is not slow: {:?}", begun.elapsed());
    assert!(total > SIZE, "{total} bytes came");
}

/// Reads to the end at about 5 MB/s. How much came.
fn read_slowly(stream: &mut TcpStream) -> usize {
    let (mut total, mut chunk) = (0, vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = stream.read(&mut chunk) {
        total += read;
        std::thread::sleep(Duration::from_millis(12));
    }
    total
}

#[test]
fn ten_thousand_idle_connections_take_little() {
    let count = with_descriptors_for(CROWD);
    let (_upstream, sluice) = in_front(|setup| {
        setup.top("listen = \"0.0.0.0:0\"").section("limits", &format!("connections = {}", count + 100))
    });
    let port = sluice.address().rsplit(':').next().unwrap().to_owned();
    let request = row(&sluice, 1).encode();
    // Loopback addresses by turns: each has all local ports for itself.
    let open = |n: u64| {
        let mut client = Client::open(&format!("127.0.0.{}:{port}", 1 + n % 8));
        client.write(&request);
        client.read("GET").expect(200);
        client
    };
    let mut crowd: Vec<_> = (0..200).map(open).collect();
    let before = sluice.process().resident_memory();
    let counted = FrontHits::from_now(&sluice);
    crowd.extend((200..count).map(open));
    let after = sluice.process().resident_memory();
    let each = after.saturating_sub(before) / (count - 200);
    eprintln!("{count} idle connections: {before} bytes, then {after}; {each} for each");
    assert_eq!(sluice.metric("sluice_connections"), count as f64);
    for n in [0, count / 2, count - 1] {
        let client = &mut crowd[n as usize];
        client.write(&request);
        client.read("GET").expect(200).expect_hit();
    }
    counted.expect(count - 200, "each of the crowd asks for a row");
    assert!(each <= IDLE_MEMORY, "{each} bytes for each connection");
    let stopped = Instant::now();
    sluice.process().signal("TERM");
    crowd.into_iter().for_each(Client::expect_end);
    assert_eq!(sluice.process().wait().code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
}

/// So many, or as many as this process and its children may open.
fn with_descriptors_for(wanted: u64) -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    // Other tests run beside this one.
    limit.maximum.map_or(wanted, |most| wanted.min(most.saturating_sub(2_000)))
}

#[test]
fn a_connection_that_is_reset_harms_nobody() {
    let (_upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    indexed(&sluice, &mut client, &sluice.get(LARGE));
    for _ in 0..20 {
        let mut rude = Client::open(sluice.address());
        rude.write(&sluice.get(LARGE).encode().repeat(50));
        let mut some = [0; 1000];
        (&mut rude.stream()).read_exact(&mut some).unwrap();
        // Closing over unread bytes resets.
    }
    eventually("they are gone", || sluice.metric("sluice_connections") == 1.0);
    client.get(&sluice.get(LARGE)).expect_hit();
    client.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let quiet = (&mut client.stream()).read(&mut [0; 1]).unwrap_err();
    assert!(matches!(quiet.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{quiet}");
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    client.get(&sluice.get(LARGE)).expect_hit();
}
