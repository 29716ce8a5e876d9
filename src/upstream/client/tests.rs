use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::upstream::ends_explicitly;

const SHORT: Duration = Duration::from_millis(200);

/// What a scripted upstream does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Sends these bytes and reads the next request.
    Say(&'static str),
    /// Sends these bytes and closes.
    SayAndClose(&'static str),
    /// Never answers.
    Hang,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Upstream {
    address: SocketAddr,
    requests: Arc<parking_lot::Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

/// An upstream that does with its n-th request, over all connections, what `acts[n]` says.
async fn upstream(acts: &'static [Act]) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = Upstream {
        address: listener.local_addr().unwrap(),
        requests: Arc::default(),
        connections: Arc::default(),
    };
    let (requests, connections) = (Arc::clone(&upstream.requests), Arc::clone(&upstream.connections));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(play(stream, Arc::clone(&requests), acts));
        }
    });
    upstream
}

async fn play(mut stream: TcpStream, requests: Arc<parking_lot::Mutex<Vec<String>>>, acts: &'static [Act]) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let act = {
            let mut requests = requests.lock();
            requests.push(String::from_utf8(head).unwrap());
            acts[requests.len() - 1]
        };
        match act {
            Act::Say(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Act::SayAndClose(text) => return stream.write_all(text.as_bytes()).await.unwrap(),
            Act::Hang => return std::future::pending().await,
        }
    }
}

fn settings(address: SocketAddr) -> ClientSettings {
    ClientSettings {
        tls: false,
        host: "abc.supabase.example".to_owned(),
        port: address.port(),
        base_path: String::new(),
        sni: "abc.supabase.example".to_owned(),
        host_header: "abc.supabase.example".to_owned(),
        connect_timeout: SHORT,
        response_timeout: SHORT,
    }
}

fn resolver(addresses: Vec<SocketAddr>) -> Arc<Resolver> {
    Resolver::with_lookup("abc.supabase.example", 80, SHORT, move || {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })
}

fn client(address: SocketAddr) -> Client {
    client_of(settings(address), vec![address])
}

fn client_of(settings: ClientSettings, addresses: Vec<SocketAddr>) -> Client {
    Client::new(settings, resolver(addresses), Trust::load(None).unwrap()).unwrap()
}

fn request(method: Method) -> Request<Bytes> {
    Request::builder().method(method).uri("/rest/v1/users?id=eq.1").body(Bytes::new()).unwrap()
}

async fn body(response: Response<Incoming>, max: u64) -> Result<Collected, FetchError> {
    collect(response.into_body(), max, SHORT).await
}

async fn answer(client: &Client) -> Result<Bytes, FetchError> {
    match body(client.send(request(Method::GET)).await?, 1000).await? {
        Collected::Whole(body) => Ok(body),
        Collected::TooLarge { .. } => panic!("too large"),
    }
}

/// A connection is kept once its own task has seen the end of the body. The
/// tests run on one thread, so that task only needs its turn.
async fn connection_goes_back() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn requests_are_addressed_to_upstream_and_connections_kept() {
    let upstream = upstream(&[Act::Say(OK), Act::Say(OK)]).await;
    let settings = ClientSettings { base_path: "/base".to_owned(), ..settings(upstream.address) };
    let client = client_of(settings, vec![upstream.address]);
    for _ in 0..2 {
        assert_eq!(answer(&client).await.unwrap(), "ok");
        connection_goes_back().await;
    }
    let expected = "GET /base/rest/v1/users?id=eq.1 HTTP/1.1\r\nhost: abc.supabase.example\r\n\r\n";
    assert_eq!(*upstream.requests.lock(), [expected, expected]);
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_read_over_a_dead_kept_connection_is_sent_once_more() {
    let upstream = upstream(&[Act::Say(OK), Act::SayAndClose(""), Act::Say(OK)]).await;
    let client = client(upstream.address);
    for _ in 0..2 {
        assert_eq!(answer(&client).await.unwrap(), "ok");
        connection_goes_back().await;
    }
    assert_eq!(upstream.requests.lock().len(), 3);
}

#[tokio::test]
async fn it_is_not_sent_a_third_time() {
    let upstream = upstream(&[Act::Say(OK), Act::SayAndClose(""), Act::SayAndClose(""), Act::Say(OK)]).await;
    let client = client(upstream.address);
    answer(&client).await.unwrap();
    connection_goes_back().await;
    assert!(matches!(answer(&client).await, Err(FetchError::Broken(_))));
    assert_eq!(upstream.requests.lock().len(), 3);
}

#[tokio::test]
async fn a_write_is_never_sent_twice() {
    let upstream = upstream(&[Act::Say(OK), Act::SayAndClose(""), Act::Say(OK)]).await;
    let client = client(upstream.address);
    answer(&client).await.unwrap();
    connection_goes_back().await;
    assert!(matches!(client.send(request(Method::POST)).await, Err(FetchError::Broken(_))));
    assert_eq!(upstream.requests.lock().len(), 2);
}

#[tokio::test]
async fn a_new_connection_that_dies_is_an_error() {
    let upstream = upstream(&[Act::SayAndClose(""), Act::Say(OK)]).await;
    let client = client(upstream.address);
    assert!(matches!(answer(&client).await, Err(FetchError::Broken(_))));
    assert_eq!(upstream.requests.lock().len(), 1);
}

#[tokio::test]
async fn truncated_bodies_are_errors() {
    for cut in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ] {
        let acts: &'static [Act] = Box::leak(Box::new([Act::SayAndClose(cut)]));
        let client = client(upstream(acts).await.address);
        assert!(matches!(answer(&client).await, Err(FetchError::Broken(_))), "{cut:?}");
    }
}

