//! The log: lines for people on a terminal, JSON objects for machines, on
//! standard error.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use regex::Regex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// What the names of secret parameters have in them; `code` is one by itself.
const SECRET_NAMES: [&str; 8] =
    ["token", "apikey", "api_key", "jwt", "password", "secret", "signature", "credential"];

/// What holds unless the level names these targets: libraries say little of
/// use to an operator, and the access log has a switch of its own. What goes
/// wrong with Redis is said once, by the store.
const TARGETS: &str = "access=info,redis=off,pingora=warn,pingora_core=warn,pingora_proxy=warn,pingora_http=warn,pingora_cache=warn,\
                     pingora_pool=warn,hyper=warn,hyper_util=warn,rustls=warn,tokio=warn";

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, else JSON.
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object a line: `timestamp`, `level`, `message`, the event's fields, `target`.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is none.
    #[error(
        "The log level {level:?} is not understood: {reason}. Write for instance \"info\" or \"info,sluice=debug\"."
    )]
    Level {
        /// As configured.
        level: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is one already.
    #[error("The log has already been set up: {0}.")]
    Installed(String),
}

/// Starts the log of this process. `level` is a level or a list of
/// directives (`info,sluice=debug`). Events of the `log` crate, Pingora's, are
/// taken along.
///
/// # Errors
///
/// [`LogError`]; may be called once in a process.
pub fn init(level: &str, format: Format) -> Result<(), LogError> {
    let json = match format {
        Format::Json => true,
        Format::Text => false,
        Format::Auto => !std::io::stderr().is_terminal(),
    };
    let installed = if json {
        json_subscriber(level, std::io::stderr)?.try_init()
    } else {
        text_subscriber(level, std::io::stderr().is_terminal())?.try_init()
    };
    installed.map_err(|error| LogError::Installed(error.to_string()))
}

type Subscriber = Box<dyn tracing::Subscriber + Send + Sync>;

fn json_subscriber<W>(level: &str, writer: W) -> Result<Subscriber, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(writer);
    Ok(Box::new(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish()))
}

fn text_subscriber(level: &str, colours: bool) -> Result<Subscriber, LogError> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(level)?).with_writer(std::io::stderr);
    Ok(Box::new(builder.with_ansi(colours).finish()))
}

/// Checks a level of the configuration.
///
/// # Errors
///
/// [`LogError::Level`] where it is none.
pub fn check_level(level: &str) -> Result<(), LogError> {
    filter(level).map(drop)
}

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let invalid = |reason: String| LogError::Level { level: level.to_owned(), reason };
    if level.trim().is_empty() {
        return Err(invalid("it is empty".to_owned()));
    }
    // Of two directives for the same target the later one counts: the level's own.
    EnvFilter::try_new(format!("{TARGETS},{level}")).map_err(|error| invalid(error.to_string()))
}

/// Has panics logged as one event with their place; what they say may hold a
/// request's secrets and isn't.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(location, thread = thread.name().unwrap_or_default(), "panicked");
    }));
}

/// A request that was answered, for the access log.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query as sent; secrets in it are masked here.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// The route's name, `-` where none matches.
    pub route: &'a str,
    /// How it was answered.
    pub outcome: super::Outcome,
    /// Sluice's `Cache-Status` detail, if there is one.
    pub detail: Option<&'a str>,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
    /// Who asked.
    pub client: Option<IpAddr>,
}

impl Access<'_> {
    /// Writes the line, target `access`.
    pub fn log(&self) {
        tracing::info!(
            target: "access",
            method = self.method,
            path = &*masked(self.path),
            status = self.status,
            route = self.route,
            outcome = self.outcome.as_str(),
            detail = self.detail,
            bytes = self.bytes,
            duration_ms = (self.duration.as_secs_f64() * 1e6).round() / 1e3,
            client = self.client.map(tracing::field::display),
            "request"
        );
    }
}

/// A URL, or a path and query, with `[masked]` in the place of what is secret:
/// the values of parameters that are named like secrets, and, wherever it
/// stands, what looks like a token or a secret key.
pub fn masked(url: &str) -> Cow<'_, str> {
    let masked = mask_parameters(url);
    match SECRET_SHAPES.replace_all(&masked, "[masked]") {
        Cow::Borrowed(_) => masked,
        Cow::Owned(masked) => Cow::Owned(masked),
    }
}

/// A JSON Web Token, and a secret key of Supabase.
static SECRET_SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*|sb_secret_[\w-]+").expect("the expression is valid")
});

