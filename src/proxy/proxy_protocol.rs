//! The PROXY protocol, versions 1 and 2, as load balancers send it before the
//! first byte of a connection (HAProxy's specification, sections 2.1 and 2.2).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// What begins a header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, its line ending included.
const MAX_LINE: usize = 107;
/// Most bytes of addresses and extensions that are read of version 2.
const MAX_BLOCK: usize = 4096;

/// Reads the header, and not a byte more. `None` means that the balancer names
/// no client (a health check of its own, or an address family without addresses).
///
/// # Errors
///
/// `InvalidData` where the connection begins with anything else, and those of the connection.
pub async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return read_binary(stream).await;
    }
    if start.starts_with(b"PROXY ") {
        return read_line(stream, &start).await;
    }
    Err(malformed("the connection does not begin with a PROXY protocol header"))
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S, start: &[u8]) -> io::Result<Option<SocketAddr>> {
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == MAX_LINE {
            return Err(malformed("the PROXY line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = std::str::from_utf8(&line).map_err(|_| malformed("the PROXY line is no text"))?;
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", source, _, port, _] => {
            let address =
                source.parse::<IpAddr>().map_err(|_| malformed("the PROXY line names no address"))?;
            let port = port.parse().map_err(|_| malformed("the PROXY line names no port"))?;
            Ok(Some(SocketAddr::new(address, port)))
        }
        _ => Err(malformed("the PROXY line is malformed")),
    }
}

async fn read_binary<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<SocketAddr>> {
    let (version_and_command, family) = (stream.read_u8().await?, stream.read_u8().await?);
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_BLOCK {
        return Err(malformed("the PROXY header is too long"));
    }
    let mut block = vec![0; length];
    stream.read_exact(&mut block).await?;
    match version_and_command {
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(malformed("the PROXY header's version or command is unknown")),
    }
    match family {
        0x11 => ipv4(&block).map(Some).ok_or_else(|| malformed("the PROXY header's addresses are cut off")),
        0x21 => ipv6(&block).map(Some).ok_or_else(|| malformed("the PROXY header's addresses are cut off")),
        _ => Ok(None),
    }
}

/// Source address, destination address, source port, destination port.
fn ipv4(block: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 4] = block.get(..4)?.try_into().ok()?;
    let port: [u8; 2] = block.get(8..10)?.try_into().ok()?;
    Some(SocketAddr::new(Ipv4Addr::from(address).into(), u16::from_be_bytes(port)))
}

fn ipv6(block: &[u8]) -> Option<SocketAddr> {
    let address: [u8; 16] = block.get(..16)?.try_into().ok()?;
    let port: [u8; 2] = block.get(32..34)?.try_into().ok()?;
    Some(SocketAddr::new(Ipv6Addr::from(address).into(), u16::from_be_bytes(port)))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn parsed(bytes: &[u8]) -> (io::Result<Option<SocketAddr>>, Vec<u8>) {
        let mut stream = bytes;
        let result = read(&mut stream).await;
        (result, stream.to_vec())
    }

    #[tokio::test]
    async fn version_1_names_the_client() {
        let (client, rest) = parsed(b"PROXY TCP4 192.0.2.1 192.0.2.2 4321 80\r\nGET /").await;
        assert_eq!(client.unwrap(), Some("192.0.2.1:4321".parse().unwrap()));
        assert_eq!(rest, b"GET /");
        let (client, _) = parsed(b"PROXY TCP6 2001:db8::1 2001:db8::2 4321 80\r\n").await;
        assert_eq!(client.unwrap(), Some("[2001:db8::1]:4321".parse().unwrap()));
        let (client, rest) = parsed(b"PROXY UNKNOWN\r\nGET /").await;
        assert_eq!((client.unwrap(), &rest[..]), (None, &b"GET /"[..]));
    }

    #[tokio::test]
    async fn version_2_names_the_client() {
        let mut header = SIGNATURE.to_vec();
        header.extend([0x21, 0x11, 0, 12, 192, 0, 2, 1, 192, 0, 2, 2, 0x10, 0xe1, 0, 80]);
        header.extend(b"GET /");
        let (client, rest) = parsed(&header).await;
        assert_eq!(client.unwrap(), Some("192.0.2.1:4321".parse().unwrap()));
        assert_eq!(rest, b"GET /");
        let mut local = SIGNATURE.to_vec();
        local.extend([0x20, 0, 0, 0]);
        assert_eq!(parsed(&local).await.0.unwrap(), None);
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let mut short = SIGNATURE.to_vec();
        short.extend([0x21, 0x11, 0, 3, 1, 2, 3]);
        let long = [b"PROXY ".as_slice(), &[b'x'; 200]].concat();
        for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PROXY TCP4 x y 1 2\r\n", b"PROXY", &short, &long] {
            assert!(parsed(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
