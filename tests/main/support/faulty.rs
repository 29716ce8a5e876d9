//! An upstream that does as it is told: records what it gets, answers from a
//! script, holds, cuts off, or passes on to a real one.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use super::http::Connection;

/// What to do with a request.
#[derive(Clone)]
pub enum Act {
    /// Answer so.
    Answer(Answer),
    /// Pass it on to the real upstream.
    Pass,
    /// Wait for the gate before anything else.
    Hold(Gate, Box<Act>),
    /// Pass it on, keep the answer until the gate opens.
    PassThenHold(Gate),
    /// Pass it on and close the connection: applied, the answer lost.
    PassThenDrop,
    /// Close the connection without an answer.
    Drop,
    /// Send the answer's head and so many bytes of its body, then close.
    Truncate(Answer, usize),
    /// Count the body's bytes without keeping them and answer with the number.
    Count,
    /// Answer with so many bytes.
    Stream(u64),
    /// Switch protocols, then send back whatever comes.
    Echo,
}

/// A scripted answer.
#[derive(Clone)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    /// With this status and body; `Content-Length` is added.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// 200 with a JSON body.
    pub fn json(body: &str) -> Self {
        Self::new(200, body).header("Content-Type", "application/json; charset=utf-8")
    }

    /// With one more header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As an act.
    pub fn act(self) -> Act {
        Act::Answer(self)
    }

    fn head(&self, method: &str) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let framed = |name: &str| self.headers.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
        let bodiless = method == "HEAD" || matches!(self.status, 204 | 304);
        if !framed("transfer-encoding") && !framed("content-length") && !bodiless {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        head + "\r\n"
    }
}

/// Something to wait for; open gates stay open.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn wait(&self) {
        let open = self.0.0.lock().unwrap();
        let (open, _) = self.0.1.wait_timeout_while(open, super::PATIENCE, |open| !*open).unwrap();
        drop(open);
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    /// Names as sent and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body; empty where it was only counted.
    pub body: Vec<u8>,
}

impl Recorded {
    /// All values of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Whether `pattern` ("GET /path", or "/path" for any method, with a query
    /// where it matters) names this request.
    fn is(&self, pattern: &str) -> bool {
        let (method, target) = pattern.split_once(' ').unwrap_or(("", pattern));
        let own = if target.contains('?') { self.target.as_str() } else { self.path() };
        (method.is_empty() || method == self.method) && own == target
    }
}

#[derive(Default)]
struct State {
    once: Vec<(String, VecDeque<Act>)>,
    always: Vec<(String, Act)>,
    requests: Vec<Recorded>,
    connections: Vec<TcpStream>,
    stopping: bool,
}

