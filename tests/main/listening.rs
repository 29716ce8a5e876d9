//! Where connections come from: PROXY headers and inherited sockets.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use crate::support::eventually;
use crate::support::faulty::{Answer, Faulty};
use crate::support::http::{Connection, Request};
use crate::support::sluice::{Setup, Sluice, write_file};

const TARGET: &str = "/functions/v1/echo";

fn in_front(top: &str) -> (Faulty, Sluice) {
    let upstream = Faulty::start();
    upstream.always(TARGET, Answer::json("{}").act());
    let sluice = Setup::new(&upstream.url()).top(top).start();
    (upstream, sluice)
}

/// Sends `header` and then a request; the address that upstream is told.
fn forwarded_for(upstream: &Faulty, sluice: &Sluice, header: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(sluice.address()).unwrap();
    stream.write_all(header).unwrap();
    let mut connection = Connection::over(stream).unwrap();
    sluice.get(TARGET).send_over(&mut connection).expect(200);
    upstream.requests(TARGET).last()?.header("x-forwarded-for").map(str::to_owned)
}

#[test]
fn the_proxy_protocol_names_the_client() {
    let (upstream, sluice) = in_front("proxy_protocol = true");
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";
    assert_eq!(forwarded_for(&upstream, &sluice, line).as_deref(), Some("192.0.2.7"));
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x10\xe1\0\x50";
    assert_eq!(forwarded_for(&upstream, &sluice, binary).as_deref(), Some("192.0.2.8"));
}

#[test]
fn without_its_header_a_connection_is_closed() {
    let (upstream, sluice) = in_front("proxy_protocol = true");
    assert!(sluice.get(TARGET).try_send().is_err());
    assert_eq!(upstream.count(TARGET), 0);
}

#[test]
fn a_proxy_header_is_no_request_where_none_is_expected() {
    let (_upstream, sluice) = in_front("");
    let mut stream = TcpStream::connect(sluice.address()).unwrap();
    stream.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n\r\n").unwrap();
    assert_eq!(Connection::over(stream).unwrap().read("GET").unwrap().status, 400);
}

#[test]
fn an_inherited_socket_is_listened_on() {
    let upstream = Faulty::start();
    upstream.always(TARGET, Answer::json("{}").act());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let toml = Setup::new(&upstream.url()).top("listen = \"fd:7\"").toml();
    // A shell gives the child descriptor 7, as a supervisor would.
    let mut child = Command::new("sh")
        .args(["-c", "exec \"$0\" serve -c \"$1\" 7<&0 0</dev/null", env!("CARGO_BIN_EXE_sluice")])
        .arg(write_file(&toml))
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("it answers", || {
        Request::new(&address, "GET", TARGET).try_send().is_ok_and(|answer| answer.status == 200)
    });
    child.kill().unwrap();
    child.wait().unwrap();
}
