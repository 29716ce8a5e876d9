//! What is fetched behind requests: the keys that tokens are signed with, and
//! the description of upstream's schemas.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};

use crate::postgrest::schema::{Schema, Schemas};
use crate::proxy::gateway::{Gateway, Settings};
use crate::telemetry::log::masked;
use crate::upstream::{Collected, DocumentError, FetchError, collect};

/// How often it is looked whether keys are due. A token signed with a new key
/// waits no longer than this, and the key set's own cool-down.
const KEYS_TICK: Duration = Duration::from_millis(500);
/// How soon a schema's description that is missing is asked for again, at first.
const SCHEMAS_TICK: Duration = Duration::from_secs(1);
/// How often the schemas' descriptions are fetched.
const SCHEMAS_EVERY: Duration = Duration::from_secs(60);
/// Descriptions of large schemas have some megabytes.
const MAX_DESCRIPTION: u64 = 64 * 1024 * 1024;

/// Fetches everything once, and says how many keys can be used.
pub(crate) async fn once(settings: &Settings) -> usize {
    tokio::join!(keys(settings), schemas(settings)).0
}

/// Fetches what is due, for as long as the process lives.
pub(super) async fn forever(gateway: Arc<Gateway>) {
    tokio::join!(
        async {
            loop {
                tokio::time::sleep(KEYS_TICK).await;
                keys(&gateway.settings()).await;
            }
        },
        describe_forever(&gateway),
    );
}

/// Fetches the schemas' descriptions every so often, and sooner as long as one is missing: without it
/// writes are not deferred, and those that are forwarded invalidate more than they need.
async fn describe_forever(gateway: &Gateway) {
    let (mut fetched, mut pause) = (Instant::now(), SCHEMAS_TICK);
    loop {
        tokio::time::sleep(SCHEMAS_TICK).await;
        let settings = gateway.settings();
        if is_described(&settings) {
            pause = SCHEMAS_EVERY;
        } else if pause == SCHEMAS_EVERY {
            pause = SCHEMAS_TICK;
        }
        if fetched.elapsed() >= pause {
            schemas(&settings).await;
            fetched = Instant::now();
            pause = (pause * 2).min(SCHEMAS_EVERY / 2);
        }
    }
}

/// Whether all schemas are known that can be.
fn is_described(settings: &Settings) -> bool {
    let known = settings.schemas.load();
    settings.config.upstream.schema_key.is_none()
        || names(settings).iter().all(|name| known.get(name).is_some())
}

async fn keys(settings: &Settings) -> usize {
    if !settings.authenticator.claim_jwks_refresh(SystemTime::now()) {
        return 0;
    }
    let mut usable = 0;
    for (source, url) in settings.config.auth.jwks_urls.iter().enumerate() {
        let fetched = settings.client.fetch_url(url).await;
        let document = match fetched {
            Ok(document) => document,
            Err(DocumentError::Status(StatusCode::NOT_FOUND)) => Bytes::new(),
            Err(error) => {
                tracing::warn!(url = &*masked(url), %error, "keys not fetched");
                continue;
            }
        };
        match settings.set_jwks(source, &document, SystemTime::now()) {
            Ok(keys) => usable += keys,
            Err(error) => tracing::warn!(url = &*masked(url), %error, "keys not understood"),
        }
    }
    usable
}

async fn schemas(settings: &Settings) {
    let Some(key) = &settings.config.upstream.schema_key else { return };
    let Ok(mut key) = HeaderValue::from_str(key.expose()) else {
        tracing::warn!("upstream.schema_key can't be sent: it is no header's value");
        return;
    };
    key.set_sensitive(true);
    let known = settings.schemas.load();
    let mut described = Vec::new();
    for name in names(settings) {
        match describe(settings, &name, &key).await {
            Ok(schema) => described.push((name, schema)),
            Err(reason) => {
                tracing::warn!(schema = name, reason, "schema's description not fetched");
                // What was known stays: tables rarely change, and unknown is only slower.
                described.extend(known.get(&name).cloned().map(|schema| (name, schema)));
            }
        }
    }
    settings.set_schemas(described.into_iter().collect::<Schemas>());
}

/// The default schema and those that routes name.
fn names(settings: &Settings) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        settings.config.routes.iter().flat_map(|route| route.resource.schemas()).map(str::to_owned).collect();
    names.insert(settings.config.upstream.default_schema.clone());
    names
}

async fn describe(settings: &Settings, name: &str, key: &HeaderValue) -> Result<Schema, String> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = http::Uri::from_static("/rest/v1/");
    *request.headers_mut() = credentials(key, name)?;
    let response = settings.client.send(request).await.map_err(|error| error.to_string())?;
    if response.status() != StatusCode::OK {
        return Err(format!("upstream answered {}", response.status()));
    }
    let idle = settings.config.upstream.response_timeout;
    let body = collect(response.into_body(), MAX_DESCRIPTION, idle)
        .await
        .map_err(|error: FetchError| error.to_string())?;
    match body {
        Collected::Whole(body) => Schema::from_openapi(&body).map_err(|error| error.to_string()),
        Collected::TooLarge { .. } => Err("the description is longer than 64 MiB".into()),
    }
}

fn credentials(key: &HeaderValue, schema: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert("apikey", key.clone());
    // The new secret keys are no tokens; the gateway wants those as `apikey` alone.
    if !key.as_bytes().starts_with(b"sb_") {
        let mut bearer = HeaderValue::try_from([b"Bearer ", key.as_bytes()].concat())
            .map_err(|error| error.to_string())?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    let profile = HeaderValue::from_str(schema).map_err(|error| error.to_string())?;
    headers.insert("accept-profile", profile);
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/openapi+json"));
    Ok(headers)
}
