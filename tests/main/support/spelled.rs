//! Requests in every spelling, made up from a seed.
//!
//! They fit the tables of `tests/sql/oracle.sql` and the objects of [`OBJECTS`].

use super::Random;
use super::token::{PUBLISHABLE_KEY, alice, anon_key, bob};

/// What the scripted storage has.
pub const OBJECTS: [&str; 3] =
    ["public/pictures/small.png", "public/pictures/large.json", "authenticated/own/a.txt"];
/// When all of it was changed last.
pub const MODIFIED: &str = "Wed, 01 Jan 2025 10:00:00 GMT";
/// How many of the latest requests may be asked again.
const REPEATED: usize = 40;

/// Whom a request is sent as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Alice,
    Bob,
    /// Nobody who owns a row.
    Nobody,
    /// Two at once: whatever upstream makes of it.
    Unclear,
}

/// A request, line by line as it goes over the wire.
#[derive(Clone)]
pub struct Spelled {
    /// Its method.
    pub method: &'static str,
    /// Whom it is sent as.
    pub who: Who,
    line: String,
    fields: Vec<Vec<u8>>,
    body: &'static [u8],
    connection: Option<&'static str>,
    is_plain: bool,
}

impl Spelled {
    /// The bytes, as they were made up.
    pub fn as_it_is(&self) -> Vec<u8> {
        self.encode(self.connection)
    }

    /// The same with a `Connection` field that the front leaves to the proxy.
    pub fn never_the_fronts(&self) -> Vec<u8> {
        let connection = match self.connection {
            // Pingora finds `keep-alive` of HTTP/1.0 only where it is alone.
            _ if self.line.ends_with("1.0\r\n") => return self.as_it_is(),
            Some("close") => "close, x-none",
            _ => "keep-alive, x-none",
        };
        self.encode(Some(connection))
    }

    /// Whether a hit must come from the front once the spelling was a hit.
    pub fn may_be_the_fronts(&self) -> bool {
        self.is_plain && matches!(self.method, "GET" | "HEAD") && self.connection != Some("close")
    }

    fn encode(&self, connection: Option<&str>) -> Vec<u8> {
        let mut bytes = self.line.clone().into_bytes();
        bytes.extend(self.fields.concat());
        bytes.extend(
            connection.map(|value| format!("Connection: {value}\r\n")).unwrap_or_default().into_bytes(),
        );
        [bytes.as_slice(), b"\r\n", self.body].concat()
    }
}

/// Makes requests up; many repeat one that may be indexed by now.
pub struct Spellings {
    random: Random,
    tokens: [String; 3],
    tags: Vec<String>,
    made: Vec<Spelled>,
}

