//! Everything that isn't cached is forwarded as it came, streamed both ways.

use std::io::Write;

use serde_json::json;

use crate::support::backend;
use crate::support::faulty::{Act, Answer, Faulty};
use crate::support::http::{Connection, Request};
use crate::support::script;
use crate::support::sluice::{Setup, Sluice};
use crate::support::token::alice;

fn in_front() -> (Faulty, Sluice) {
    let upstream = Faulty::start();
    upstream.always("*", Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url()).start();
    (upstream, sluice)
}

/// How much is streamed: `STREAM_MB=1024` for the whole gigabyte.
fn stream_size() -> u64 {
    let megabytes = std::env::var("STREAM_MB").ok().and_then(|size| size.parse::<u64>().ok()).unwrap_or(128);
    megabytes << 20
}

/// More than this is no constant memory.
const MEMORY_GROWTH: u64 = 48 << 20;

#[test]
fn every_method_and_path_reaches_upstream_unchanged() {
    let (upstream, sluice) = in_front();
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "SEARCH"];
    let targets = [
        "/",
        "/auth/v1/token?grant_type=password",
        "/functions/v1/a%20b?x=%2B+&y",
        "/storage/v1/object/b/a%2Fb",
        "/x//y/../z?",
        "/rest/v1/rpc/f",
    ];
    for method in methods {
        for target in targets {
            let request = sluice.request(method, target).signed_in(alice().sign()).header("X-Own", "1");
            let request = if method == "GET" {
                request
            } else {
                request.header("Content-Type", "text/plain").body(format!("body of {method}"))
            };
            request.send().expect(200);
            let got = upstream.requests(target.split('?').next().unwrap()).pop().unwrap();
            assert_eq!((got.method.as_str(), got.target.as_str()), (method, target));
            if method != "GET" {
                assert_eq!(String::from_utf8_lossy(&got.body), format!("body of {method}"), "{target}");
                assert_eq!(got.header("content-type"), Some("text/plain"));
            }
            assert_eq!(got.header("x-own"), Some("1"));
            assert_eq!(got.header("host"), Some(upstream.address().to_string().as_str()));
        }
    }
}

#[test]
fn answers_come_back_unchanged() {
    let (upstream, sluice) = in_front();
    for status in [200, 201, 204, 301, 304, 400, 404, 409, 418, 429, 500, 503] {
        let body = if matches!(status, 204 | 304) { "" } else { "a body" };
        upstream.once(
            "/functions/v1/f",
            Answer::new(status, body)
                .header("X-Own", "a")
                .header("X-Own", "b")
                .header("Retry-After", "3")
                .act(),
        );
        let answer = sluice.get("/functions/v1/f").send().expect(status);
        assert_eq!((answer.text().as_str(), answer.joined("x-own").as_str()), (body, "a, b"));
        assert_eq!(answer.header("retry-after"), Some("3"));
    }
}

#[test]
fn hop_by_hop_headers_end_here() {
    let (upstream, sluice) = in_front();
    upstream.always(
        "/f",
        Answer::json("{}")
            .header("Keep-Alive", "timeout=5")
            .header("Connection", "X-Hop")
            .header("X-Hop", "1")
            .header("Proxy-Authenticate", "Basic")
            .act(),
    );
    let answer = sluice
        .get("/f")
        .header("Connection", "keep-alive, X-Mine")
        .header("X-Mine", "1")
        .header("Keep-Alive", "timeout=5")
        .header("TE", "trailers, deflate")
        .header("Proxy-Authorization", "Basic eA==")
        .header("Upgrade-Insecure-Requests", "1")
        .send()
        .expect(200);
    for name in ["keep-alive", "x-hop"] {
        assert_eq!(answer.header(name), None, "{name} of upstream's connection");
    }
    let got = upstream.requests("/f").pop().unwrap();
    for name in ["x-mine", "keep-alive", "proxy-authorization"] {
        assert_eq!(got.header(name), None, "{name} of the client's connection");
    }
    assert!(got.header("upgrade-insecure-requests").is_some(), "an end-to-end header");
}

