//! Why a write is not deferred.

use std::borrow::Cow;

use http::HeaderName;

/// Why a write is forwarded and awaited. Each variant is one rule of those that
/// make deferring safe; [`Reason::name`] is what the client is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// `method`: the route doesn't defer writes with this method.
    #[error("The route does not defer writes with this method")]
    Method,
    /// `token`: no key here verified the caller's token.
    #[error("The caller has no token that was verified here")]
    Token,
    /// `api-key`: his API key is not known to be good.
    #[error("The API key is not known to be good")]
    ApiKey,
    /// `subject`: the token has no `sub` that is text, or an `iss` that is none:
    /// nobody to whom the write could belong.
    #[error("The token's \"sub\" and \"iss\" do not name one person")]
    Subject,
    /// `role`: the token's `role` is `service_role`, `anon`, absent or no text.
    #[error("The token's role is \"service_role\", \"anon\" or not stated")]
    Role,
    /// `token-life`: the token ends before a replay can be counted on.
    #[error("The token ends too soon to replay the write with it")]
    TokenLife,
    /// `header-<name>`: a request header is neither keyed nor ignorable, so
    /// that a policy may read it, or it has a meaning for this write alone.
    #[error("The request header \"{0}\" may matter to upstream")]
    Header(HeaderName),
    /// `content-encoding`: the body is encoded.
    #[error("The body has a Content-Encoding")]
    ContentEncoding,
    /// `content-type`: the body is not declared as JSON.
    #[error("The body's Content-Type is not JSON")]
    ContentType,
    /// `content-profile`: the header is not exactly the schema that the write was planned for.
    #[error("The Content-Profile header does not name one schema")]
    ContentProfile,
    /// `default-schema`: upstream's answers contradict the configured default
    /// schema, and the request names none.
    #[error("The request names no schema, and upstream's default is not the configured one")]
    DefaultSchema,
    /// `accept`: the answer is wanted in another form than JSON.
    #[error("The Accept header asks for another form than JSON")]
    Accept,
    /// `prefer`: a preference that would have to be kept is none that can be.
    #[error("The Prefer header has a preference that a deferred write can't keep")]
    Prefer,
    /// `schema`: upstream's description of the table is unknown, and the file
    /// doesn't state what is needed in its stead.
    #[error("The table's columns are not known")]
    Schema,
    /// `view`: the relation may be a view, and the file doesn't state its key and columns.
    #[error("The relation may be a view, and the file states no key and columns for it")]
    View,
    /// `key`: the file states another key than the table has.
    #[error("The key that the file states is not the table's")]
    Key,
    /// `key-type`: a column of the key has a type whose values can be spelt in
    /// ways that are not known here, or a name that no filter can have.
    #[error("The key has a column whose values have no known canonical spelling")]
    KeyType,
    /// `updated-at-column`: there is no `updated_at` column, or it is no timestamp.
    #[error("The table has no \"updated_at\" column that is a timestamp")]
    UpdatedAtColumn,
    /// `parameter`: the query has a parameter other than the key's filters, `select` and `columns`.
    #[error("The query has a parameter other than the key, \"select\" and \"columns\"")]
    Parameter,
    /// `repeated-parameter`: a parameter is there twice.
    #[error("A parameter of the query is repeated")]
    RepeatedParameter,
    /// `filter`: the filters are not `eq` on each column of the key.
    #[error("The filters are not exactly the primary key, each with \"eq\"")]
    Filter,
    /// `key-spelling`: a key's value is not spelt as upstream prints it.
    #[error("The key is not in its canonical spelling")]
    KeySpelling,
    /// `columns-parameter`: `columns` is not exactly what the body has.
    #[error("The parameter \"columns\" does not name exactly the body's columns")]
    ColumnsParameter,
    /// `on-conflict`: the conflict target is not the primary key.
    #[error("The parameter \"on_conflict\" does not name exactly the key")]
    OnConflict,
    /// `select`: `select` is more than plain columns.
    #[error("The parameter \"select\" is more than a list of columns")]
    Select,
    /// `body-too-large`: the body is larger than the route defers.
    #[error("The body is larger than the route's \"max_body\"")]
    BodyTooLarge,
    /// `not-json`: the body is not JSON in UTF-8, or nested too deeply.
    #[error("The body is not JSON, or nested too deeply")]
    NotJson,
    /// `not-an-object`: the body is an array or another value than one row.
    #[error("The body is not one JSON object")]
    NotAnObject,
    /// `repeated-field`: the body names a column twice.
    #[error("The body names a column twice")]
    RepeatedField,
    /// `unknown-column`: the body has a field that is no known column.
    #[error("The body has a field that is no known column")]
    UnknownColumn,
    /// `value`: the body has a value that its column may not hold, or whose
    /// printed form is not certain.
    #[error("The body has a value that its column may not hold as it is")]
    Value,
    /// `null`: the body sets a column to null that may be declared `not null`.
    #[error("The body sets a column to null that may not be null")]
    Null,
    /// `key-missing`: the body lacks a column of the key.
    #[error("The body lacks a column of the key")]
    KeyMissing,
    /// `key-change`: the body gives the row another key than its filters name.
    #[error("The body has another key than the filters name")]
    KeyChange,
    /// `missing-column`: the body lacks a column: any with `PUT`, with `POST`
    /// one that must not be null and has no default.
    #[error("The body lacks a column that it has to have")]
    MissingColumn,
    /// `columns`: the body changes a column that the route doesn't defer.
    #[error("The body changes a column that is not among the route's \"columns\"")]
    Columns,
    /// `computed`: the body changes a column that upstream computes.
    #[error("The body changes a column that upstream computes")]
    Computed,
    /// `empty`: nothing is left to change.
    #[error("The body changes nothing")]
    Empty,
    /// `owner`: the row is not certainly the caller's own, or would not stay so.
    #[error("The row is not certainly the caller's own")]
    Owner,
    /// `row-unknown`: the row could not be read as the caller sees it.
    #[error("The row as the caller sees it is not known")]
    RowUnknown,
    /// `row-not-visible`: the caller sees no such row.
    #[error("The caller sees no row with this key")]
    RowNotVisible,
    /// `row-exists`: a row with the key of a plain insert is known.
    #[error("A row with the inserted key is known")]
    RowExists,
    /// `row-pending`: a write of the row that a plain insert names is queued, whoever's.
    #[error("A write of the row with the inserted key is queued")]
    RowPending,
    /// `row-key`: the row that was read prints its key otherwise than the write spells it.
    #[error("The row prints its key otherwise than the write spells it")]
    RowKey,
    /// `updated-at-value`: the known row's `updated_at` is no time that can be counted on from.
    #[error("The row's \"updated_at\" is not a time that is understood")]
    UpdatedAtValue,
    /// `representation`: the answer would hold a value that only upstream knows.
    #[error("The answer would hold a value that only upstream knows")]
    Representation,
    /// `queue-full`: the queue has no room.
    #[error("The queue is full")]
    QueueFull,
    /// `caller-queue-full`: the caller's share of the queue has no room.
    #[error("The caller has too many writes in the queue")]
    CallerQueueFull,
    /// `record-too-large`: the write and the row that it is based on are too large for the queue.
    #[error("The write and the row it is based on are too large for the queue")]
    RecordTooLarge,
    /// `row-moved`: other writes of the row were queued while this one was looked at, again and again.
    #[error("Other writes of the row came in meanwhile")]
    RowMoved,
    /// `journal`: the queue takes no writes now, and has certainly not taken this one.
    #[error("The queue takes no writes now")]
    Journal,
}

