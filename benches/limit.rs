//! The least that an HTTP/1.1 server does for a cached answer: read, parse the head, look the target up,
//! write stored bytes. `make bench` holds Sluice's hits against it.
//!
//! `limit ADDRESS TARGET FILE` serves until it is killed: FILE's bytes, head and body, for TARGET and a 404
//! for all else. One thread. It keeps no deadlines, checks no token and knows no freshness.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// As many fields as Sluice reads of a head.
const MAX_FIELDS: usize = 128;
const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// Stored answers, head and body, by request target.
type Answers = HashMap<String, Bytes>;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, target, file] = arguments.as_slice() else {
        // `cargo bench` starts it like this.
        println!("limit ADDRESS TARGET FILE serves FILE for TARGET; `make bench` uses it");
        return Ok(());
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let answers = Arc::new(Answers::from([(target.clone(), Bytes::from(std::fs::read(file)?))]));
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(serve(address, answers))
}

async fn serve(address: SocketAddr, answers: Arc<Answers>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = answers.clone();
        tokio::spawn(async move {
            // A client that went away is no failure.
            let _ = connection(stream, &answers).await;
        });
    }
}

/// Answers requests without a body until the client closes or sends what is no HTTP.
async fn connection(mut stream: TcpStream, answers: &Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    loop {
        let found = head(&buffer, answers)?;
        match found {
            Some((length, answer)) => {
                stream.write_all(answer).await?;
                buffer.advance(length);
            }
            None => {
                buffer.reserve(1024);
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The length of the head at the start of `buffer`, once it is complete, and what answers it.
fn head<'a>(buffer: &[u8], answers: &'a Answers) -> io::Result<Option<(usize, &'a [u8])>> {
    if buffer.is_empty() {
        return Ok(None);
    }
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut []);
    let status = request.parse_with_uninit_headers(buffer, &mut fields).map_err(io::Error::other)?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let answer = request.path.and_then(|target| answers.get(target));
    Ok(Some((length, answer.map_or(NOT_FOUND, Bytes::as_ref))))
}