#[tokio::test]
async fn bodies_that_end_with_the_connection_are_told_apart() {
    let acts = &[Act::SayAndClose("HTTP/1.1 200 OK\r\n\r\nmaybe all"), Act::Say(OK)];
    let client = client(upstream(acts).await.address);
    let open_ended = client.send(request(Method::GET)).await.unwrap();
    assert!(!ends_explicitly(open_ended.headers()));
    assert!(ends_explicitly(client.send(request(Method::GET)).await.unwrap().headers()));
}

#[tokio::test]
async fn slow_heads_and_bodies_time_out() {
    const STALLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    for (acts, phase) in [
        (&[Act::Hang] as &'static [Act], Phase::Head),
        (&[Act::Say("HTTP/1.1 200 OK\r\n")], Phase::Head),
        (&[Act::Say(STALLED)], Phase::Body),
    ] {
        let client = client(upstream(acts).await.address);
        let begun = Instant::now();
        let error = answer(&client).await.unwrap_err();
        assert!(matches!(error, FetchError::TimedOut(at) if at == phase), "{error}");
        assert!(error.is_timeout() && begun.elapsed() >= SHORT);
    }
}

#[tokio::test]
async fn what_is_not_http_is_an_error() {
    let client = client(upstream(&[Act::SayAndClose("SSH-2.0\r\n\r\n")]).await.address);
    assert!(matches!(answer(&client).await, Err(FetchError::Broken(_))));
}

async fn refusing() -> SocketAddr {
    // Bound and dropped: nobody listens there.
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_unreachable() {
    let address = refusing().await;
    let error = answer(&client(address)).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)) && !error.is_timeout(), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn the_next_address_is_tried_and_remembered() {
    let upstream = upstream(&[Act::Say(OK)]).await;
    let dead = refusing().await;
    let resolver = resolver(vec![dead, upstream.address]);
    let client =
        Client::new(settings(upstream.address), Arc::clone(&resolver), Trust::load(None).unwrap()).unwrap();
    assert_eq!(answer(&client).await.unwrap(), "ok");
    assert_eq!(*resolver.addresses().await.unwrap(), [upstream.address, dead]);
}

#[tokio::test]
async fn a_tls_handshake_that_hangs_times_out() {
    let upstream = upstream(&[]).await;
    let settings = ClientSettings { tls: true, ..settings(upstream.address) };
    let error = answer(&client_of(settings, vec![upstream.address])).await.unwrap_err();
    assert!(matches!(error, FetchError::TimedOut(Phase::Connect)), "{error}");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_unreachable() {
    let error = answer(&client_of(settings(refusing().await), Vec::new())).await.unwrap_err();
    assert!(matches!(error, FetchError::Unreachable(_)), "{error}");
    assert!(error.to_string().contains("the name has no address"), "{error}");
}

#[tokio::test]
async fn bodies_are_read_as_far_as_allowed() {
    const CHUNKED: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let collected = |max| async move {
        let client = client(upstream(&[Act::Say(CHUNKED)]).await.address);
        body(client.send(request(Method::GET)).await.unwrap(), max).await.unwrap()
    };
    assert!(matches!(collected(6).await, Collected::Whole(body) if body == "abcdef"));
    let Collected::TooLarge { read, rest } = collected(5).await else { panic!("whole") };
    let mut all = read.to_vec();
    all.extend_from_slice(&rest.collect().await.unwrap().to_bytes());
    assert_eq!(all, b"abcdef");
}

#[tokio::test]
async fn a_length_that_is_too_large_is_not_read_at_all() {
    let client = client(upstream(&[Act::Say(OK)]).await.address);
    let response = client.send(request(Method::GET)).await.unwrap();
    let Collected::TooLarge { read, rest } = body(response, 1).await.unwrap() else { panic!("whole") };
    assert!(read.is_empty());
    assert_eq!(rest.collect().await.unwrap().to_bytes(), "ok");
}

#[tokio::test]
async fn a_head_answer_has_a_length_and_no_body() {
    let client =
        client(upstream(&[Act::Say("HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n")]).await.address);
    let response = client.send(request(Method::HEAD)).await.unwrap();
    assert!(matches!(body(response, 5).await.unwrap(), Collected::Whole(body) if body.is_empty()));
}

#[tokio::test]
async fn documents_come_from_any_host() {
    let elsewhere =
        upstream(&[Act::Say(OK), Act::Say("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")]).await;
    let client = client(refusing().await);
    let url = format!("http://user:password@{}/keys?x=1", elsewhere.address);
    assert_eq!(client.fetch_url(&url).await.unwrap(), "ok");
    let seen = elsewhere.requests.lock()[0].clone();
    assert!(seen.starts_with("GET /keys?x=1 HTTP/1.1\r\n") && !seen.contains("password"), "{seen}");
    assert!(seen.contains(&format!("host: {}\r\n", elsewhere.address)), "{seen}");
    assert!(matches!(client.fetch_url(&url).await, Err(DocumentError::Status(StatusCode::NOT_FOUND))));
    for url in ["", "/keys", "ftp://x/y", "keys"] {
        assert!(matches!(client.fetch_url(url).await, Err(DocumentError::Url)), "{url}");
    }
}

#[tokio::test]
async fn documents_of_upstream_come_as_everything_of_it_does() {
    let upstream = upstream(&[Act::Say(OK)]).await;
    let settings = ClientSettings { base_path: "/base".to_owned(), ..settings(upstream.address) };
    let client = client_of(settings, vec![upstream.address]);
    let url = format!("http://ABC.supabase.example:{}/base/auth/v1/jwks.json", upstream.address.port());
    assert_eq!(client.fetch_url(&url).await.unwrap(), "ok");
    assert!(upstream.requests.lock()[0].contains("GET /base/auth/v1/jwks.json HTTP/1.1\r\n"));
}

#[tokio::test]
async fn redirects_are_not_followed_and_large_documents_refused() {
    const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    const LARGE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n";
    let upstream = upstream(&[Act::Say(MOVED), Act::Say(LARGE)]).await;
    let client = client(upstream.address);
    let url = format!("http://{}/keys", upstream.address);
    assert!(matches!(client.fetch_url(&url).await, Err(DocumentError::Status(StatusCode::FOUND))));
    assert!(matches!(client.fetch_url(&url).await, Err(DocumentError::TooLarge)));
}

#[test]
fn unusable_settings_are_refused() {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let refused = |settings| Client::new(settings, resolver(Vec::new()), Trust::load(None).unwrap()).is_err();
    assert!(refused(ClientSettings { sni: "a b".to_owned(), ..settings(address) }));
    assert!(refused(ClientSettings { host: "a b".to_owned(), ..settings(address) }));
    assert!(refused(ClientSettings { host_header: "a\nb".to_owned(), ..settings(address) }));
    assert!(refused(ClientSettings { base_path: "base".to_owned(), ..settings(address) }));
    let six = ClientSettings { host: "[::1]".to_owned(), sni: "[::1]".to_owned(), ..settings(address) };
    assert!(!refused(six));
}

/// A TLS server for `abc.supabase.example`, vouched for by `tls/ca.pem`; it answers one connection.
fn tls_upstream() -> SocketAddr {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use std::io::{Read, Write};

    let certificate = CertificateDer::from_pem_slice(include_bytes!("../tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../tls/server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let connection = rustls::ServerConnection::new(Arc::new(config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, listener.accept().unwrap().0);
        // A client that refuses the certificate hangs up.
        if stream.read(&mut [0; 4096]).is_ok() {
            stream.write_all(OK.as_bytes()).unwrap();
            let _ = stream.read(&mut [0; 1]);
        }
    });
    address
}

#[tokio::test]
async fn upstreams_certificate_must_be_vouched_for_and_bear_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, include_str!("../tls/ca.pem")).unwrap();
    let extra = Trust::load(Some(&ca_file)).unwrap();
    let native = Trust::load(None).unwrap();
    for (trust, sni, accepted) in [
        (&extra, "abc.supabase.example", true),
        (&extra, "other.supabase.example", false),
        (&native, "abc.supabase.example", false),
    ] {
        let address = tls_upstream();
        let patient = Duration::from_secs(5);
        let settings = ClientSettings {
            tls: true,
            // The address is an internal one: the name counts.
            host: "10.0.0.1".to_owned(),
            sni: sni.to_owned(),
            connect_timeout: patient,
            response_timeout: patient,
            ..settings(address)
        };
        let client = Client::new(settings, resolver(vec![address]), trust.clone()).unwrap();
        match answer(&client).await {
            Ok(body) => assert!(accepted && body == "ok", "{sni}"),
            Err(error) => assert!(!accepted && error.to_string().contains("certificate"), "{error}"),
        }
    }
}