impl Reason {
    /// The stable name, as `Sluice-Write: forwarded; reason=<name>` has it: a
    /// token of RFC 9651.
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Reason::Header(name) => Cow::Owned(format!("header-{name}")),
            // Whose write is queued is nobody else's business, nor that one is.
            Reason::RowPending => Cow::Borrowed(Reason::RowExists.label()),
            other => Cow::Borrowed(other.label()),
        }
    }

    /// The rule's name without what is the request's own: one of a fixed set,
    /// as metrics want it.
    pub fn label(&self) -> &'static str {
        match self {
            Reason::Method => "method",
            Reason::Token => "token",
            Reason::ApiKey => "api-key",
            Reason::Subject => "subject",
            Reason::Role => "role",
            Reason::TokenLife => "token-life",
            Reason::Header(_) => "header",
            Reason::ContentEncoding => "content-encoding",
            Reason::ContentType => "content-type",
            Reason::ContentProfile => "content-profile",
            Reason::DefaultSchema => "default-schema",
            Reason::Accept => "accept",
            Reason::Prefer => "prefer",
            Reason::Schema => "schema",
            Reason::View => "view",
            Reason::Key => "key",
            Reason::KeyType => "key-type",
            Reason::UpdatedAtColumn => "updated-at-column",
            Reason::Parameter => "parameter",
            Reason::RepeatedParameter => "repeated-parameter",
            Reason::Filter => "filter",
            Reason::KeySpelling => "key-spelling",
            Reason::ColumnsParameter => "columns-parameter",
            Reason::OnConflict => "on-conflict",
            Reason::Select => "select",
            Reason::BodyTooLarge => "body-too-large",
            Reason::NotJson => "not-json",
            Reason::NotAnObject => "not-an-object",
            Reason::RepeatedField => "repeated-field",
            Reason::UnknownColumn => "unknown-column",
            Reason::Value => "value",
            Reason::Null => "null",
            Reason::KeyMissing => "key-missing",
            Reason::KeyChange => "key-change",
            Reason::MissingColumn => "missing-column",
            Reason::Columns => "columns",
            Reason::Computed => "computed",
            Reason::Empty => "empty",
            Reason::Owner => "owner",
            Reason::RowUnknown => "row-unknown",
            Reason::RowNotVisible => "row-not-visible",
            Reason::RowExists => "row-exists",
            Reason::RowPending => "row-pending",
            Reason::RowKey => "row-key",
            Reason::UpdatedAtValue => "updated-at-value",
            Reason::Representation => "representation",
            Reason::QueueFull => "queue-full",
            Reason::CallerQueueFull => "caller-queue-full",
            Reason::RecordTooLarge => "record-too-large",
            Reason::RowMoved => "row-moved",
            Reason::Journal => "journal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_named() {
        let reason = Reason::Header(HeaderName::from_static("x-tenant"));
        assert_eq!((reason.name().as_ref(), reason.label()), ("header-x-tenant", "header"));
        assert_eq!(Reason::TokenLife.name(), "token-life");
    }
}
