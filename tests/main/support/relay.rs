//! A network that can be cut, hung and slowed: a TCP proxy between two others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::process::steady_port;

/// Chunks on their way in one direction before the sender has to wait.
const IN_FLIGHT: usize = 64;

/// The proxy. It ends, and cuts what runs over it, when dropped.
pub struct Relay {
    address: SocketAddr,
    target: String,
    line: Arc<Line>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Line {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    flow: Flow,
    delay: Duration,
    sockets: Vec<TcpStream>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Flow {
    #[default]
    Open,
    Hung,
    Cut,
}

impl Relay {
    /// Passes everything on to `target` (`host:port`).
    #[track_caller]
    pub fn start(target: &str) -> Self {
        let listening = (0..5).find_map(|_| TcpListener::bind(("127.0.0.1", steady_port())).ok());
        let socket = listening.expect("a port is free");
        let address = socket.local_addr().unwrap();
        let relay =
            Self { address, target: target.to_owned(), line: Arc::default(), listener: Mutex::default() };
        relay.accept(socket);
        relay
    }

    /// Its `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Closes all connections and refuses new ones.
    pub fn cut(&self) {
        let Some(listener) = self.listener.lock().unwrap().take() else { return };
        self.set(Flow::Cut);
        // Wakes the accepting thread.
        let _ = TcpStream::connect(self.address);
        listener.join().unwrap();
        for socket in self.line.state.lock().unwrap().sockets.drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Connections stay and can be made, but no byte comes through, not even a close.
    pub fn hang(&self) {
        self.set(Flow::Hung);
    }

    /// Each byte takes so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.line.state.lock().unwrap().delay = delay;
    }

    /// Passes everything on again, without delay; what was held up comes first.
    #[track_caller]
    pub fn resume(&self) {
        self.line.state.lock().unwrap().delay = Duration::ZERO;
        self.set(Flow::Open);
        if self.listener.lock().unwrap().is_none() {
            let mut socket = None;
            super::eventually("the relay listens again", || {
                socket = TcpListener::bind(self.address).ok();
                socket.is_some()
            });
            self.accept(socket.expect("it listens"));
        }
    }

    fn set(&self, flow: Flow) {
        self.line.state.lock().unwrap().flow = flow;
        self.line.changed.notify_all();
    }

    fn accept(&self, socket: TcpListener) {
        let (line, target) = (Arc::clone(&self.line), self.target.clone());
        let accepting = move || {
            for near in socket.incoming().map_while(Result::ok) {
                if line.state.lock().unwrap().flow == Flow::Cut {
                    return;
                }
                // Where nobody listens at the target, dropping the socket closes it.
                if let Ok(far) = TcpStream::connect(&target) {
                    line.join(&near, &far).unwrap();
                }
            }
        };
        *self.listener.lock().unwrap() = Some(std::thread::spawn(accepting));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.cut();
    }
}

impl Line {
    /// Passes bytes between two sockets, both ways, until one of them ends.
    fn join(self: &Arc<Self>, near: &TcpStream, far: &TcpStream) -> std::io::Result<()> {
        for (from, to) in [(near, far), (far, near)] {
            to.set_nodelay(true)?;
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (chunks, arrived) = sync_channel(IN_FLIGHT);
            self.state.lock().unwrap().sockets.push(from.try_clone()?);
            std::thread::spawn(move || read_all(from, &chunks));
            let line = Arc::clone(self);
            std::thread::spawn(move || line.write_all(to, &arrived));
        }
        Ok(())
    }

    fn write_all(&self, mut to: TcpStream, arrived: &Receiver<(Instant, Vec<u8>)>) {
        for (at, chunk) in arrived {
            let due = at + self.state.lock().unwrap().delay;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if !self.is_open() || to.write_all(&chunk).is_err() {
                break;
            }
        }
        // The end comes through like everything else.
        self.is_open();
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits while the line hangs; whether bytes may pass then.
    fn is_open(&self) -> bool {
        let state = self.state.lock().unwrap();
        let state = self.changed.wait_while(state, |state| state.flow == Flow::Hung).unwrap();
        state.flow == Flow::Open
    }
}

fn read_all(mut from: TcpStream, chunks: &SyncSender<(Instant, Vec<u8>)>) {
    let mut buffer = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if chunks.send((Instant::now(), buffer[..count].to_vec())).is_err() {
            break;
        }
    }
}
