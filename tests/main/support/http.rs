//! Raw HTTP/1.1: exact bytes out, the answer taken apart.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

/// A request in the making.
#[derive(Clone)]
pub struct Request {
    address: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request for `target` (path and query) to `address` (`host:port`).
    pub fn new(address: &str, method: &str, target: &str) -> Self {
        let (address, method, target) = (address.to_owned(), method.to_owned(), target.to_owned());
        Self { address, method, target, headers: Vec::new(), body: None }
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With an `apikey` header.
    pub fn apikey(self, key: impl Into<String>) -> Self {
        self.header("apikey", key)
    }

    /// With a bearer token.
    pub fn bearer(self, token: impl std::fmt::Display) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    /// As supabase-js sends it for a signed-in user: the anon key and his token.
    pub fn signed_in(self, token: impl std::fmt::Display) -> Self {
        self.apikey(super::token::anon_key()).bearer(token)
    }

    /// As supabase-js sends it for nobody: the anon key, twice.
    pub fn anonymous(self) -> Self {
        self.signed_in(super::token::anon_key())
    }

    /// With a body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With a JSON body.
    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    /// The bytes that go over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Sends it over a connection of its own and waits for the whole answer.
    #[track_caller]
    pub fn send(&self) -> Response {
        match self.try_send() {
            Ok(response) => response,
            Err(error) => panic!("{} {}: {error}", self.method, self.target),
        }
    }

    /// As [`Request::send`], giving back what went wrong.
    pub fn try_send(&self) -> io::Result<Response> {
        let mut connection = Connection::open(&self.address)?;
        connection.write(&self.encode())?;
        connection.read(&self.method)
    }

    /// Sends it over a connection that stays.
    #[track_caller]
    pub fn send_over(&self, connection: &mut Connection) -> Response {
        self.try_send_over(connection).unwrap()
    }

    /// As [`Request::send_over`], giving back what went wrong.
    pub fn try_send_over(&self, connection: &mut Connection) -> io::Result<Response> {
        connection.write(&self.encode())?;
        connection.read(&self.method)
    }

    /// Where it goes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Writes it and gives the connection back; the answer is read later.
    #[track_caller]
    pub fn begin(&self) -> Pending {
        let mut connection = Connection::open(&self.address).unwrap();
        connection.write(&self.encode()).unwrap();
        Pending { connection, method: self.method.clone() }
    }
}

/// A request whose answer has not been read.
pub struct Pending {
    connection: Connection,
    method: String,
}

impl Pending {
    /// Waits for the answer.
    #[track_caller]
    pub fn finish(mut self) -> Response {
        self.connection.read(&self.method).unwrap()
    }
}

/// A connection, kept alive between requests.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `address`.
    pub fn open(address: &str) -> io::Result<Self> {
        Self::over(TcpStream::connect(address)?)
    }

    /// Reads and writes over `stream`, each for at most [`super::PATIENCE`].
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(super::PATIENCE))?;
        stream.set_write_timeout(Some(super::PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The socket.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends exactly these bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next answer, interim ones skipped, `method` saying whether it has a body.
    ///
    /// # Errors
    ///
    /// Also where the answer is cut off or is no HTTP.
    pub fn read(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let mut response = self.read_head()?;
            if response.status / 100 == 1 && response.status != 101 {
                continue;
            }
            response.body = self.read_body(&response, method)?;
            return Ok(response);
        }
    }

    /// The next head, an interim answer's too, without its body.
    pub fn read_head(&mut self) -> io::Result<Response> {
        match self.read_until_blank_line()? {
            Some(head) => Response::parse(&head),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer's head")),
        }
    }

    /// The bytes of the next head; `None` where the other side has closed instead.
    pub fn read_until_blank_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(self.buffer.drain(..end + 4).collect()));
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Exactly so many bytes.
    pub fn read_exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// Reads and forgets so many bytes.
    pub fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            if self.buffer.is_empty() && self.fill()? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!("{count} bytes are missing"),
                ));
            }
            let taken = self.buffer.len().min(usize::try_from(count).unwrap_or(usize::MAX));
            self.buffer.drain(..taken);
            count -= taken as u64;
        }
        Ok(())
    }

    /// Everything until the other side closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn read_body(&mut self, response: &Response, method: &str) -> io::Result<Vec<u8>> {
        if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
            return Ok(Vec::new());
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks();
        }
        match response.header("content-length") {
            Some(length) => self.read_exact(length.parse().map_err(io::Error::other)?),
            None => self.read_to_end(),
        }
    }

    /// A chunked body, trailers read and forgotten.
    pub fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.read_line()?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.read_exact(size)?);
            self.read_exact(2)?;
        }
    }

    /// The size of a chunked body that isn't kept.
    pub fn count_chunks(&mut self) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let size = u64::from_str_radix(self.read_line()?.trim(), 16).map_err(io::Error::other)?;
            if size == 0 {
                self.read_line()?;
                return Ok(total);
            }
            self.skip(size + 2)?;
            total += size;
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 65_536];
        let count = self.stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names as sent and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body, chunks put together, not decompressed.
    pub body: Vec<u8>,
}

impl Response {
    fn parse(head: &[u8]) -> io::Result<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Response::new(&mut headers);
        parsed.parse(head).map_err(io::Error::other)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers =
            parsed.headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect();
        Ok(Self { status: parsed.code.unwrap_or_default(), headers, body: Vec::new() })
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// All values of a header, joined by commas.
    pub fn joined(&self, name: &str) -> String {
        let values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether the connection ends with this answer: it says so, or its body has no other end.
    pub fn closes(&self) -> bool {
        let framed = self.header("content-length").or(self.header("transfer-encoding")).is_some();
        let bodiless = self.body.is_empty() || self.status == 204 || self.status == 304;
        self.joined("connection").eq_ignore_ascii_case("close") || !(framed || bodiless)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }

    /// What Sluice says it did: its member of `Cache-Status`, the last one.
    pub fn cache_status(&self) -> String {
        let joined = self.joined("cache-status");
        joined.split(", ").last().unwrap_or_default().to_owned()
    }

    /// Panics unless this is the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{:?}", self.text(), self.headers);
        self
    }

    /// Whether it came from the cache, fresh or stale.
    pub fn is_hit(&self) -> bool {
        self.cache_status().starts_with("sluice; hit")
    }

    /// Panics unless it came from the cache.
    #[track_caller]
    pub fn expect_hit(self) -> Self {
        assert!(
            self.is_hit(),
            "a hit was expected, not {:?}: {} {}",
            self.cache_status(),
            self.status,
            self.text()
        );
        self
    }

    /// Panics unless it was fetched and stored.
    #[track_caller]
    pub fn expect_stored(self) -> Self {
        let expected = "sluice; fwd=uri-miss; stored";
        assert_eq!(self.cache_status(), expected, "{} {}", self.status, self.text());
        self
    }

    /// Panics if it came from the cache, or if Sluice didn't say what it did.
    #[track_caller]
    pub fn expect_no_hit(self) -> Self {
        let status = self.cache_status();
        assert!(status.starts_with("sluice; fwd="), "no hit was expected: {status:?}, {}", self.text());
        self
    }

    /// Panics unless the cache was bypassed for a reason that contains `detail`.
    #[track_caller]
    pub fn expect_bypass(self, detail: &str) -> Self {
        let status = self.cache_status();
        let bypassed = status.starts_with("sluice; fwd=bypass") && status.contains(detail);
        assert!(bypassed, "a bypass ({detail}) was expected, not {status:?}: {}", self.text());
        self
    }
}
