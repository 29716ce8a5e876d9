//! Supabase Storage's dialect: which objects a request under `/storage/v1`
//! reads or changes.
//!
//! A public read carries the tags of its object, its bucket and of all storage;
//! a write moves the narrowest of them that certainly covers what it changes.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::postgrest::footprint::WriteBody;
use crate::postgrest::query::Query;
use crate::request::{DecodedPath, RequestView};
use crate::tag::Tag;

/// Above so many objects a write counts as one to the whole bucket.
const MAX_NAMED_OBJECTS: usize = 256;

/// First segments after `/object/` that are not a bucket in a read's path.
const NO_BUCKETS: [&str; 9] =
    ["public", "authenticated", "sign", "info", "list", "list-v2", "upload", "move", "copy"];

/// The tags of a read that anybody may make: of a public object, its metadata
/// or a render of it. `None` for every other path, and for the paths without
/// `public` in them where the request has credentials, because the server then
/// answers by them. It is for the caller to look at the method.
pub fn read_tags(request: &RequestView<'_>, path: &DecodedPath) -> Option<Vec<Tag>> {
    let (bucket, name) = public_object(request, path)?;
    let mut tags = vec![
        Tag::All,
        Tag::Object { bucket: bucket.to_owned(), name },
        Tag::Bucket(bucket.to_owned()),
        Tag::Storage,
    ];
    tags.sort();
    Some(tags)
}

/// Whether GET and HEAD of this path ask for what anybody may read.
pub fn is_public_object_read(request: &RequestView<'_>, path: &DecodedPath) -> bool {
    public_object(request, path).is_some()
}

fn public_object<'a>(request: &RequestView<'_>, path: &'a DecodedPath) -> Option<(&'a str, String)> {
    let segments: Vec<&str> = path.segments().collect();
    let anonymous = !["authorization", "apikey"].iter().any(|name| request.headers.contains_key(*name));
    let (bucket, name) = match segments.strip_prefix(&["storage", "v1"])? {
        ["object", "public", bucket, name @ ..]
        | ["object", "info", "public", bucket, name @ ..]
        | ["render", "image", "public", bucket, name @ ..] => (*bucket, name),
        ["object", "info", bucket, name @ ..] if anonymous && *bucket != "authenticated" => (*bucket, name),
        ["object", bucket, name @ ..] if anonymous && !NO_BUCKETS.contains(bucket) => (*bucket, name),
        _ => return None,
    };
    (!name.is_empty()).then(|| (bucket, name.join("/")))
}

/// The tags that a write moves, sorted, each once; none for a request that
/// only reads, of whatever method.
pub fn write_tags(
    request: &RequestView<'_>,
    path: &DecodedPath,
    query: &Query,
    body: WriteBody<'_>,
) -> Vec<Tag> {
    if request.is_safe() {
        return Vec::new();
    }
    let method = request.method;
    let segments: Vec<&str> = path.segments().collect();
    let mut tags = match segments.strip_prefix(&["storage", "v1"]) {
        Some(["object", rest @ ..]) => object_write(method, rest, body),
        Some(["bucket"]) => bucket_creation(body),
        Some(["bucket", bucket, ..]) => vec![bucket_tag(bucket)],
        Some(["upload", "resumable", rest @ ..]) => resumable_write(rest, request.headers),
        Some(["s3", rest @ ..]) => s3_write(method, rest, query),
        Some(["cdn", bucket, name @ ..]) => vec![tag_of(bucket, name)],
        _ => vec![Tag::Storage],
    };
    tags.sort();
    tags.dedup();
    tags
}

fn bucket_tag(bucket: &str) -> Tag {
    Tag::Bucket(bucket.to_owned())
}

fn object_tag(bucket: &str, name: &str) -> Tag {
    Tag::Object { bucket: bucket.to_owned(), name: name.to_owned() }
}

/// The object at a path, or the bucket if nothing follows it.
fn tag_of(bucket: &str, name: &[&str]) -> Tag {
    if name.is_empty() { bucket_tag(bucket) } else { object_tag(bucket, &name.join("/")) }
}

