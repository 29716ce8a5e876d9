//! A blocking Redis client: commands out, replies taken apart (RESP2).

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest wait for a reply; a server that is stopped gives none.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Deepest array in an array.
const MAX_DEPTH: usize = 8;

/// A connection to a server.
pub struct Redis {
    stream: BufReader<TcpStream>,
}

/// What a server answers. Errors are `Err`, they can't be mistaken for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing there.
    Nil,
    /// A number.
    Number(i64),
    /// Bytes, or a status such as `OK`.
    Bytes(Vec<u8>),
    /// Several.
    List(Vec<Reply>),
}

impl Redis {
    /// Connects to `host:port`.
    ///
    /// # Errors
    ///
    /// The reason, as text, where nobody listens there.
    pub fn open(address: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).map_err(|error| error.to_string())?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT)).map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Runs a command; panics where the server refuses it.
    #[track_caller]
    pub fn command(&mut self, words: &[&str]) -> Reply {
        self.try_command(words).unwrap_or_else(|error| panic!("redis: {words:?}: {error}"))
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// The server's error, or the connection's.
    pub fn try_command(&mut self, words: &[&str]) -> Result<Reply, String> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
        }
        self.stream.get_mut().write_all(&bytes).map_err(|error| error.to_string())?;
        self.reply(0)
    }

    /// The names of all keys that fit `pattern` (`*` for instance).
    #[track_caller]
    pub fn keys(&mut self, pattern: &str) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        let mut cursor = "0".to_owned();
        loop {
            let page = self.command(&["SCAN", &cursor, "MATCH", pattern, "COUNT", "1000"]).list();
            keys.extend(page[1].clone().list().into_iter().map(Reply::text));
            cursor = page[0].clone().text();
            if cursor == "0" {
                return keys;
            }
        }
    }

    /// A field of INFO, `role` for instance; empty if it isn't there.
    #[track_caller]
    pub fn info(&mut self, field: &str) -> String {
        field_of(&self.command(&["INFO", "everything"]).text(), field)
    }

    fn reply(&mut self, depth: usize) -> Result<Reply, String> {
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or("an empty reply")?;
        match kind {
            "+" => Ok(Reply::Bytes(rest.as_bytes().to_vec())),
            "-" => Err(rest.to_owned()),
            ":" => Ok(Reply::Number(number(rest)?)),
            "$" => match usize::try_from(number(rest)?) {
                Ok(length) => Ok(Reply::Bytes(self.bytes(length)?)),
                Err(_) => Ok(Reply::Nil),
            },
            "*" if depth < MAX_DEPTH => match usize::try_from(number(rest)?) {
                Ok(length) => {
                    (0..length).map(|_| self.reply(depth + 1)).collect::<Result<_, _>>().map(Reply::List)
                }
                Err(_) => Ok(Reply::Nil),
            },
            _ => Err(format!("no RESP2: {line:?}")),
        }
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).map_err(|error| error.to_string())?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| "the connection was closed".to_owned())
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; length + 2];
        self.stream.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl Reply {
    /// As text; empty where nothing is there.
    #[track_caller]
    pub fn text(self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Self::Number(number) => number.to_string(),
            Self::Nil => String::new(),
            Self::List(_) => panic!("a list is no text: {self:?}"),
        }
    }

    /// As a number.
    #[track_caller]
    pub fn number(self) -> i64 {
        match self {
            Self::Number(number) => number,
            other => other.text().parse().expect("the reply is a number"),
        }
    }

    /// As a list; empty where nothing is there.
    #[track_caller]
    pub fn list(self) -> Vec<Reply> {
        match self {
            Self::List(list) => list,
            Self::Nil => Vec::new(),
            other => panic!("no list: {other:?}"),
        }
    }
}

/// The value of a line `field:value`, as INFO and CLUSTER INFO have them.
pub fn field_of(text: &str, field: &str) -> String {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_default().to_owned()
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("no number: {text:?}"))
}