#[test]
fn forwarding_headers_say_who_asked() {
    let (upstream, sluice) = in_front();
    let ask = |sluice: &Sluice| {
        sluice
            .get("/f")
            .header("Host", "api.example.com")
            .header("X-Forwarded-For", "9.9.9.9")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Host", "evil.example")
            .send()
            .expect(200);
        upstream.requests("/f").pop().unwrap()
    };
    let got = ask(&sluice);
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"), "a stranger's word doesn't count");
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("x-forwarded-host"), Some("api.example.com"));
    let trusting = Setup::new(&upstream.url()).top("trusted_proxies = [\"127.0.0.0/8\"]").start();
    let got = ask(&trusting);
    assert_eq!(got.all("x-forwarded-for").join(", "), "9.9.9.9, 127.0.0.1");
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    assert_eq!(got.header("x-forwarded-host"), Some("evil.example"));
}

#[test]
fn location_of_upstream_becomes_ours() {
    let (upstream, sluice) = in_front();
    let place = format!("{}/storage/v1/upload/resumable/abc", upstream.url());
    upstream.always("/storage/v1/upload/resumable", Answer::new(201, "").header("Location", &place).act());
    let answer = sluice.request("POST", "/storage/v1/upload/resumable").body("").send().expect(201);
    assert_eq!(
        answer.header("location").unwrap(),
        format!("{}/storage/v1/upload/resumable/abc", sluice.url())
    );
    let public = Setup::new(&upstream.url()).top("public_url = \"https://api.example.com\"").start();
    let answer = public.request("POST", "/storage/v1/upload/resumable").body("").send().expect(201);
    assert_eq!(answer.header("location"), Some("https://api.example.com/storage/v1/upload/resumable/abc"));
    upstream.always(
        "/elsewhere",
        Answer::new(302, "").header("Location", "https://accounts.example.com/x").act(),
    );
    assert_eq!(sluice.get("/elsewhere").send().header("location"), Some("https://accounts.example.com/x"));
}

#[test]
fn an_upload_is_streamed_in_constant_memory() {
    let (upstream, sluice) = in_front();
    upstream.always("/storage/v1/object/b/large", Act::Count);
    let size = stream_size();
    for chunked in [false, true] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        let framing =
            if chunked { "Transfer-Encoding: chunked".to_owned() } else { format!("Content-Length: {size}") };
        connection
            .write(
                format!("POST /storage/v1/object/b/large HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
                    .as_bytes(),
            )
            .unwrap();
        let before = sluice.process().resident_memory();
        let block = vec![b'x'; 1 << 20];
        let mut highest = 0;
        for _ in 0..size >> 20 {
            if chunked {
                connection.write(b"100000\r\n").unwrap();
            }
            connection.write(&block).unwrap();
            if chunked {
                connection.write(b"\r\n").unwrap();
            }
            highest = highest.max(sluice.process().resident_memory());
        }
        if chunked {
            connection.write(b"0\r\n\r\n").unwrap();
        }
        let answer = connection.read("POST").unwrap().expect(200);
        assert_eq!(answer.json(), json!({ "received": size }));
        assert!(highest - before.min(highest) < MEMORY_GROWTH, "memory grew from {before} to {highest}");
    }
}

#[test]
fn a_download_is_streamed_in_constant_memory() {
    let (upstream, sluice) = in_front();
    let size = stream_size();
    upstream.always("/storage/v1/object/b/large", Act::Stream(size));
    upstream.always("/rest/v1/large", Act::Stream(size));
    for target in ["/storage/v1/object/b/large", "/rest/v1/large"] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        connection.write(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let before = sluice.process().resident_memory();
        let head = connection.read_head().unwrap().expect(200);
        let mut left = head.header("content-length").expect("its length is known").parse::<u64>().unwrap();
        assert_eq!(left, size);
        let mut highest = 0;
        while left > 0 {
            let step = left.min(1 << 20);
            connection.skip(step).unwrap();
            left -= step;
            highest = highest.max(sluice.process().resident_memory());
        }
        assert!(
            highest - before.min(highest) < MEMORY_GROWTH,
            "{target}: memory grew from {before} to {highest}"
        );
    }
}

