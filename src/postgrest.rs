//! PostgREST's dialect: what a request's query, preferences and body say, what
//! the schema's description says, and from both the tables and rows that a
//! request reads or changes.
//!
//! Everything here is pure: bytes in, answers out.

pub mod footprint;
pub mod object;
pub mod prefer;
pub mod query;
pub mod row;
pub mod schema;
pub mod select;
pub mod timestamp;
pub mod value;

mod filter;

/// Whether an answer with this `Content-Range` has no rows: PostgREST then
/// writes `*` where the first and last row's positions would stand.
pub fn is_empty_answer(content_range: Option<&str>) -> bool {
    content_range.is_some_and(|value| value.starts_with("*/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_star_for_the_range_is_empty() {
        for (content_range, empty) in [
            (Some("*/0"), true),
            (Some("*/*"), true),
            (Some("*/7"), true),
            (Some("0-0/*"), false),
            (Some("0-24/25"), false),
            (Some("bytes */7"), false),
            (None, false),
        ] {
            assert_eq!(is_empty_answer(content_range), empty, "{content_range:?}");
        }
    }
}