fn mask_parameters(url: &str) -> Cow<'_, str> {
    const SEPARATORS: [char; 3] = ['?', '&', ';'];
    if !url.split(SEPARATORS).any(is_secret) {
        return Cow::Borrowed(url);
    }
    let mut masked = String::with_capacity(url.len());
    for piece in url.split_inclusive(SEPARATORS) {
        let (pair, separator) = match piece.char_indices().next_back() {
            Some((end, last)) if SEPARATORS.contains(&last) => piece.split_at(end),
            _ => (piece, ""),
        };
        match pair.split_once('=') {
            Some((name, _)) if is_secret(pair) => {
                masked.push_str(name);
                masked.push_str("=[masked]");
            }
            _ => masked.push_str(pair),
        }
        masked.push_str(separator);
    }
    Cow::Owned(masked)
}

fn is_secret(pair: &str) -> bool {
    let name = pair.split('=').next().unwrap_or_default();
    let name = percent_decode_str(name).decode_utf8_lossy().trim().to_ascii_lowercase();
    name == "code" || SECRET_NAMES.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;
    use crate::telemetry::Outcome;

    #[test]
    fn secrets_in_urls_are_masked() {
        for (url, expected) in [
            ("/rest/v1/users", "/rest/v1/users"),
            ("/rest/v1/users?id=eq.1", "/rest/v1/users?id=eq.1"),
            ("/rest/v1/users?apikey=abc&id=eq.1", "/rest/v1/users?apikey=[masked]&id=eq.1"),
            ("/auth?a=b&Access_Token=x=y", "/auth?a=b&Access_Token=[masked]"),
            ("/auth?%61pikey=abc", "/auth?%61pikey=[masked]"),
            (
                "/auth?token=a&refresh_token=b&code=c&token",
                "/auth?token=[masked]&refresh_token=[masked]&code=[masked]&token",
            ),
            ("/auth?a=b?token=c", "/auth?a=b?token=[masked]"),
            ("/a;token=b?x=1;token=c", "/a;token=[masked]?x=1;token=[masked]"),
            (
                "/s3?X-Amz-Security-Token=a&X-Amz-Signature=b",
                "/s3?X-Amz-Security-Token=[masked]&X-Amz-Signature=[masked]",
            ),
            ("/hook/eyJhbGciOi.eyJzdWIi.c2ln/x", "/hook/[masked]/x"),
            ("/f?to=http%3A%2F%2Fh%3Fx%3DeyJhbGciOi.eyJzdWIi.c2ln", "/f?to=http%3A%2F%2Fh%3Fx%3D[masked]"),
            ("/f?k=sb_secret_abc", "/f?k=[masked]"),
            ("/rest/v1/zip_codes?postcode=eq.1", "/rest/v1/zip_codes?postcode=eq.1"),
        ] {
            assert_eq!(masked(url), expected, "{url}");
        }
    }

    #[test]
    fn levels_are_checked() {
        for level in ["info", "warn", "info,sluice=debug", "off"] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        for level in ["", " ", "sluice=loud", "info,=,"] {
            assert!(check_level(level).is_err(), "{level}");
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(level: &str, write: impl FnOnce()) -> Vec<serde_json::Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = json_subscriber(level, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, write);
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn an_access_line_is_one_flat_object() {
        let access = Access {
            method: "GET",
            path: "/rest/v1/users?apikey=secret",
            status: 200,
            route: "users",
            outcome: Outcome::Hit,
            detail: None,
            bytes: 12,
            duration: Duration::from_micros(1500),
            client: Some([127, 0, 0, 1].into()),
        };
        // The level is for everything else.
        let lines = logged("warn", || access.log());
        assert_eq!(lines.len(), 1);
        let mut line = lines[0].as_object().unwrap().clone();
        let timestamp = line.remove("timestamp").unwrap();
        assert!(timestamp.as_str().unwrap().ends_with('Z'));
        let expected = serde_json::json!({
            "level": "INFO", "message": "request", "target": "access", "method": "GET",
            "path": "/rest/v1/users?apikey=[masked]", "status": 200, "route": "users", "outcome": "hit",
            "bytes": 12, "duration_ms": 1.5, "client": "127.0.0.1",
        });
        assert_eq!(serde_json::Value::Object(line), expected);
    }

    #[test]
    fn the_access_log_can_be_silenced_by_name() {
        assert!(logged("info,access=off", || tracing::info!(target: "access", "request")).is_empty());
    }

    #[test]
    fn libraries_are_quiet_unless_asked_for() {
        let write = || {
            tracing::info!(target: "pingora_core::server", "noise");
            tracing::warn!(target: "pingora_core::server", "trouble");
            tracing::debug!(target: "sluice", "detail");
        };
        let messages =
            |level| logged(level, write).iter().map(|line| line["message"].clone()).collect::<Vec<_>>();
        assert_eq!(messages("info"), ["trouble"]);
        assert_eq!(messages("debug"), ["trouble", "detail"]);
        assert_eq!(messages("info,pingora_core=info"), ["noise", "trouble"]);
    }
}
