//! The requests that a replay makes, credentials aside.

use bytes::Bytes;
use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderName, RANGE, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method};

use super::Ask;
use super::target::{Filter, Target};
use super::write::Write;
use crate::postgrest::object::{Object, text_value};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");

/// Headers that are the connection's, the credentials', or said anew here:
/// noted or not, they don't go along as they came.
const OWN: [HeaderName; 16] = [
    HOST,
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TE,
    UPGRADE,
    EXPECT,
    AUTHORIZATION,
    HeaderName::from_static("apikey"),
    ACCEPT,
    CONTENT_TYPE,
    RANGE,
    HeaderName::from_static("range-unit"),
    PREFER,
    ACCEPT_PROFILE,
    CONTENT_PROFILE,
];

impl Write {
    /// Changes the row if `filter` lets it.
    pub(super) fn patch(&self, filter: &Filter, stamped: bool) -> Ask {
        let target = self.table().key(&self.record.key).filter(self.time_column(), filter);
        let headers = self.headers("return=representation");
        self.ask(Method::PATCH, target.select(self.told_columns()), headers, self.body(stamped))
    }

    /// Makes the row; upstream says no if it is there.
    pub(super) fn insert(&self, stamped: bool) -> Ask {
        let headers = self.headers("return=minimal");
        self.ask(Method::POST, self.table(), headers, self.whole_body(stamped))
    }

    /// Makes the row unless it is there.
    pub(super) fn insert_if_absent(&self, stamped: bool) -> Ask {
        let target = self.table().on_conflict(self.key_columns()).select(self.told_columns());
        let headers = self.headers("resolution=ignore-duplicates,return=representation");
        self.ask(Method::POST, target, headers, self.whole_body(stamped))
    }

    /// Reads the whole row.
    pub(super) fn read(&self) -> Ask {
        self.ask(
            Method::GET,
            self.table().key(&self.record.key).select_all(),
            self.read_headers(),
            Bytes::new(),
        )
    }

    /// Reads no more of the row than the write is about: who may insert often
    /// may not read every column.
    pub(super) fn read_own_columns(&self) -> Ask {
        let columns = self.told_columns().chain(self.changes.values().iter().map(|(name, _)| name));
        let target = self.table().key(&self.record.key).select(columns);
        self.ask(Method::GET, target, self.read_headers(), Bytes::new())
    }

    fn ask(&self, method: Method, target: Target, headers: HeaderMap, body: Bytes) -> Ask {
        Ask { member: self.newest, method, target: target.finish(), headers, body }
    }

    fn table(&self) -> Target {
        Target::table(&self.record.relation.name)
    }

    fn key_columns(&self) -> impl Iterator<Item = &str> {
        self.record.key.iter().map(|part| part.column.as_str())
    }

    /// What a representation is to tell: which row it is and when it was changed.
    fn told_columns(&self) -> impl Iterator<Item = &str> {
        self.key_columns().chain([self.time_column()])
    }

    fn body(&self, stamped: bool) -> Bytes {
        self.with_time(self.changes.values().clone(), stamped)
    }

    /// With the key. PostgreSQL reads each of its values from text, as it does in a filter.
    fn whole_body(&self, stamped: bool) -> Bytes {
        let mut row = Object::new();
        for part in &self.record.key {
            row.set(&part.column, text_value(&part.value));
        }
        for (name, value) in self.changes.values().iter() {
            row.set(name, value.to_owned());
        }
        self.with_time(row, stamped)
    }

    fn with_time(&self, mut row: Object, stamped: bool) -> Bytes {
        if stamped {
            row.set(self.time_column(), text_value(&self.time()));
        }
        Bytes::from(row.to_json())
    }

    fn headers(&self, prefer: &'static str) -> HeaderMap {
        let mut headers = self.noted_headers(&CONTENT_PROFILE);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(PREFER, HeaderValue::from_static(prefer));
        headers
    }

    fn read_headers(&self) -> HeaderMap {
        self.noted_headers(&ACCEPT_PROFILE)
    }

    /// The `vary` headers as they were sent, and the schema.
    fn noted_headers(&self, profile: &HeaderName) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.record.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
                && !OWN.contains(&name)
            {
                headers.append(name, value);
            }
        }
        headers.insert(ACCEPT, JSON);
        if let Some(Ok(schema)) = self.record.profile.as_ref().map(HeaderValue::try_from) {
            headers.insert(profile.clone(), schema);
        }
        headers
    }
}
