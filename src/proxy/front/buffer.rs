//! The memory that bytes of a connection pass through.
//!
//! A connection has something to read or to write for an instant at a time
//! and is idle for the rest, so it owns no memory then: it takes a buffer from
//! those that the thread keeps, and gives it back once it is used up.

use std::cell::RefCell;

/// The least size of a buffer: most requests, and small answers, fit.
const SIZE: usize = 8 * 1024;
/// Buffers that have grown larger are not kept.
const LARGEST_KEPT: usize = 2 * SIZE;
/// Buffers that a thread keeps.
const KEPT: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that are added at the end and used up from the start.
#[derive(Debug, Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    used: usize,
}

impl Buffer {
    /// What is left to be used up.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    /// Whether everything is used up.
    pub fn is_empty(&self) -> bool {
        self.used == self.bytes.len()
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Bytes of memory that it owns.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where to add bytes, with room for `least` more of them. Nothing that is there may be
    /// changed. Whoever adds nothing calls [`Buffer::settle`] afterwards.
    pub fn room(&mut self, least: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() == 0 {
            self.bytes = SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(SIZE));
        }
        if self.used > 0 && self.bytes.capacity() - self.bytes.len() < least {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.reserve(least);
        &mut self.bytes
    }

    /// Uses up the first `count` bytes, or all there are.
    pub fn advance(&mut self, count: usize) {
        self.used += count.min(self.len());
        self.settle();
    }

    /// Gives the memory back if there is nothing in it.
    pub fn settle(&mut self) {
        if !self.is_empty() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        self.used = 0;
        if (1..=LARGEST_KEPT).contains(&bytes.capacity()) {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < KEPT {
                    bytes.clear();
                    spare.push(bytes);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut buffer = Buffer::default();
        buffer.room(3).extend_from_slice(b"abc");
        buffer.advance(2);
        buffer.room(2).extend_from_slice(b"de");
        assert_eq!((buffer.bytes(), buffer.len()), (&b"cde"[..], 3));
        // There is no room left, so what is used up makes room.
        let much = buffer.capacity();
        buffer.room(much).extend_from_slice(b"f");
        assert_eq!((buffer.bytes(), buffer.used), (&b"cdef"[..], 0));
        buffer.advance(100);
        assert!(buffer.is_empty());
    }

    #[test]
    fn an_empty_buffer_owns_no_memory() {
        let mut buffer = Buffer::default();
        for size in [10, LARGEST_KEPT + 1] {
            buffer.room(size).resize(size, b'x');
            buffer.advance(size);
            assert_eq!(buffer.capacity(), 0, "{size}");
        }
        buffer.room(1);
        buffer.settle();
        assert_eq!(buffer.capacity(), 0, "nothing was added");
        assert!(SPARE.with_borrow(|spare| spare.iter().all(|bytes| bytes.capacity() <= LARGEST_KEPT)));
    }

    #[test]
    fn few_buffers_are_kept() {
        let mut buffers: Vec<Buffer> = (0..2 * KEPT).map(|_| Buffer::default()).collect();
        for buffer in &mut buffers {
            buffer.room(1).push(b'x');
        }
        for buffer in &mut buffers {
            buffer.advance(1);
        }
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        let mut buffer = Buffer::default();
        assert!(buffer.room(1).is_empty(), "what another connection sent is gone");
    }
}
