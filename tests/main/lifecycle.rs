//! Starting, stopping, reloading.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::backend;
use crate::support::eventually;
use crate::support::faulty::{Act, Answer, Faulty, Gate};
use crate::support::http::Connection;
use crate::support::process::directory;
use crate::support::sluice::{Setup, Sluice, run};
use crate::support::unique;

const TARGET: &str = "/rest/v1/users?id=eq.1";

#[test]
fn sigterm_lets_running_requests_finish() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let gate = Gate::new();
    let held = Act::Hold(gate.clone(), Box::new(Answer::json("[1]").act()));
    upstream.once("GET /rest/v1/users", held.clone()).once("POST /functions/v1/slow", held);
    let sluice = Setup::new(&upstream.url()).start();
    let fill = sluice.get(TARGET).anonymous().begin();
    let forwarded = sluice.request("POST", "/functions/v1/slow").body("x").begin();
    upstream.wait_for("GET /rest/v1/users", 1);
    upstream.wait_for("POST /functions/v1/slow", 1);
    sluice.process().signal("TERM");
    eventually("new connections are refused", || sluice.get(TARGET).try_send().is_err());
    assert!(sluice.process().exited().is_none(), "it doesn't wait for them");
    gate.open();
    for pending in [fill, forwarded] {
        let answer = pending.finish().expect(200);
        assert_eq!(answer.text(), "[1]");
        assert!(answer.closes(), "the connection is not kept");
    }
    assert_eq!(sluice.process().wait().code(), Some(0));
}

#[test]
fn readyz_says_no_before_the_listeners_close() {
    let sluice = Setup::new(&backend::shared().url()).top("stop_delay = \"2s\"").start();
    sluice.admin("GET", "/readyz").send().expect(200);
    sluice.admin("GET", "/livez").send().expect(200);
    sluice.process().signal("TERM");
    eventually("readyz is 503", || sluice.admin("GET", "/readyz").send().status == 503);
    let last = sluice.get(TARGET).anonymous().send().expect(200);
    assert!(last.closes(), "a kept connection would be cut under the next request");
    assert_eq!(sluice.process().wait().code(), Some(0));
}

#[test]
fn what_is_left_is_cut_after_stop_timeout() {
    let upstream = Faulty::start();
    upstream.always("*", Act::Hold(Gate::new(), Box::new(Act::Drop)));
    let sluice = Setup::new(&upstream.url()).top("stop_timeout = \"1s\"").start();
    let _held = sluice.get("/functions/v1/slow").begin();
    upstream.wait_for("/functions/v1/slow", 1);
    let started = Instant::now();
    sluice.stop();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn an_idle_connection_does_not_hold_up_the_stop() {
    let sluice = Setup::new(&backend::shared().url()).start();
    let mut idle = Connection::open(sluice.address()).unwrap();
    sluice.get(TARGET).anonymous().send_over(&mut idle).expect(200);
    let started = Instant::now();
    assert_eq!(sluice.stop(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[test]
fn it_listens_on_unix_sockets_and_on_several_addresses() {
    let socket = directory("sockets").join(format!("{}.sock", unique()));
    // A socket that a killed run has left is no obstacle.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let sluice = Setup::new(&backend::shared().url()).top(&listen).start();
    sluice.get(TARGET).anonymous().send().expect(200);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let request = sluice.get(TARGET).anonymous().header("Connection", "close");
    stream.write_all(&request.encode()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("user 1"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("cache-status: sluice; hit"), "{answer}");
}

#[test]
fn sighup_reloads_and_a_bad_file_changes_nothing() {
    let setup = Setup::new(&backend::shared().url());
    let sluice = setup.start();
    let ask = || sluice.get(TARGET).anonymous().send().expect(200);
    ask().expect_stored();
    ask().expect_hit();
    sluice.rewrite("[upstream]\nurl = 5\n");
    sluice.process().signal("HUP");
    eventually("the refusal is logged", || {
        sluice.log().contains("url = 5") || sluice.log().to_lowercase().contains("reload")
    });
    ask().expect_hit();
    sluice.rewrite(&setup.clone().routes("[[route]]\nname = \"none\"\ntable = \"users\"\n").toml());
    sluice.process().signal("HUP");
    eventually("the route no longer caches", || !ask().is_hit());
    sluice.rewrite(&setup.toml());
    sluice.process().signal("HUP");
    eventually("it caches again", || ask().is_hit());
}

#[test]
fn without_a_file_everything_has_its_default() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["serve", "--upstream", &backend::shared().url()]);
    command.env_remove("SLUICE_CONFIG").current_dir(directory("empty"));
    // The default ports may be taken on this machine; what is said then must be clear.
    let process = crate::support::process::Process::start("sluice", "KILL", None, &command);
    let outcome = process.wait_for(|line| {
        (line.contains("listening") || line.contains("8000") || line.contains("8001")).then_some(())
    });
    outcome.unwrap_or_else(|log| panic!("{log}"));
}

#[test]
fn a_taken_port_is_an_error_that_names_it() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let file = crate::support::sluice::write_file(
        &Setup::new(&backend::shared().url()).top(&format!("listen = \"{address}\"")).toml(),
    );
    let output = run(&["serve", "-c", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(&address), "{said}");
}

#[test]
fn metrics_count_what_happened() {
    let sluice: Sluice = Setup::new(&backend::shared().url()).start();
    for _ in 0..3 {
        sluice.get(TARGET).anonymous().send().expect(200);
    }
    sluice
        .request("PATCH", "/rest/v1/teams?id=eq.0")
        .anonymous()
        .json(&serde_json::json!({ "name": "x" }))
        .send()
        .expect(204);
    let count = |outcome: &str| {
        let text = sluice.admin("GET", "/metrics").send().expect(200).text();
        let wanted = format!("outcome=\"{outcome}\"");
        let lines =
            text.lines().filter(|line| line.starts_with("sluice_requests_total{") && line.contains(&wanted));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!((count("hit"), count("miss"), count("forwarded")), (2.0, 1.0, 1.0));
    let text = sluice.admin("GET", "/metrics").send().text();
    for name in [
        "sluice_request_duration_seconds",
        "sluice_upstream_requests_total",
        "sluice_upstream_duration_seconds",
        "sluice_upstream_saved_bytes_total",
        "sluice_invalidations_total",
        "sluice_cache_entries",
        "sluice_cache_bytes",
        "sluice_connections",
        "sluice_build_info{version=",
    ] {
        assert!(text.contains(name), "{name} is missing");
    }
}
