//! Standing in for a node that fell silent.

use std::collections::HashSet;
use std::time::Duration;

use redis::Value;

use super::note::{Noted, decode};
use super::{BURY, MAX_NOTES, RECALL, SILENCE, Shared, StandIn, member};
use crate::store::error::StoreError;
use crate::tag::{Tag, TagId};

/// For one script.
const DEADLINE: Duration = Duration::from_secs(1);

/// About how many notes are read at once.
const PIECE: usize = 256;

/// Pieces read at most: four times as many as a node's notes should take.
const MAX_PIECES: usize = 4 * MAX_NOTES / PIECE;

/// The hold of a note that can't be read: longer than most writes take.
pub(super) const UNREADABLE: Duration = Duration::from_secs(60);

/// More tags than this are invalidated as [`Tag::All`].
const MAX_TAGS: usize = 65_536;

/// Invalidates what the notes of `node` name, then forgets it.
///
/// # Errors
///
/// It is not forgotten.
pub(super) async fn stand_in_for(node: u64, shared: &Shared, stand_in: &StandIn) -> Result<(), StoreError> {
    if let Some(Noted { tags, hold }) = read_notes(node, shared).await? {
        stand_in(tags, hold).await?;
    }
    let silence = SILENCE.as_millis().to_string();
    let arguments = [member(node), silence];
    let arguments = arguments.each_ref().map(String::as_bytes);
    shared.commands.run(&BURY, &shared.keys_of(node), &arguments, DEADLINE).await.map(drop)
}

/// What the node's notes name together. `None`: it has none.
async fn read_notes(node: u64, shared: &Shared) -> Result<Option<Noted>, StoreError> {
    let key = [shared.names.notes(node)];
    let count = PIECE.to_string();
    let mut union = Union::default();
    let mut cursor = b"0".to_vec();
    for _ in 0..MAX_PIECES {
        let arguments = [cursor.as_slice(), count.as_bytes()];
        let answer = shared.commands.run(&RECALL, &key, &arguments, DEADLINE).await?;
        let [_, Value::BulkString(next), pairs @ ..] = answer.as_slice() else {
            return Err(StoreError::Broken("an answer has no cursor".into()));
        };
        for pair in pairs.chunks(2) {
            union.add(pair.get(1));
        }
        if next == b"0" {
            return Ok(union.noted());
        }
        cursor.clone_from(next);
    }
    union.add(None);
    Ok(union.noted())
}

/// Notes taken together.
#[derive(Default)]
pub(super) struct Union {
    tags: HashSet<TagId>,
    hold: Duration,
    everything: bool,
}

impl Union {
    /// Adds a note. One that can't be read may have named anything.
    pub(super) fn add(&mut self, note: Option<&Value>) {
        let noted = match note {
            Some(Value::BulkString(bytes)) => decode(bytes),
            _ => None,
        };
        let noted = noted.unwrap_or_else(|| Noted { tags: vec![Tag::All.id()], hold: UNREADABLE });
        self.hold = self.hold.max(noted.hold);
        self.everything |= self.tags.len() + noted.tags.len() > MAX_TAGS;
        if !self.everything {
            self.tags.extend(noted.tags);
        }
    }

    /// What they name, with the longest hold. `None` if there were none.
    pub(super) fn noted(self) -> Option<Noted> {
        let everything = self.everything || self.tags.contains(&Tag::All.id());
        let tags: Vec<TagId> = if everything { vec![Tag::All.id()] } else { self.tags.into_iter().collect() };
        (!tags.is_empty()).then_some(Noted { tags, hold: self.hold })
    }
}