fn object_write(method: &Method, segments: &[&str], body: WriteBody<'_>) -> Vec<Tag> {
    let post = *method == Method::POST;
    match segments {
        // Lists, and URLs that only a later request uses.
        ["list" | "list-v2" | "sign", ..] | ["upload", "sign", ..] if post => Vec::new(),
        ["upload", "sign", bucket, name @ ..] => vec![tag_of(bucket, name)],
        ["move"] if post => moved(body),
        ["copy"] if post => copied(body),
        // A word of the API where a bucket is expected: which it is, versions differ on.
        [word, ..] if NO_BUCKETS.contains(word) => vec![Tag::Storage],
        [bucket] if *method == Method::DELETE => deleted(bucket, body),
        [bucket, name @ ..] => vec![tag_of(bucket, name)],
        [] => vec![Tag::Storage],
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transfer {
    bucket_id: String,
    source_key: Option<String>,
    destination_bucket: Option<String>,
    destination_key: Option<String>,
}

fn json<'de, T: Deserialize<'de>>(body: WriteBody<'de>) -> Option<T> {
    match body {
        WriteBody::Whole(bytes) => serde_json::from_slice(bytes).ok(),
        WriteBody::Unknown => None,
    }
}

fn named_or_bucket(bucket: &str, name: Option<&str>) -> Tag {
    name.map_or_else(|| bucket_tag(bucket), |name| object_tag(bucket, name))
}

/// A move changes the source and the destination.
fn moved(body: WriteBody<'_>) -> Vec<Tag> {
    let Some(transfer) = json::<Transfer>(body) else { return vec![Tag::Storage] };
    vec![named_or_bucket(&transfer.bucket_id, transfer.source_key.as_deref()), destination(&transfer)]
}

/// A copy changes the destination.
fn copied(body: WriteBody<'_>) -> Vec<Tag> {
    json::<Transfer>(body).map_or_else(|| vec![Tag::Storage], |transfer| vec![destination(&transfer)])
}

fn destination(transfer: &Transfer) -> Tag {
    let bucket = transfer.destination_bucket.as_ref().unwrap_or(&transfer.bucket_id);
    named_or_bucket(bucket, transfer.destination_key.as_deref())
}

#[derive(Deserialize)]
struct Deletion {
    prefixes: Vec<String>,
}

/// `prefixes` holds whole names, whatever it is called.
fn deleted(bucket: &str, body: WriteBody<'_>) -> Vec<Tag> {
    match json::<Deletion>(body) {
        Some(deletion) if deletion.prefixes.len() <= MAX_NAMED_OBJECTS => {
            deletion.prefixes.iter().map(|name| object_tag(bucket, name)).collect()
        }
        _ => vec![bucket_tag(bucket)],
    }
}

#[derive(Deserialize)]
struct NewBucket {
    id: Option<String>,
    name: Option<String>,
}

/// A bucket's id is its name unless it is given.
fn bucket_creation(body: WriteBody<'_>) -> Vec<Tag> {
    let id = json::<NewBucket>(body).and_then(|bucket| bucket.id.or(bucket.name));
    vec![id.map_or(Tag::Storage, Tag::Bucket)]
}

/// TUS: a creation names its object in `Upload-Metadata`, what follows in the
/// upload's id.
fn resumable_write(segments: &[&str], headers: &HeaderMap) -> Vec<Tag> {
    let object = match segments {
        [] | ["sign"] => uploaded_object(headers),
        [id] | ["sign", id] => object_of_upload(id),
        _ => None,
    };
    vec![object.unwrap_or(Tag::Storage)]
}

/// `Upload-Metadata` is a comma-separated list of names, each with a blank and
/// its value in base64 (TUS 1.0.0, "Upload-Metadata").
fn uploaded_object(headers: &HeaderMap) -> Option<Tag> {
    let mut values = headers.get_all("upload-metadata").iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (mut bucket, mut name) = (None, None);
    for entry in value.to_str().ok()?.split(',') {
        let (key, encoded) = entry.trim().split_once(' ').unwrap_or((entry, ""));
        let slot = match key {
            "bucketName" => &mut bucket,
            "objectName" => &mut name,
            _ => continue,
        };
        let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        if slot.replace(decoded).is_some() {
            return None;
        }
    }
    Some(object_tag(&bucket?, &name?))
}

/// An upload's id is `bucket/name/version` in base64url.
fn object_of_upload(id: &str) -> Option<Tag> {
    const ENGINE: GeneralPurpose = GeneralPurpose::new(
        &URL_SAFE,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let decoded = String::from_utf8(ENGINE.decode(id).ok()?).ok()?;
    let (bucket, rest) = decoded.split_once('/')?;
    let (name, _version) = rest.rsplit_once('/')?;
    (!bucket.is_empty() && !name.is_empty()).then(|| object_tag(bucket, name))
}

/// S3: parts of a multipart upload change nothing before it is completed.
fn s3_write(method: &Method, segments: &[&str], query: &Query) -> Vec<Tag> {
    let has = |name: &str| query.get(name).is_some();
    match segments {
        [] => vec![Tag::Storage],
        [bucket] => vec![bucket_tag(bucket)],
        [_, ..] if *method == Method::POST && has("uploads") && !has("uploadId") => Vec::new(),
        [_, ..] if *method == Method::PUT && has("uploadId") && has("partNumber") => Vec::new(),
        [_, ..] if *method == Method::DELETE && has("uploadId") => Vec::new(),
        [bucket, name @ ..] => vec![tag_of(bucket, name)],
    }
}

#[cfg(test)]
mod tests;
