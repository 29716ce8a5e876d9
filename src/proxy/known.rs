//! The row that a write is about, as its author may read it.
//!
//! It is an ordinary read of the whole row, made on the author's behalf with his own credentials, kept in
//! his own partition, and voided like any other entry by what touches the row.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use pingora::http::RequestHeader;

use super::exchange::view;
use super::gateway::{Gateway, Settings};
use super::lookup::{Lookup, Obtained};
use crate::cache::{Entry, Standing};
use crate::plan::{ReadPlan, plan_on_behalf};
use crate::postgrest::object::Object;
use crate::route::Route;
use crate::tag::Relation;
use crate::upstream::FetchError;
use crate::write::record::KeyPart;

const ACCEPT_PROFILE: HeaderName = HeaderName::from_static("accept-profile");
const CONTENT_PROFILE: HeaderName = HeaderName::from_static("content-profile");
const API_KEY: HeaderName = HeaderName::from_static("apikey");

/// All but what needs no encoding anywhere (RFC 3986, section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A row that is asked for.
pub struct Row<'a> {
    /// Its table.
    pub table: &'a Relation,
    /// Its whole primary key, canonical.
    pub key: &'a [KeyPart],
    /// The route of the request that asks.
    pub route: &'a Arc<Route>,
    /// The headers of that request.
    pub headers: &'a HeaderMap,
    /// Whether that request is a read: its schema is in another header then.
    pub reads: bool,
}

/// What is known of a row.
#[derive(Debug)]
pub enum Known {
    /// It is this.
    Row(Object),
    /// The caller sees no such row.
    Absent,
    /// Upstream refused to tell, or its answer is of no use.
    Unclear,
    /// Upstream didn't answer.
    Unreachable(FetchError),
}

/// A way to ask for a whole row.
#[derive(Clone, Copy)]
struct Form {
    select: &'static str,
    accept: Option<&'static str>,
}

/// As supabase-js asks: what Sluice fetches serves its reads as well.
const USUAL: Form = Form { select: "&select=*", accept: Some("application/json") };
/// Other ways in which clients ask for the same.
const OTHERS: [Form; 7] = {
    const OBJECT: &str = "application/vnd.pgrst.object+json";
    [
        Form { select: "&select=*", accept: Some(OBJECT) },
        Form { select: "&select=*", accept: Some("*/*") },
        Form { select: "&select=*", accept: None },
        Form { select: "", accept: Some("application/json") },
        Form { select: "", accept: Some(OBJECT) },
        Form { select: "", accept: Some("*/*") },
        Form { select: "", accept: None },
    ]
};

impl Row<'_> {
    /// What is known of it in this process, however it was asked for.
    pub fn remembered(&self, gateway: &Arc<Gateway>, settings: &Settings) -> Option<Known> {
        [USUAL].iter().chain(&OTHERS).find_map(|form| {
            let (plan, _) = self.read(*form, settings)?;
            let entry = gateway.remembered(&plan, false).filter(|_| plan.admitted)?;
            let lookup = Lookup::new(gateway, plan, false, Bytes::new());
            matches!(lookup.standing(&entry), Standing::Fresh { .. }).then(|| known(&entry))
        })
    }

    /// What is known of it, here or in the shared store; or what upstream says.
    pub async fn look_up(&self, gateway: &Arc<Gateway>, settings: &Arc<Settings>) -> Known {
        if let Some(known @ (Known::Row(_) | Known::Absent)) = self.remembered(gateway, settings) {
            return known;
        }
        let Some((plan, sent)) = self.read(USUAL, settings) else { return Known::Unclear };
        let admitted = plan.admitted;
        let lookup = Lookup::new(gateway, plan, false, Bytes::new());
        let found = lookup.recall().await.ok().flatten().filter(|_| admitted);
        if let Some(entry) = found
            && matches!(lookup.standing(&entry), Standing::Fresh { .. })
        {
            return known(&entry);
        }
        match lookup.obtain(&sent, settings).await {
            Obtained::Entry { entry, .. } => known(&entry),
            Obtained::Failed(error) => Known::Unreachable(error),
            Obtained::Response(response) if response.head.status.is_server_error() => {
                Known::Unreachable(FetchError::Broken("upstream answered with an error".into()))
            }
            Obtained::Response(_) | Obtained::Crowded | Obtained::NoStore => Known::Unclear,
        }
    }

    /// The read that asks for it.
    fn read(&self, form: Form, settings: &Settings) -> Option<(ReadPlan, RequestHeader)> {
        let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
        let filters: Vec<String> = (self.key.iter())
            .map(|part| format!("{}=eq.{}", encoded(&part.column), encoded(&part.value)))
            .collect();
        let target = format!("/rest/v1/{}?{}{}", encoded(&self.table.name), filters.join("&"), form.select);
        let mut request = RequestHeader::build(Method::GET, target.as_bytes(), None).ok()?;
        if let Some(accept) = form.accept {
            request.append_header(ACCEPT, accept).ok()?;
        }
        let vary = self.route.read.as_ref().map_or(&[] as &[HeaderName], |policy| &policy.vary);
        for name in vary.iter().chain([&AUTHORIZATION, &API_KEY]) {
            for value in self.headers.get_all(name) {
                request.append_header(name.clone(), value.clone()).ok()?;
            }
        }
        if let Some(profile) = self.profile() {
            request.append_header(ACCEPT_PROFILE, profile.clone()).ok()?;
        }
        let policy = Arc::new(self.route.row_policy());
        let plan = settings
            .with_rules(|rules, now| plan_on_behalf(&view(&request), self.route, policy, rules, now))?;
        Some((plan, request))
    }

    fn profile(&self) -> Option<&HeaderValue> {
        self.headers.get(if self.reads { ACCEPT_PROFILE } else { CONTENT_PROFILE })
    }
}

/// The one row of an answer to a read by whole key.
fn known(entry: &Entry) -> Known {
    if let Ok(row) = Object::parse(entry.body()) {
        return Known::Row(row);
    }
    match Object::parse_rows(entry.body()) {
        Some(mut rows) if rows.len() == 1 => rows.pop().map_or(Known::Unclear, Known::Row),
        Some(rows) if rows.is_empty() => Known::Absent,
        _ => Known::Unclear,
    }
}
