//! What tests of the front need: exact bytes over any kind of socket, answers
//! down to the status line, and the front's own count.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::http::{Connection, Request};
use super::sluice::Sluice;

/// The front's count of the answers that it gave itself.
const SERIES: &str = "sluice_front_hits_total";

/// An answer, compared with another one's by [`Answer::seen`].
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status line, without its end.
    pub line: String,
    /// Names as sent and values, in order.
    pub fields: Vec<(String, String)>,
    /// The body, chunks put together, not decompressed.
    pub body: Vec<u8>,
}

/// What two answers to requests that mean the same must agree in.
#[derive(Debug, PartialEq)]
pub struct Seen {
    line: String,
    fields: Vec<(String, String)>,
    /// Whether there is a `Date`, and an `Age`.
    dated: (bool, bool),
    body: String,
}

impl Seen {
    /// The fields alone.
    pub fn into_fields(self) -> Vec<(String, String)> {
        self.fields
    }
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    /// All values of a field, joined by commas.
    pub fn joined(&self, name: &str) -> String {
        let values = self.fields.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Whether it came from the cache.
    pub fn is_hit(&self) -> bool {
        self.joined("cache-status").split(", ").last().is_some_and(|own| own.starts_with("sluice; hit"))
    }

    /// Whether it says that the connection ends with it.
    pub fn closes(&self) -> bool {
        self.joined("connection").eq_ignore_ascii_case("close")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics unless this is the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status(), status, "{}\n{:?}", self.text(), self.fields);
        self
    }

    /// Panics unless it came from the cache.
    #[track_caller]
    pub fn expect_hit(self) -> Self {
        assert!(self.is_hit(), "a hit was expected: {} {:?}", self.line, self.fields);
        self
    }

    /// All of it but the values that the clock sets.
    pub fn seen(&self) -> Seen {
        let is = |field: &(String, String), name: &str| field.0.eq_ignore_ascii_case(name);
        let has = |name| self.fields.iter().any(|field| is(field, name));
        let mut fields = self.fields.clone();
        fields.retain(|field| !is(field, "date") && !is(field, "age"));
        for (name, value) in &mut fields {
            // Names have no case (RFC 9110, section 5.1).
            name.make_ascii_lowercase();
            if name == "cache-status" {
                *value = without_ttl(value);
            }
        }
        Seen {
            line: self.line.clone(),
            fields,
            dated: (has("date"), has("age")),
            body: String::from_utf8_lossy(&self.body).into_owned(),
        }
    }
}

/// A `Cache-Status` whose `ttl` has lost its number.
fn without_ttl(value: &str) -> String {
    let Some((before, after)) = value.split_once("ttl=") else { return value.to_owned() };
    format!("{before}ttl={}", after.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()))
}

/// The client's side of a connection over a stream of any kind.
pub struct Client<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl Client<TcpStream> {
    /// Connects to `address`; reads and writes take at most [`super::PATIENCE`].
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        Connection::over(stream.try_clone().unwrap()).expect("the socket takes options");
        Self::over(stream)
    }
}

impl<S: Read + Write> Client<S> {
    /// Speaks over `stream`.
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// Sends exactly these bytes.
    #[track_caller]
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends `request`, a GET, and waits for its answer.
    #[track_caller]
    pub fn get(&mut self, request: &Request) -> Answer {
        self.write(&request.encode());
        self.read("GET")
    }

    /// The next answer to a request with this method.
    #[track_caller]
    pub fn read(&mut self, method: &str) -> Answer {
        self.try_read(method).unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// As [`Client::read`], giving back what went wrong.
    pub fn try_read(&mut self, method: &str) -> io::Result<Answer> {
        let mut answer = self.read_head()?;
        let is_chunked = answer.joined("transfer-encoding").eq_ignore_ascii_case("chunked");
        let length = answer.joined("content-length");
        answer.body = if method == "HEAD" || matches!(answer.status(), 204 | 304) {
            Vec::new()
        } else if is_chunked {
            self.read_chunks()?
        } else if length.is_empty() {
            self.read_to_end()?
        } else {
            self.take(length.parse().map_err(io::Error::other)?)?
        };
        Ok(answer)
    }

    fn read_head(&mut self) -> io::Result<Answer> {
        let head = self.take_through(b"\r\n\r\n")?;
        let mut fields = [httparse::EMPTY_HEADER; 256];
        let mut parsed = httparse::Response::new(&mut fields);
        parsed.parse(&head).map_err(io::Error::other)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let fields = parsed.headers.iter().map(|field| (field.name.to_owned(), text(field.value)));
        Ok(Answer { line: text(line), fields: fields.collect(), body: Vec::new() })
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.take_through(b"\r\n")?;
            let size = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            body.extend(self.take(size)?);
            self.take(2)?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// Everything until the other side closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Panics unless the other side closes now, and sends nothing more before.
    #[track_caller]
    pub fn expect_end(mut self) {
        let rest = self.read_to_end().unwrap();
        assert!(rest.is_empty(), "more came: {}", String::from_utf8_lossy(&rest));
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "cut off"));
            }
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn take_through(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            if self.fill()? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before the answer's head"));
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

/// Asks until `request` is stored, known to the front by its spelling, and
/// answered from there; gives the last answer back.
#[track_caller]
pub fn indexed<S: Read + Write>(sluice: &Sluice, client: &mut Client<S>, request: &Request) -> Answer {
    client.get(request).expect(200);
    client.get(request).expect(200).expect_hit();
    let counted = FrontHits::from_now(sluice);
    let answer = client.get(request).expect(200).expect_hit();
    counted.expect(1, "a spelling that was a hit before");
    answer
}

/// The spelling of `request` that is never the front's, and means the same.
pub fn never_the_fronts(request: &Request) -> Request {
    request.clone().header("Connection", "keep-alive, x-none")
}

/// The answers that the front has given since a moment.
pub struct FrontHits<'a> {
    sluice: &'a Sluice,
    before: f64,
}

impl<'a> FrontHits<'a> {
    /// Counts from now.
    pub fn from_now(sluice: &'a Sluice) -> Self {
        Self { sluice, before: sluice.metric(SERIES) }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        (self.sluice.metric(SERIES) - self.before) as u64
    }

    /// Panics unless the front gave at least so many answers by now.
    #[track_caller]
    pub fn expect(&self, at_least: u64, what: &str) {
        // An answer may be on its way a moment before it is counted.
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.count() < at_least {
            let count = self.count();
            assert!(Instant::now() < deadline, "the front answered {count} times, not {at_least}: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
