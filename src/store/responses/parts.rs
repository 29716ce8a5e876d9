//! What one call can ask for.

use crate::cache::generation::TagSet;
use crate::tag::TagId;

/// The most generations that are asked for at once: others wait meanwhile, and
/// Lua's stack is limited.
pub(super) const MAX_TAGS: usize = 1000;

/// One call that reads generations, and perhaps the entry.
pub(super) struct Part<'a> {
    pub(super) with_entry: bool,
    pub(super) tags: &'a [TagId],
}

/// `tags` in as few lots as can be asked for with one call each. A set's tags
/// ascend, so those of one group are side by side.
pub(super) fn on_one_master(tags: &TagSet, cluster: bool) -> impl Iterator<Item = &[TagId]> {
    let together = move |one: &TagId, next: &TagId| !cluster || one.group() == next.group();
    tags.as_slice().chunk_by(together).flat_map(|group| group.chunks(MAX_TAGS))
}

/// The calls that read an entry and the generations of `tags`, the entry's first.
pub(super) fn parts(tags: &TagSet, cluster: bool) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> =
        on_one_master(tags, cluster).map(|tags| Part { with_entry: false, tags }).collect();
    match parts.first_mut() {
        Some(first) if !cluster => first.with_entry = true,
        _ => parts.insert(0, Part { with_entry: true, tags: &[] }),
    }
    parts
}