#[test]
fn expect_100_continue_is_answered_before_the_body() {
    let (upstream, sluice) = in_front();
    upstream.always("/upload", Act::Count);
    let mut connection = Connection::open(sluice.address()).unwrap();
    connection
        .write(b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert_eq!(connection.read_head().unwrap().status, 100);
    connection.write(b"hello").unwrap();
    assert_eq!(connection.read("POST").unwrap().expect(200).json(), json!({ "received": 5 }));
}

#[test]
fn trailers_are_dropped_and_do_no_harm() {
    let (upstream, sluice) = in_front();
    let mut connection = Connection::open(sluice.address()).unwrap();
    let head = b"POST /f HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n";
    connection
        .write(&[&head[..], b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer x\r\n\r\n"].concat())
        .unwrap();
    connection.read("POST").unwrap().expect(200);
    let got = upstream.requests("/f").pop().unwrap();
    assert_eq!(
        (got.body.as_slice(), got.header("x-sum"), got.header("authorization")),
        (&b"hello"[..], None, None)
    );
    upstream.always(
        "/t",
        Answer::new(200, "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n").header("Transfer-Encoding", "chunked").act(),
    );
    let answer = sluice.get("/t").send_over(&mut connection).expect(200);
    assert_eq!((answer.text().as_str(), answer.header("x-sum")), ("hello", None));
    sluice.get("/f").send_over(&mut connection).expect(200);
}

#[test]
fn websockets_are_passed_through() {
    let (upstream, sluice) = in_front();
    upstream.always("/realtime/v1/websocket", Act::Echo);
    let setup =
        Setup::new(&upstream.url()).section("limits", "idle_timeout = \"1s\"\nbody_timeout = \"1s\"").start();
    for sluice in [&sluice, &setup] {
        let mut connection = Connection::open(sluice.address()).unwrap();
        let request = sluice
            .get("/realtime/v1/websocket?apikey=x&vsn=1.0.0")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        connection.write(&request.encode()).unwrap();
        let answer = connection.read_head().unwrap().expect(101);
        assert_eq!(answer.header("upgrade").map(str::to_ascii_lowercase).as_deref(), Some("websocket"));
        connection.write(b"ping").unwrap();
        assert_eq!(connection.read_exact(4).unwrap(), b"ping");
        // Longer than the idle timeout: Realtime is quiet for 25 s between heartbeats.
        connection.stream().set_read_timeout(Some(std::time::Duration::from_millis(2500))).unwrap();
        let error = connection.read_exact(1).unwrap_err();
        assert!(
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            "cut while idle: {error}"
        );
        connection.write(b"pong").unwrap();
        assert_eq!(connection.read_exact(4).unwrap(), b"pong");
        let got = upstream.requests("/realtime/v1/websocket").pop().unwrap();
        assert_eq!(got.header("host"), Some(upstream.address().to_string().as_str()));
        assert_eq!(got.header("upgrade"), Some("websocket"));
    }
}

#[test]
fn a_real_websocket_library_talks_through() {
    let mut command = std::process::Command::new("node");
    command.arg("websocket-server.mjs").current_dir(script::folder());
    let server = crate::support::process::Process::start("the websocket server", "KILL", None, &command);
    let port = server.wait_for(|line| line.parse::<u16>().ok()).unwrap_or_else(|log| panic!("{log}"));
    let sluice = Setup::new(&format!("http://127.0.0.1:{port}")).start();
    let output = script::run(
        "websocket-client.mjs",
        &json!({ "url": format!("ws://{}/realtime/v1/websocket", sluice.address()) }),
    );
    assert_eq!(
        output,
        json!({ "echoed": ["a", "b".repeat(100_000)], "closed": 1000, "host": format!("127.0.0.1:{port}") })
    );
}

#[test]
fn http2_is_spoken_in_plain_text_and_over_tls() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let tls = format!("cert_file = \"{keys}/server.pem\"\nkey_file = \"{keys}/server-key.pem\"");
    let plain = Setup::new(&backend::shared().url()).start();
    let secure = Setup::new(&backend::shared().url()).section("tls", &tls).start();
    let input = json!({
        "plain": plain.url(), "secure": secure.url().replace("http:", "https:"), "ca": format!("{keys}/ca.pem"),
        "path": "/rest/v1/users?id=eq.1", "apikey": crate::support::token::anon_key(),
    });
    let output = script::run("http2.mjs", &input);
    for transport in ["h2c", "h2", "tls_http1"] {
        let answers = output[transport].as_array().unwrap();
        assert_eq!(answers.len(), 3, "{output}");
        for answer in answers {
            assert_eq!(answer["status"], 200, "{transport}: {output}");
            assert!(answer["body"].as_str().unwrap().contains("user 1"), "{transport}: {output}");
        }
        let last = answers[2]["cacheStatus"].as_str().unwrap();
        assert!(last.starts_with("sluice; hit"), "{transport}: {last}");
    }
}

#[test]
fn upstream_over_https_is_verified() {
    let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys");
    let port = backend::shared().tls_port();
    let ask = |host: &str, keys: &str| {
        let sluice = Setup::new(&format!("https://{host}:{port}")).section("upstream", keys).start();
        sluice.get("/whoami").send()
    };
    let ca = format!("ca_file = \"{keys}/ca.pem\"");
    let answer = ask("localhost", &ca).expect(200).json();
    assert_eq!((&answer["sni"], &answer["scheme"]), (&json!("localhost"), &json!("https")));
    assert_eq!(ask("localhost", "").expect(502).json()["code"], "SLUICE502", "an unknown root isn't trusted");
    let named = ask("127.0.0.1", &format!("{ca}\nhost = \"abc.supabase.test\"")).expect(200).json();
    assert_eq!((&named["sni"], &named["host"]), (&json!("abc.supabase.test"), &json!("abc.supabase.test")));
    ask("127.0.0.1", &format!("{ca}\nhost = \"wrong.example\"")).expect(502);

    let sluice = Setup::new(&format!("https://localhost:{port}")).section("upstream", &ca).start();
    let read = || sluice.get("/rest/v1/users?id=eq.1").anonymous().send().expect(200);
    read().expect_stored();
    read().expect_hit();
}

#[test]
fn connections_to_upstream_are_kept() {
    let (upstream, sluice) = in_front();
    for n in 0..50 {
        sluice.get(&format!("/functions/v1/{n}")).send().expect(200);
    }
    assert!(upstream.connections() < 10, "{} connections for 50 requests in turn", upstream.connections());
}

#[test]
fn a_request_that_is_not_idempotent_is_never_sent_twice() {
    let (upstream, sluice) = in_front();
    for method in ["POST", "PATCH"] {
        upstream.always("/auth/v1/token", Act::Drop);
        let before = upstream.count("/auth/v1/token");
        sluice.request(method, "/auth/v1/token").body("refresh").send().expect(502);
        assert_eq!(upstream.count("/auth/v1/token"), before + 1, "{method}");
    }
}

#[test]
fn a_body_that_stops_coming_is_given_up() {
    let upstream = Faulty::start();
    let sluice = Setup::new(&upstream.url()).section("limits", "body_timeout = \"1s\"").start();
    let mut connection = Connection::open(sluice.address()).unwrap();
    connection.write(b"POST /f HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    let answer = connection.read("POST");
    assert!(answer.as_ref().map_or(true, |answer| answer.status >= 400), "{answer:?}");
    connection.stream().write_all(b"x").ok();
}

#[test]
fn the_secret_key_goes_to_the_token_endpoint_alone() {
    let upstream = Faulty::start();
    upstream.always("POST", Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url())
        .section("upstream", "schema_key = \"the-secret-key\"\n")
        .section("auth", "forward_client_ip = true\n")
        .start();
    let told = |target: &str| {
        sluice.request("POST", target).apikey("the-anon-key").json(&json!({})).send();
        let path = target.split('?').next().unwrap();
        let seen = upstream.requests(&format!("POST {path}")).pop().unwrap();
        (seen.header("apikey").map(str::to_owned), seen.header("sb-forwarded-for").map(str::to_owned))
    };
    let anons = (Some("the-anon-key".to_owned()), None);
    let (key, client) = told("/auth/v1/token?grant_type=refresh_token");
    assert_eq!((key.as_deref(), client.as_deref()), (Some("the-secret-key"), Some("127.0.0.1")));
    for target in [
        "/auth/v1/token?grant_type=password",
        "/storage/v1/object/b/auth/v1/token?grant_type=pkce",
        "/functions/v1/f/auth/v1/token?grant_type=pkce",
        "/x/auth/v1/token?grant_type=id_token",
    ] {
        assert_eq!(told(target), anons, "{target}");
    }
}

#[test]
fn an_error_follows_a_100() {
    let (upstream, sluice) = in_front();
    upstream.always("PUT /rest/v1/users", Act::Drop);
    let request = sluice.request("PUT", "/rest/v1/users?id=eq.1").header("Expect", "100-continue").body("{}");
    let answer = request.send();
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn the_target_of_an_absolute_url_is_its_path() {
    let (upstream, sluice) = in_front();
    upstream.always("GET /functions/v1/f", Answer::json("{}").act());
    let url = format!("{}/functions/v1/f?x=1", sluice.url());
    Request::new(sluice.address(), "GET", &url).send().expect(200);
    let seen = upstream.requests("GET /functions/v1/f").pop().unwrap();
    assert_eq!(seen.header("x-forwarded-host"), Some(sluice.address()));
}
