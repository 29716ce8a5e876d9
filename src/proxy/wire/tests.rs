use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::*;
use crate::proxy::front::socket::{Socket, SocketStream};

fn wire() -> (Wire, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    (Wire::new(Transport::plain(Socket::new(SocketStream::Unix(near), None))), far)
}

async fn fill(wire: &mut Wire) -> io::Result<usize> {
    std::future::poll_fn(|cx| wire.poll_fill(cx)).await
}

async fn wire_with(text: &[u8]) -> (Wire, UnixStream) {
    let (mut wire, mut far) = wire();
    far.write_all(text).await.unwrap();
    fill(&mut wire).await.unwrap();
    (wire, far)
}

#[tokio::test]
async fn a_message_ends_where_its_length_says() {
    let (mut wire, mut far) = wire_with(b"HEADbodyNEXT").await;
    wire.begin_message(4, Framing::Length(6));
    let mut body = [0; 6];
    wire.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"bodyNE");
    far.write_all(b"more").await.unwrap();
    let mut beyond = [0; 1];
    while wire.buffered().len() < 6 {
        let read = futures_util::poll!(std::pin::pin!(wire.read(&mut beyond)));
        assert!(read.is_pending(), "bytes of the next message are not the current one's");
        tokio::task::yield_now().await;
    }
    assert_eq!(wire.buffered(), b"XTmore");
}

#[tokio::test]
async fn a_body_may_come_in_pieces_larger_and_smaller_than_what_is_read() {
    let (mut wire, mut far) = wire_with(b"HEADab").await;
    wire.begin_message(4, Framing::Length(5));
    let mut piece = [0; 3];
    assert_eq!(wire.read(&mut piece).await.unwrap(), 2);
    far.write_all(b"cdeNEXT").await.unwrap();
    assert_eq!(wire.read(&mut piece[..2]).await.unwrap(), 2);
    assert_eq!(&piece[..2], b"cd");
    assert_eq!(wire.read(&mut piece).await.unwrap(), 1);
    assert_eq!(piece[0], b'e');
    assert!(futures_util::poll!(std::pin::pin!(wire.read(&mut piece))).is_pending());
    assert_eq!(wire.buffered(), b"NEXT");
}

#[tokio::test]
async fn a_chunked_message_ends_where_its_last_chunk_does() {
    let (mut wire, _far) = wire_with(b"HEAD2\r\nhi\r\n0\r\n\r\nNEXT").await;
    wire.begin_message(4, Framing::Chunked);
    let mut body = [0; 12];
    wire.read_exact(&mut body).await.unwrap();
    assert_eq!(&body, b"2\r\nhi\r\n0\r\n\r\n");
    assert!(futures_util::poll!(std::pin::pin!(wire.read(&mut body))).is_pending());
    assert_eq!(wire.buffered(), b"NEXT");
    let (mut wire, _far) = wire_with(b"HEADx\r\n").await;
    wire.begin_message(4, Framing::Chunked);
    assert_eq!(wire.read(&mut body).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn small_writes_leave_together_when_flushed() {
    let (mut wire, mut far) = wire();
    wire.write_all(b"head").await.unwrap();
    wire.write_all(b"body").await.unwrap();
    let mut seen = [0; 16];
    assert!(futures_util::poll!(std::pin::pin!(far.read(&mut seen))).is_pending(), "nothing was flushed");
    wire.flush().await.unwrap();
    assert_eq!(far.read(&mut seen).await.unwrap(), 8);
}

/// Writes of all sizes, through a socket that takes little at a time.
#[tokio::test]
async fn what_is_written_leaves_whole_and_in_order() {
    let (near, mut far) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&near, 4096).unwrap();
    let mut wire = Wire::new(Transport::plain(Socket::new(SocketStream::Unix(near), None)));
    let large = |byte: u8| vec![byte; 5 * GATHERED];
    let mut expected = b"head".to_vec();
    expected.extend(large(b'a'));
    expected.extend(b"5\r\npiece\r\nhead");
    expected.extend(large(b'b'));
    expected.extend(b"tail");
    let writing = tokio::spawn(async move {
        wire.write_all(b"head").await.unwrap();
        wire.write_all(&large(b'a')).await.unwrap();
        let pieces = [IoSlice::new(b"5\r\n"), IoSlice::new(b"piece"), IoSlice::new(b"\r\n")];
        assert_eq!(wire.write_vectored(&pieces).await.unwrap(), 10);
        wire.exchange(|_, out| out.extend_from_slice(b"head"));
        wire.attach(large(b'b').into());
        // Nothing overtakes the body.
        wire.write_all(b"tail").await.unwrap();
        AsyncWriteExt::shutdown(&mut wire).await.unwrap();
        assert!(!wire.has_unsent());
        wire.sent()
    });
    let mut all = Vec::new();
    far.read_to_end(&mut all).await.unwrap();
    assert!(all == expected, "{} bytes of {}", all.len(), expected.len());
    assert_eq!(writing.await.unwrap(), expected.len() as u64);
}

#[tokio::test]
async fn the_end_of_the_connection_is_seen_behind_a_message() {
    let (mut wire, far) = wire_with(b"HEAD").await;
    wire.begin_message(4, Framing::None);
    drop(far);
    assert_eq!(wire.read(&mut [0; 1]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_kept_for_the_next_message_is_bounded() {
    let (mut wire, mut far) = wire_with(b"HEAD").await;
    wire.begin_message(4, Framing::None);
    let flood = tokio::spawn(async move { far.write_all(&[b'x'; 16 * READ_AHEAD]).await });
    let mut byte = [0; 1];
    for _ in 0..200 {
        assert!(futures_util::poll!(std::pin::pin!(wire.read(&mut byte))).is_pending());
        tokio::task::yield_now().await;
    }
    flood.abort();
    assert!((READ_AHEAD..2 * READ_AHEAD).contains(&wire.buffered().len()), "{}", wire.buffered().len());
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffers() {
    let (mut wire, mut far) = wire_with(b"HEAD").await;
    wire.begin_message(4, Framing::None);
    wire.write_all(b"answer").await.unwrap();
    wire.flush().await.unwrap();
    let mut answer = [0; 6];
    far.read_exact(&mut answer).await.unwrap();
    assert!(futures_util::poll!(std::pin::pin!(wire.read(&mut [0; 1]))).is_pending());
    assert_eq!((wire.ahead.capacity(), wire.behind.capacity()), (0, 0));
}

#[tokio::test]
async fn a_connection_comes_back_as_it_was_handed_over() {
    let (wire, _far) = wire_with(b"NEXT").await;
    let stream: Stream = Box::new(wire);
    assert_eq!(Wire::reclaim(stream).unwrap().buffered(), b"NEXT");
    let (other, _) = tokio::io::duplex(1);
    assert!(Wire::reclaim(Box::new(other)).is_none());
}
