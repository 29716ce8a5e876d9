//! Where a chunked body ends (RFC 9112, section 7.1), read strictly.
//!
//! What is lax here is how requests are smuggled past a stricter neighbour:
//! sizes are hexadecimal digits, lines end in CRLF, nothing else does.

/// The longest chunk-size line, extensions included, and the longest trailer section.
const MAX_LINE: usize = 16 * 1024;

/// Follows a chunked body byte by byte.
#[derive(Debug, Clone, Copy)]
pub struct ChunkScanner {
    state: State,
    /// Bytes of the current line, or of all trailers.
    line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a chunk's size, of which so many digits were read.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size, up to the CR.
    Extension {
        size: u64,
    },
    /// The LF of a size line is due.
    SizeEnd {
        size: u64,
    },
    /// So many bytes of a chunk are left.
    Data {
        left: u64,
    },
    /// The CR behind a chunk is due.
    DataEnd,
    /// The LF behind a chunk is due.
    DataEndLf,
    /// At the start of a trailer line, or of the line that ends the body.
    LineStart,
    /// Within a trailer line.
    Trailer,
    /// The LF of a trailer line is due.
    TrailerEnd,
    /// The last LF is due.
    LastLf,
    Done,
}

/// The bytes are no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("The chunked body is malformed")]
pub struct MalformedChunk;

impl Default for ChunkScanner {
    fn default() -> Self {
        Self { state: State::Size { size: 0, digits: 0 }, line: 0 }
    }
}

impl ChunkScanner {
    /// Whether the body is over.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// How many of `bytes`, which follow those seen before, belong to the body.
    ///
    /// # Errors
    ///
    /// [`MalformedChunk`] where they are no continuation of one.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<usize, MalformedChunk> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            if let State::Data { left } = self.state {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += taken;
                let left = left - taken as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data { left } };
            } else {
                self.step(bytes[at])?;
                at += 1;
            }
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<(), MalformedChunk> {
        self.line += 1;
        if self.line > MAX_LINE {
            return Err(MalformedChunk);
        }
        self.state = match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = char::from(byte).to_digit(16).ok_or(MalformedChunk)?;
                State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { size, digits: 1.. }, b'\r') | (State::Extension { size }, b'\r') => {
                State::SizeEnd { size }
            }
            (State::Size { size, digits: 1.. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Extension { size }, byte) if is_text(byte) => State::Extension { size },
            (State::SizeEnd { size: 0 }, b'\n') => self.next_line(State::LineStart),
            (State::SizeEnd { size }, b'\n') => self.next_line(State::Data { left: size }),
            (State::DataEnd, b'\r') => State::DataEndLf,
            (State::DataEndLf, b'\n') => self.next_line(State::Size { size: 0, digits: 0 }),
            (State::LineStart, b'\r') => State::LastLf,
            (State::LineStart | State::Trailer, byte) if is_text(byte) => State::Trailer,
            (State::Trailer, b'\r') => State::TrailerEnd,
            (State::TrailerEnd, b'\n') => State::LineStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(MalformedChunk),
        };
        Ok(())
    }

    fn next_line(&mut self, state: State) -> State {
        self.line = 0;
        state
    }
}

/// Visible characters, white space within a line, and what lies beyond ASCII.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How much of `bytes` is a body, fed in pieces of `step` bytes; `None`: it isn't over.
    fn body(bytes: &[u8], step: usize) -> Result<Option<usize>, MalformedChunk> {
        let mut scanner = ChunkScanner::default();
        let mut seen = 0;
        for piece in bytes.chunks(step) {
            seen += scanner.scan(piece)?;
            if scanner.is_done() {
                return Ok(Some(seen));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_body_ends_behind_its_last_line() {
        for text in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=\"b\"\r\nhello\r\nA\r\n0123456789\r\n00\r\n\r\n",
            "1\r\nx\r\n0\r\nTrailer: 1\r\nOther: 2\r\n\r\n",
        ] {
            let followed = format!("{text}GET / HTTP/1.1\r\n");
            for step in [1, 3, 1000] {
                assert_eq!(body(followed.as_bytes(), step), Ok(Some(text.len())), "{text:?} by {step}");
            }
            assert_eq!(body(&text.as_bytes()[..text.len() - 1], 7), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn what_is_read_in_two_ways_is_malformed() {
        for text in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "0x1\r\n",
            "1\nx",
            "1;a\nb\r\nx",
            "1;a\rb\r\nx",
            "1\r\nxy\r\n",
            "1\r\nx\n",
            "0\r\n\n",
            "0\r\na\nb\r\n\r\n",
            "00000000000000001\r\nx",
            " 1\r\nx",
        ] {
            assert_eq!(body(text.as_bytes(), 1), Err(MalformedChunk), "{text:?}");
        }
        let endless = format!("1;{}", "a".repeat(MAX_LINE));
        assert_eq!(body(endless.as_bytes(), 100), Err(MalformedChunk));
    }
}
