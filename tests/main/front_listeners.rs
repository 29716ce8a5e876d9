//! Hits are the same whatever they come over: plain TCP, TLS, HTTP/2, a unix socket, a balancer's PROXY header.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::json;

use crate::front_connections::{in_front, row};
use crate::support::front::{Answer, Client, FrontHits, indexed};
use crate::support::http::Request;
use crate::support::process::directory;
use crate::support::sluice::Sluice;
use crate::support::{PATIENCE, script, unique};

const LARGE: &str = "/storage/v1/object/public/media/large.bin";

fn keys() -> String {
    format!("{}/tests/keys", env!("CARGO_MANIFEST_DIR"))
}

/// What `[tls]` needs.
fn tls() -> String {
    format!("cert_file = \"{0}/server.pem\"\nkey_file = \"{0}/server-key.pem\"", keys())
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// A TLS connection over `stream`, with HTTP/1.1 chosen.
fn encrypted(stream: TcpStream) -> Client<TlsStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(keys() + "/ca.pem").unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Client::over(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream))
}

/// The row and the large object, each by itself and then pipelined; all of them hits.
#[track_caller]
fn hits<S: std::io::Read + std::io::Write>(sluice: &Sluice, client: &mut Client<S>) -> Vec<Answer> {
    let requests = [row(sluice, 1), large(sluice)];
    let mut answers: Vec<_> = requests.iter().map(|request| indexed(sluice, client, request)).collect();
    let counted = FrontHits::from_now(sluice);
    let both = requests.each_ref().map(Request::encode).concat();
    client.write(&both.repeat(3));
    answers.extend((0..6).map(|_| client.read("GET").expect(200).expect_hit()));
    counted.expect(6, "six hits in one write");
    answers
}

fn large(sluice: &Sluice) -> Request {
    sluice.get(LARGE).header("Host", "localhost")
}

/// What the hits are over plain TCP.
fn plain_hits() -> Vec<Answer> {
    let (_upstream, sluice) = in_front(|setup| setup);
    hits(&sluice, &mut Client::open(sluice.address()))
}

#[track_caller]
fn assert_same(answers: &[Answer], expected: &[Answer]) {
    for (answer, expected) in answers.iter().zip(expected) {
        assert_eq!(answer.seen(), expected.seen());
    }
}

#[test]
fn hits_over_tls_are_the_same() {
    let (_upstream, sluice) = in_front(|setup| setup.section("tls", &tls()));
    let mut client = encrypted(TcpStream::connect(sluice.address()).unwrap());
    assert_same(&hits(&sluice, &mut client), &plain_hits());
    // A forwarded request between two hits, in one write.
    let post = sluice.request("POST", "/functions/v1/echo").body("x");
    client.write(&[row(&sluice, 1).encode(), post.encode(), row(&sluice, 1).encode()].concat());
    client.read("GET").expect_hit();
    assert_eq!(client.read("POST").expect(200).text(), "{\"echo\":1}");
    client.read("GET").expect_hit();
}

#[test]
fn a_tls_client_that_is_done_is_told_goodbye() {
    let (_upstream, sluice) = in_front(|setup| setup.section("tls", &tls()));
    let mut client = encrypted(TcpStream::connect(sluice.address()).unwrap());
    indexed(&sluice, &mut client, &row(&sluice, 1));
    client.write(&row(&sluice, 1).header("Connection", "close").encode());
    client.read("GET").expect_hit();
    // Without close_notify this would be an error: the answer might have been cut.
    client.expect_end();
}

#[test]
fn hits_over_http2_are_the_same() {
    let (_upstream, sluice) = in_front(|setup| setup.section("tls", &tls()));
    let port = sluice.address().rsplit(':').next().unwrap();
    let mut client = encrypted(TcpStream::connect(sluice.address()).unwrap());
    let expected = indexed(&sluice, &mut client, &row(&sluice, 1));
    let input = json!({
        "plain": "", "secure": format!("https://localhost:{port}"), "ca": keys() + "/ca.pem",
        "path": "/rest/v1/users?id=eq.1", "apikey": crate::support::token::anon_key(),
    });
    let answers = script::run("front-http2.mjs", &input);
    for answer in answers.as_array().unwrap() {
        assert_eq!(answer["status"], 200);
        assert_eq!(answer["body"], expected.text());
        let http2: Vec<_> = fields(answer["headers"].as_array().unwrap());
        let mut http1: Vec<_> =
            expected.fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect();
        http1.retain(|(name, _)| name != "connection");
        assert_eq!(timeless(http2), timeless(http1));
    }
}

/// Names and values by turns, as Node gives them.
fn fields(raw: &[serde_json::Value]) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let fields = raw.chunks(2).map(|pair| (text(&pair[0]), text(&pair[1])));
    fields.filter(|(name, _)| !name.starts_with(':')).collect()
}

fn timeless(fields: Vec<(String, String)>) -> Vec<(String, String)> {
    let answer = Answer { line: String::new(), fields, body: Vec::new() };
    let mut fields = answer.seen().into_fields();
    fields.sort();
    fields
}

#[test]
fn hits_over_a_unix_socket_are_the_same() {
    let socket = directory("sockets").join(format!("front-{}.sock", unique()));
    let listen = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]", socket.display());
    let (_upstream, sluice) = in_front(|setup| setup.top(&listen));
    let stream = UnixStream::connect(&socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut client = Client::over(stream);
    assert_same(&hits(&sluice, &mut client), &plain_hits());
    client.stream().shutdown(std::net::Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn hits_behind_a_proxy_header_are_the_same() {
    let line: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 80\r\n";
    let binary: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x10\xe1\0\x50";
    let expected = plain_hits();
    for header in [line, binary] {
        let (upstream, sluice) = in_front(|setup| setup.top("proxy_protocol = true"));
        let mut client = Client::open(sluice.address());
        client.write(header);
        assert_same(&hits(&sluice, &mut client), &expected);
        // Header, two hits and a forwarded request in one write, and the client's address still known.
        let post = sluice.request("POST", "/functions/v1/echo").body("x");
        let mut client = Client::open(sluice.address());
        let requests = [row(&sluice, 1).encode(), large(&sluice).encode(), post.encode()].concat();
        client.write(&[header, &requests].concat());
        client.read("GET").expect_hit();
        client.read("GET").expect_hit();
        client.read("POST").expect(200);
        let forwarded = upstream.requests("/functions/v1/echo").pop().unwrap();
        let from = forwarded.header("x-forwarded-for").unwrap().to_owned();
        assert!(matches!(from.as_str(), "192.0.2.7" | "192.0.2.8"), "{from}");
    }
}

#[test]
fn tls_begins_behind_a_proxy_header() {
    let (upstream, sluice) = in_front(|setup| setup.top("proxy_protocol = true").section("tls", &tls()));
    let mut stream = TcpStream::connect(sluice.address()).unwrap();
    std::io::Write::write_all(&mut stream, b"PROXY TCP4 192.0.2.7 192.0.2.1 4321 443\r\n").unwrap();
    let mut client = encrypted(stream);
    indexed(&sluice, &mut client, &row(&sluice, 1));
    client.write(&sluice.request("POST", "/functions/v1/echo").body("x").encode());
    client.read("POST").expect(200);
    let forwarded = upstream.requests("/functions/v1/echo").pop().unwrap();
    assert_eq!(forwarded.header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(forwarded.header("x-forwarded-proto"), Some("https"));
}