/// The scriptable upstream.
pub struct Faulty {
    address: SocketAddr,
    real: Option<String>,
    state: Arc<Mutex<State>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl Faulty {
    /// One that answers 404 where no script says otherwise.
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// One that passes on to `url` where no script says otherwise.
    pub fn in_front_of(url: &str) -> Self {
        Self::listen(Some(url.trim_start_matches("http://").to_owned()))
    }

    fn listen(real: Option<String>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let faulty = Self { address, real, state: Arc::default(), listener: Mutex::default() };
        faulty.accept(socket);
        faulty
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next request of this pattern is treated so; several calls queue up.
    pub fn once(&self, pattern: &str, act: Act) -> &Self {
        let mut state = self.state.lock().unwrap();
        match state.once.iter_mut().find(|(known, _)| known == pattern) {
            Some((_, acts)) => acts.push_back(act),
            None => state.once.push((pattern.to_owned(), VecDeque::from([act]))),
        }
        self
    }

    /// Every request of this pattern is treated so, unless something is queued for it.
    pub fn always(&self, pattern: &str, act: Act) -> &Self {
        let mut state = self.state.lock().unwrap();
        state.always.retain(|(known, _)| known != pattern);
        state.always.push((pattern.to_owned(), act));
        self
    }

    /// What has arrived of this pattern.
    pub fn requests(&self, pattern: &str) -> Vec<Recorded> {
        self.state.lock().unwrap().requests.iter().filter(|request| request.is(pattern)).cloned().collect()
    }

    /// How many requests of this pattern have arrived.
    pub fn count(&self, pattern: &str) -> usize {
        self.state.lock().unwrap().requests.iter().filter(|request| request.is(pattern)).count()
    }

    /// How many connections have been opened.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections.len()
    }

    /// Waits until so many requests of this pattern have arrived.
    #[track_caller]
    pub fn wait_for(&self, pattern: &str, count: usize) {
        super::eventually(&format!("{count} × {pattern} arrive"), || self.count(pattern) >= count);
    }

    /// Refuses connections from now on and cuts the open ones.
    pub fn go_down(&self) {
        let Some(listener) = self.listener.lock().unwrap().take() else { return };
        self.state.lock().unwrap().stopping = true;
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        listener.join().unwrap();
        for connection in self.state.lock().unwrap().connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Listens again, at the same address.
    pub fn come_back(&self) {
        self.state.lock().unwrap().stopping = false;
        self.accept(TcpListener::bind(self.address).unwrap());
    }

    fn accept(&self, socket: TcpListener) {
        let (state, real) = (Arc::clone(&self.state), self.real.clone());
        let accepting = move || {
            for stream in socket.incoming().map_while(Result::ok) {
                let mut locked = state.lock().unwrap();
                if locked.stopping {
                    return;
                }
                locked.connections.push(stream.try_clone().unwrap());
                drop(locked);
                let server = Server { state: Arc::clone(&state), real: real.clone() };
                // A connection that breaks is the other side's affair.
                std::thread::spawn(move || server.serve(stream).ok());
            }
        };
        *self.listener.lock().unwrap() = Some(std::thread::spawn(accepting));
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.go_down();
    }
}

struct Server {
    state: Arc<Mutex<State>>,
    real: Option<String>,
}

impl Server {
    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = Incoming::new(stream.try_clone()?);
        let mut stream = stream;
        while let Some(mut request) = reader.head()? {
            let act = self.act_for(&request);
            if request.header("expect").is_some() {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            if matches!(act, Act::Count) {
                self.record(request.clone());
                let received = reader.count_body(&request)?;
                send(&mut stream, &request, &Answer::json(&format!(r#"{{"received":{received}}}"#)))?;
                continue;
            }
            request.body = reader.body(&request)?;
            self.record(request.clone());
            if !self.perform(act, &request, &mut stream)? {
                return stream.shutdown(Shutdown::Both);
            }
        }
        Ok(())
    }

    fn record(&self, request: Recorded) {
        self.state.lock().unwrap().requests.push(request);
    }

    fn act_for(&self, request: &Recorded) -> Act {
        let mut state = self.state.lock().unwrap();
        let queued = state.once.iter_mut().find(|(pattern, acts)| request.is(pattern) && !acts.is_empty());
        if let Some(act) = queued.and_then(|(_, acts)| acts.pop_front()) {
            return act;
        }
        let standing = state.always.iter().rfind(|(pattern, _)| request.is(pattern) || pattern == "*");
        match (standing, &self.real) {
            (Some((_, act)), _) => act.clone(),
            (None, Some(_)) => Act::Pass,
            (None, None) => Answer::new(404, r#"{"message":"nothing is scripted here"}"#).act(),
        }
    }

    /// Whether the connection stays.
    fn perform(&self, act: Act, request: &Recorded, stream: &mut TcpStream) -> io::Result<bool> {
        match act {
            Act::Answer(answer) => send(stream, request, &answer)?,
            Act::Pass => send(stream, request, &self.pass(request)?)?,
            Act::Hold(gate, act) => {
                gate.wait();
                return self.perform(*act, request, stream);
            }
            Act::PassThenHold(gate) => {
                let answer = self.pass(request)?;
                gate.wait();
                send(stream, request, &answer)?;
            }
            Act::PassThenDrop => {
                self.pass(request)?;
                return Ok(false);
            }
            Act::Drop => return Ok(false),
            Act::Truncate(answer, count) => {
                stream.write_all(answer.head(&request.method).as_bytes())?;
                stream.write_all(&answer.body[..count])?;
                return Ok(false);
            }
            Act::Count => unreachable!("counted while the body is read"),
            Act::Stream(size) => {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n")?;
                io::copy(&mut io::repeat(b'x').take(size), stream)?;
            }
            Act::Echo => {
                stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: scripted\r\n\r\n")?;
                io::copy(&mut stream.try_clone()?, stream)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn pass(&self, request: &Recorded) -> io::Result<Answer> {
        let real = self.real.as_deref().expect("there is a real upstream to pass on to");
        let mut connection = Connection::open(real)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
        for (name, value) in &request.headers {
            let framing = ["transfer-encoding", "content-length", "connection", "expect"];
            if !framing.contains(&name.to_ascii_lowercase().as_str()) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        head += &format!("Connection: close\r\nContent-Length: {}\r\n\r\n", request.body.len());
        connection.write(head.as_bytes())?;
        connection.write(&request.body)?;
        let response = connection.read(&request.method)?;
        let kept = |name: &str| !matches!(name, "transfer-encoding" | "connection");
        let headers = response.headers.into_iter().filter(|(name, _)| kept(&name.to_ascii_lowercase()));
        Ok(Answer { status: response.status, headers: headers.collect(), body: response.body })
    }
}

fn send(stream: &mut TcpStream, request: &Recorded, answer: &Answer) -> io::Result<()> {
    let mut bytes = answer.head(&request.method).into_bytes();
    if request.method != "HEAD" {
        bytes.extend(&answer.body);
    }
    stream.write_all(&bytes)
}

/// The requests of one connection.
struct Incoming {
    connection: Connection,
}

impl Incoming {
    fn new(stream: TcpStream) -> Self {
        // Connections of a pool may idle for longer than anybody waits for an answer.
        let connection = Connection::over(stream).expect("the socket takes options");
        connection.stream().set_read_timeout(None).expect("the socket takes options");
        Self { connection }
    }

    fn head(&mut self) -> io::Result<Option<Recorded>> {
        let Some(head) = self.connection.read_until_blank_line()? else { return Ok(None) };
        let mut headers = [httparse::EMPTY_HEADER; 512];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(&head).map_err(io::Error::other)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Some(Recorded {
            method: parsed.method.unwrap_or_default().to_owned(),
            target: parsed.path.unwrap_or_default().to_owned(),
            headers: parsed
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), text(header.value)))
                .collect(),
            body: Vec::new(),
        }))
    }

    fn body(&mut self, request: &Recorded) -> io::Result<Vec<u8>> {
        if request.header("transfer-encoding").is_some() {
            return self.connection.read_chunks();
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.connection.read_exact(length)
    }

    fn count_body(&mut self, request: &Recorded) -> io::Result<u64> {
        if request.header("transfer-encoding").is_some() {
            return self.connection.count_chunks();
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        self.connection.skip(length)?;
        Ok(length)
    }
}
