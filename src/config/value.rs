//! Values inside strings: durations, sizes, secrets and `${…}`.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::Duration;

/// A text that is never shown. Comparing two takes the same time wherever they differ.
#[derive(Clone, Eq)]
pub struct Secret(String);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        blake3::hash(self.0.as_bytes()) == blake3::hash(other.0.as_bytes())
    }
}

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Where `${NAME}` and `${file:/path}` are looked up.
pub trait Environment {
    /// The value of an environment variable, `None` where it isn't set or isn't UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// The first line of a file without its end.
    ///
    /// # Errors
    ///
    /// Whatever reading it says.
    fn first_line(&self, path: &Path) -> io::Result<String>;
}

/// The environment and the file system of this process.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

/// No secret is longer.
const MAX_LINE: u64 = 64 * 1024;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn first_line(&self, path: &Path) -> io::Result<String> {
        let mut line = String::new();
        BufReader::new(File::open(path)?.take(MAX_LINE)).read_line(&mut line)?;
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        Ok(line)
    }
}

/// A string of the file after `${…}` was looked up.
pub(super) struct Interpolated {
    pub(super) text: String,
    /// Whether anything was looked up: such a text is never shown.
    pub(super) looked_up: bool,
}

/// Why a `${…}` has no value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InterpolationError {
    #[error("`${{` is not closed")]
    Unclosed,
    #[error("`${{{0}}}` is not the name of an environment variable")]
    Name(String),
    #[error("the environment variable `{0}` is not set")]
    Unset(String),
    #[error("the file {0} can't be read: {1}")]
    Unreadable(String, String),
}

impl InterpolationError {
    pub(super) fn remedy(&self) -> String {
        match self {
            Self::Unclosed => "write `$${` for a literal `${`".into(),
            Self::Name(_) => "write `${NAME}`, `${file:/path}`, or `$${` for a literal `${`".into(),
            Self::Unset(name) => {
                format!("set `{name}` where Sluice is started, or write `$${{` for a literal `${{`")
            }
            Self::Unreadable(..) => "make the file readable for the user that Sluice runs as".into(),
        }
    }
}

/// Replaces `${NAME}` by an environment variable, `${file:/path}` by the file's
/// first line and `$${` by `${`. What was put in is not looked at again.
pub(super) fn interpolate(
    raw: &str,
    environment: &dyn Environment,
) -> Result<Interpolated, InterpolationError> {
    let mut done = Interpolated { text: String::with_capacity(raw.len()), looked_up: false };
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, expression) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            done.text.push_str(before);
            done.text.push_str("${");
            rest = expression;
            continue;
        }
        let (name, after) = expression.split_once('}').ok_or(InterpolationError::Unclosed)?;
        done.text.push_str(before);
        done.text.push_str(&look_up(name, environment)?);
        done.looked_up = true;
        rest = after;
    }
    done.text.push_str(rest);
    Ok(done)
}

fn look_up(name: &str, environment: &dyn Environment) -> Result<String, InterpolationError> {
    if let Some(path) = name.strip_prefix("file:") {
        let unreadable = |error: io::Error| InterpolationError::Unreadable(path.into(), reason(&error));
        return environment.first_line(Path::new(path)).map_err(unreadable);
    }
    let of_a_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if name.is_empty() || !name.bytes().all(of_a_name) || name.as_bytes()[0].is_ascii_digit() {
        return Err(InterpolationError::Name(name.into()));
    }
    environment.variable(name).ok_or_else(|| InterpolationError::Unset(name.into()))
}

/// The reason without the platform's own wording and number.
pub(super) fn reason(error: &io::Error) -> String {
    error.kind().to_string()
}

/// The longest duration, ten years: sums with it stay far from overflow.
const MAX_DURATION_MS: u64 = 3650 * 24 * 60 * 60 * 1000;

/// The forms of a duration, for errors.
pub(super) const DURATION_FORMS: &str = "a whole number with a unit of ms, s, m, h or d, such as \"200ms\", \"30s\", \"5m\" or \"0s\", up to \"3650d\"";

/// Reads `200ms`, `30s`, `5m`, `2h` or `1d`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split_number(text)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return None,
    };
    let total = number.checked_mul(milliseconds)?;
    (total <= MAX_DURATION_MS).then(|| Duration::from_millis(total))
}

/// The forms of a size, for errors.
pub(super) const SIZE_FORMS: &str = "a whole number of bytes, or one with a unit of KiB, MiB, GiB, TiB, KB, MB, GB or TB, such as \"64KiB\", \"256MiB\" or \"0\"";

/// Reads `1024` (bytes), `64KiB` (1024 each) or `64KB` (1000 each); up to `i64::MAX`.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_number(text)?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "KB" => 1000,
        "MB" => 1000_u64.pow(2),
        "GB" => 1000_u64.pow(3),
        "TB" => 1000_u64.pow(4),
        _ => return None,
    };
    number.checked_mul(bytes).filter(|total| i64::try_from(*total).is_ok())
}

fn split_number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    Some((digits.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes() {
        for (text, milliseconds) in [
            ("0s", 0),
            ("200ms", 200),
            ("30s", 30_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in
            ["", "5", "s", "5 m", "-5s", "1.5s", "5M", "5min", "3651d", "99999999999999999999s", "1h30m"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("10B", 10),
            ("64KiB", 65_536),
            ("256MiB", 1 << 28),
            ("1GiB", 1 << 30),
            ("10KB", 10_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1k", "1 MiB", "-1", "1.5GiB", "8388608TiB", "99999999999999999999"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