impl Spellings {
    /// Those that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let tokens = [alice().sign(), bob().sign(), alice().expires_in(-600).sign()];
        Self { random: Random::new(seed), tokens, tags: Vec::new(), made: Vec::new() }
    }

    /// A dice of one's own kind.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// An entity tag that later conditions may name.
    pub fn remember_tag(&mut self, tag: String) {
        if !tag.is_empty() && !self.tags.contains(&tag) && self.tags.len() < 64 {
            self.tags.push(tag);
        }
    }

    /// The next request.
    pub fn next_request(&mut self) -> Spelled {
        if self.made.len() == REPEATED && self.random.chance(35) {
            return self.made[self.random.below(REPEATED as u64) as usize].clone();
        }
        let made = self.make();
        if self.made.len() == REPEATED {
            self.made.swap_remove(self.random.below(REPEATED as u64) as usize);
        }
        self.made.push(made.clone());
        made
    }

    fn make(&mut self) -> Spelled {
        let methods = ["GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "HEAD"];
        let method = if self.random.chance(3) { "OPTIONS" } else { self.random.pick(&methods) };
        let target = self.target();
        let is_old = self.random.chance(4);
        let mut fields = vec![self.field("Host", "sluice.test")];
        let (who, credentials) = self.credentials();
        fields.extend(credentials);
        for _ in 0..self.random.below(4) {
            let extra = self.extra();
            fields.push(extra);
        }
        if self.random.chance(4) {
            let again = fields[self.random.below(fields.len() as u64) as usize].clone();
            fields.push(again);
        }
        for last in (1..fields.len()).rev() {
            fields.swap(last, self.random.below(last as u64 + 1) as usize);
        }
        let version = if is_old { "1.0" } else { "1.1" };
        let connection = match self.random.below(12) {
            0..=2 => Some("keep-alive"),
            3 => Some("Keep-Alive"),
            4 => Some("close"),
            _ => None,
        };
        let line = format!("{method} {target} HTTP/{version}\r\n");
        let mut made = Spelled { method, who, line, fields, body: b"", connection, is_plain: !is_old };
        if self.random.chance(7) {
            self.deform(&mut made);
        }
        made
    }

    /// Breaks the head, or adds to it what the front leaves to the proxy.
    fn deform(&mut self, made: &mut Spelled) {
        made.is_plain = false;
        let odd: [&[u8]; 12] = [
            b"Host: other.test\r\n",
            b"X-A : 1\r\n",
            b"X-A: 1\r\n folded\r\n",
            b"X A: 1\r\n",
            b": 1\r\n",
            b"nothing\r\n",
            b"X-A: 1\0\r\n",
            b"X-A: 1\r2\r\n",
            b"User-Agent: bare line feed\n",
            b"X-\xff: 1\r\n",
            b"Upgrade: h2c\r\n",
            b"Transfer-Encoding: identity\r\n",
        ];
        match self.random.below(20) {
            0 => made.fields.clear(),
            1 => made.line = made.line.replace(" HTTP/", "  HTTP/"),
            2 => made.line = made.line.replace("HTTP/1", "HTTP/2"),
            3 => made.line = made.line.replace("GET", "get"),
            4 => made.line = format!("\r\n{}", made.line),
            5 => made.line = made.line.replace("\r\n", "\n"),
            6 => {
                made.fields.push(b"Content-Length: 2\r\n".to_vec());
                made.body = b"{}";
            }
            7 => {
                made.fields.push(b"Transfer-Encoding: chunked\r\n".to_vec());
                made.body = b"2\r\n{}\r\n0\r\n\r\n";
            }
            _ => made.fields.push(self.random.pick(&odd).to_vec()),
        }
    }

    fn target(&mut self) -> String {
        let id = 1 + self.random.below(10);
        let target = match self.random.below(22) {
            0 => "/rest/v1/notes?order=id".to_owned(),
            1 => "/rest/v1/notes?order=id&select=id,body".to_owned(),
            2 => format!("/rest/v1/notes?id=eq.{id}&select=id,body"),
            3 => format!("/rest/v1/notes?select=id,body&id=eq.{id}"),
            4 => {
                let words =
                    ["a%20b", "a+b", "a%2Bb", "%C3%A4%2F%C3%B6", "%c3%a4%2f%c3%b6", "%2541", "a", "%61"];
                format!("/rest/v1/words?key=eq.{}", self.random.pick(&words))
            }
            5 => "/rest/v1/words?key=in.(\"a b\",\"x,y\")&order=key"
                .replace(' ', self.random.pick(&["+", "%20"])),
            6 => "/rest/v1/words?order=key&select=key".to_owned(),
            7 => format!("/rest/v1/posts?id=eq.{id}"),
            8 => "/rest/v1/posts?order=id&limit=20".to_owned(),
            9 | 10 => "/rest/v1/teams?order=id".to_owned(),
            11 => "/rest/v1/users?order=id&limit=9".to_owned(),
            12 => "/rest/v1/rpc/count_posts".to_owned(),
            13 => format!("/rest/v1/members?user_id=eq.{id}"),
            14 => "/functions/v1/echo?x=1".to_owned(),
            15 => self
                .random
                .pick(&["/rest/v1//notes", "/rest/v1/notes/", "/rest/v1/./notes", "/sluice/v1/x", "/", "*"])
                .to_owned(),
            _ => format!("/storage/v1/object/{}", self.random.pick(&OBJECTS)),
        };
        self.respelled(target)
    }

    /// Another spelling of it, now and then one that means something else.
    fn respelled(&mut self, target: String) -> String {
        match self.random.below(40) {
            0 => self.with_letters_encoded(&target),
            1 => self.with_letters_encoded(&target).to_ascii_lowercase(),
            2 => target.replacen('?', "??", 1),
            3 => format!("{target}?"),
            4 => format!("{target}&"),
            5 => format!("{target}?apikey={}", anon_key()),
            6 => format!("{target}&x=%zz"),
            7 => format!("http://sluice.test{target}"),
            8 => format!("HTTP://Sluice.Test{target}"),
            9 => format!("http://other.test{target}"),
            10 => format!("{target}#x"),
            _ => target,
        }
    }

    /// The scripted storage knows its objects by one spelling only.
    fn with_letters_encoded(&mut self, target: &str) -> String {
        if !target.starts_with("/rest/") {
            return target.to_owned();
        }
        let mut spelled = String::new();
        for letter in target.chars() {
            let is_encoded = letter.is_ascii_alphanumeric() && self.random.chance(15);
            if is_encoded { spelled += &format!("%{:02X}", letter as u8) } else { spelled.push(letter) }
        }
        spelled
    }

    fn credentials(&mut self) -> (Who, Vec<Vec<u8>>) {
        let anon = anon_key();
        let (alices, bobs, expired) =
            (self.tokens[0].clone(), self.tokens[1].clone(), self.tokens[2].clone());
        let (who, apikey, bearer) = match self.random.below(16) {
            0..=4 => (Who::Alice, anon, alices),
            5..=8 => (Who::Bob, anon, bobs),
            9 | 10 => (Who::Nobody, anon.clone(), anon),
            11 => (Who::Nobody, anon, expired),
            12 => (Who::Nobody, anon, "abc".to_owned()),
            13 => (Who::Nobody, PUBLISHABLE_KEY.to_owned(), PUBLISHABLE_KEY.to_owned()),
            14 => (Who::Nobody, String::new(), String::new()),
            _ => (Who::Unclear, alices, bobs),
        };
        let mut fields = Vec::new();
        if !apikey.is_empty() {
            fields.push(self.field("apikey", &apikey));
        }
        if !bearer.is_empty() {
            let scheme = self.random.pick(&["Bearer", "Bearer", "Bearer", "bearer", "Bearer "]);
            fields.push(self.field("Authorization", &format!("{scheme} {bearer}")));
        }
        (who, fields)
    }

    /// A field, its name and the space around its value spelled somehow.
    fn field(&mut self, name: &str, value: &str) -> Vec<u8> {
        let name = match self.random.below(6) {
            0 => name.to_ascii_lowercase(),
            1 => name.to_ascii_uppercase(),
            _ => name.to_owned(),
        };
        let before = self.random.pick(&[" ", " ", " ", " ", "", "  ", "\t"]);
        let after = self.random.pick(&["", "", "", "", "", " ", "\t "]);
        format!("{name}:{before}{value}{after}\r\n").into_bytes()
    }

    fn extra(&mut self) -> Vec<u8> {
        // Most of the later ones keep a request from the cache on most routes.
        let kind = if self.random.chance(20) { self.random.below(26) } else { self.random.below(20) };
        let (name, values): (&str, &[&str]) = match kind {
            0..=2 => return self.condition(),
            3 => (
                "If-Modified-Since",
                &[MODIFIED, "Wed, 01 Jan 2025 09:59:59 GMT", "Sunday", "Thu, 02 Jan 2031 10:00:00 GMT"],
            ),
            4 => ("If-Range", &["\"strong\"", "W/\"strong\"", MODIFIED, "x"]),
            5 | 6 => (
                "Range",
                &[
                    "0-2",
                    "2-",
                    "bytes=0-9",
                    "bytes=-5",
                    "bytes=3-",
                    "bytes=900000-",
                    "bytes=0-1,4-5",
                    "rows",
                    "BYTES=1-2",
                ],
            ),
            7 => ("Range-Unit", &["items", "bytes"]),
            8..=10 => (
                "Accept-Encoding",
                &[
                    "gzip",
                    "br",
                    "zstd",
                    "gzip, deflate, br",
                    "gzip;q=0",
                    "identity",
                    "*",
                    "GZIP",
                    "gzip;q=0.5, br;q=0.9",
                    ";;",
                    "",
                ],
            ),
            11 | 12 => (
                "Origin",
                &[
                    "https://app.example.com",
                    "https://b.example",
                    "HTTPS://APP.EXAMPLE.COM",
                    "https://evil.example",
                    "null",
                ],
            ),
            13 => (
                "Cache-Control",
                &[
                    "no-cache",
                    "no-store",
                    "max-age=100000",
                    "only-if-cached",
                    "min-fresh=100000",
                    "NO-CACHE",
                    "=",
                ],
            ),
            14 => (
                "Accept",
                &[
                    "*/*",
                    "application/json",
                    "application/vnd.pgrst.object+json",
                    "text/csv",
                    "APPLICATION/JSON",
                ],
            ),
            24 => ("Prefer", &["count=exact", "count=planned", "return=minimal"]),
            23 => ("X-Tenant", &["a", "b", ""]),
            22 => ("X-My-Trace", &["1", "2", "3"]),
            15 => ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x"]),
            16 => ("User-Agent", &["Mozilla/5.0 (X11; Linux x86_64)", "curl/8.5.0", "\u{e4}"]),
            17 => ("Sec-Fetch-Mode", &["cors", "navigate"]),
            18 => ("X-Client-Info", &["supabase-js-web/2.78.0"]),
            19 => ("Pragma", &["no-cache"]),
            20 => ("Accept-Profile", &["public", "other"]),
            21 => ("Content-Length", &["0", "0", "00", "-0"]),
            _ => ("X-Anything", &["1", ""]),
        };
        let value = self.random.pick(values);
        self.field(name, value)
    }

    fn condition(&mut self) -> Vec<u8> {
        let known = match self.tags.len() as u64 {
            0 => "\"none\"".to_owned(),
            count => self.tags[self.random.below(count) as usize].clone(),
        };
        let value = match self.random.below(8) {
            0 => "*".to_owned(),
            1 => format!("\"x\", {known}"),
            2 => known.trim_start_matches("W/").to_owned(),
            3 => format!("{known}, \"y\", W/\"z\""),
            4 => known.replace('"', ""),
            _ => known,
        };
        self.field("If-None-Match", &value)
    }
}
