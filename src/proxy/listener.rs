//! Listening sockets: TCP addresses, unix sockets and inherited descriptors.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::front::socket::{Socket, SocketStream};
use super::proxy_protocol;
use crate::config::ListenAddress;

/// Connections that the kernel completes before they are accepted.
const BACKLOG: u32 = 4096;

/// A socket that accepts connections.
#[derive(Debug)]
pub enum Listener {
    /// An IP address and port.
    Tcp(TcpListener),
    /// A path; the file, if Sluice made it, is removed with the listener.
    Unix(UnixListener, Option<SocketFile>),
}

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("Can't listen on {address}: {source}. {remedy}")]
pub struct BindError {
    address: String,
    remedy: &'static str,
    source: io::Error,
}

impl Listener {
    /// Binds `address`, or takes over the descriptor that it names.
    ///
    /// # Errors
    ///
    /// [`BindError`], with the address and a remedy.
    pub fn bind(address: &ListenAddress) -> Result<Self, BindError> {
        let bound = match address {
            ListenAddress::Tcp(address) => bind_tcp(*address),
            ListenAddress::Unix(path) => bind_unix(path),
            ListenAddress::Fd(number) => inherit(*number),
        };
        bound.map_err(|source| BindError { address: address.to_string(), remedy: remedy(&source), source })
    }

    /// The address that clients connect to, with the port that was really bound.
    pub fn address(&self) -> String {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map_or_else(|_| "?".into(), |a| a.to_string()),
            Listener::Unix(_, Some(file)) => format!("unix:{}", file.0.display()),
            Listener::Unix(_, None) => "unix".into(),
        }
    }

    /// Waits for the next connection.
    ///
    /// # Errors
    ///
    /// Those of `accept(2)`.
    pub async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted { stream: SocketStream::Tcp(stream), peer: Some(peer) })
            }
            Listener::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok(Accepted { stream: SocketStream::Unix(stream), peer: None })
            }
        }
    }
}

/// A connection that was just accepted.
#[derive(Debug)]
pub struct Accepted {
    stream: SocketStream,
    peer: Option<SocketAddr>,
}

impl Accepted {
    /// Makes it a socket for Pingora, whose digest tells the client's address.
    /// With `proxy_protocol` that address is the one that the balancer names.
    ///
    /// # Errors
    ///
    /// Those of the connection, and a PROXY header that is missing or malformed.
    pub async fn into_socket(mut self, proxy_protocol: bool) -> io::Result<Socket> {
        let named = match &mut self.stream {
            SocketStream::Tcp(stream) if proxy_protocol => proxy_protocol::read(stream).await?,
            SocketStream::Unix(stream) if proxy_protocol => proxy_protocol::read(stream).await?,
            SocketStream::Tcp(_) | SocketStream::Unix(_) => None,
        };
        Ok(Socket::new(self.stream, named.or(self.peer)))
    }
}

/// The file of a unix socket, removed when its listener goes.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already; there is nobody left to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG).map(Listener::Tcp)
}

fn bind_unix(path: &Path) -> io::Result<Listener> {
    // A file that nobody answers on was left behind by a process that was killed.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    from_unix(listener, Some(SocketFile(path.to_owned())))
}

/// Takes a duplicate of a descriptor that the parent process left open.
fn inherit(number: i32) -> io::Result<Listener> {
    let this_process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let descriptor: OwnedFd = pidfd_getfd(&this_process, number, PidfdGetfdFlags::empty())?;
    let address = rustix::net::getsockname(&descriptor)?;
    if address.address_family() == rustix::net::AddressFamily::UNIX {
        from_unix(descriptor.into(), None)
    } else {
        let listener = std::net::TcpListener::from(descriptor);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener).map(Listener::Tcp)
    }
}

fn from_unix(listener: std::os::unix::net::UnixListener, file: Option<SocketFile>) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(UnixListener::from_std(listener)?, file))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Stop the process that listens there, or choose another address.",
        io::ErrorKind::PermissionDenied => {
            "Ports below 1024 need the right to bind them; choose another one."
        }
        io::ErrorKind::AddrNotAvailable => "This machine has no such address.",
        _ => "Check `listen` and `admin_listen`.",
    }
}
