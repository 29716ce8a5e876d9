//! What writers are told of their writes: the words of a status and of an
//! event, and what a client that comes back has missed.
//!
//! The stream's format is that of server-sent events (HTML, section 9.2).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::record::KeyPart;
use crate::postgrest::timestamp::{Micros, TimestampKind};
use crate::store::journal::{Event, EventId, Status};
use crate::tag::Relation;

/// What is written where nothing else is, so that nobody in between takes the connection for dead.
pub const HEARTBEAT: &str = ":\n\n";

/// Tells a client to ask for everything again: it can't be said what it missed.
pub const RESYNC: &str = "event: resync\ndata: {}\n\n";

/// For so long it is known what became of a write. A client that was away for
/// nearly as long is told that it may have missed something.
const KNOWN_FOR: i64 = (24 * 60 - 5) * 60 * 1_000_000;

/// By so much the times of two things that happened at once may differ.
const SLACK: i64 = 5_000_000;

/// What the journal keeps with a write for whoever asks about it: the row, its
/// key's values as filters have them.
pub fn label(relation: &Relation, key: &[KeyPart]) -> Bytes {
    let key: Map<String, Value> =
        key.iter().map(|part| (part.column.clone(), Value::from(part.value.as_str()))).collect();
    Bytes::from(json!({ "table": relation.to_string(), "key": key }).to_string())
}

/// A table as clients name it: without the schema where that is the default one.
pub fn table_name<'a>(qualified: &'a str, default_schema: &str) -> &'a str {
    let bare = qualified.strip_prefix(default_schema).and_then(|rest| rest.strip_prefix('.'));
    bare.unwrap_or(qualified)
}

/// What a label says. One that can't be read says nothing.
#[derive(Default, Serialize, Deserialize)]
struct Row {
    table: Option<String>,
    key: Option<Map<String, Value>>,
}

impl Row {
    fn of(label: &[u8], default_schema: &str) -> Self {
        let row: Self = serde_json::from_slice(label).unwrap_or_default();
        Self { table: row.table.map(|table| table_name(&table, default_schema).to_owned()), ..row }
    }
}

/// The JSON of a status.
pub fn status_json(status: &Status, default_schema: &str) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        id: String,
        #[serde(flatten)]
        row: Row,
        state: &'static str,
        reason: Option<&'a str>,
        updated_at: String,
        attempts: u32,
        accepted_at: String,
        ended_at: Option<String>,
    }
    text_of(&Body {
        id: status.id.to_string(),
        row: Row::of(&status.label, default_schema),
        state: status.state.as_str(),
        reason: status.reason.as_deref(),
        updated_at: time(status.updated_at),
        attempts: status.attempts,
        accepted_at: time(status.accepted_at),
        ended_at: status.ended.map(|(at, _)| time(at)),
    })
}

/// The text of something that happened to a write.
pub fn write_text(event: &Event, default_schema: &str) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        id: String,
        #[serde(flatten)]
        row: Row,
        state: &'static str,
        reason: Option<&'a str>,
        at: String,
    }
    let data = text_of(&Data {
        id: event.id.to_string(),
        row: Row::of(&event.label, default_schema),
        state: event.state.as_str(),
        reason: event.reason.as_deref(),
        at: time(event.at),
    });
    format!("id: {}\nevent: write\ndata: {data}\n\n", Position::of(event))
}

/// The text of a write that is still queued. It has no place of its own among
/// the events: whoever asks again is told again.
pub fn queued_text(status: &Status, default_schema: &str) -> String {
    format!("event: write\ndata: {}\n\n", status_json(status, default_schema))
}

/// The text of a change of a table.
pub fn change_text(table: &str, at: Micros) -> String {
    #[derive(Serialize)]
    struct Data<'a> {
        table: &'a str,
        at: String,
    }
    format!("event: change\ndata: {}\n\n", text_of(&Data { table, at: time(at) }))
}

/// The text that makes `position` the place to resume from, and nothing else.
pub fn position_text(position: Position) -> String {
    format!("id: {position}\n\n")
}

/// The text that tells how long to wait before connecting again.
pub fn retry_text(wait: Duration) -> String {
    format!("retry: {}\n\n", wait.as_millis())
}

fn time(at: Micros) -> String {
    at.text(TimestampKind::WithZone)
}

/// Compact JSON: it has no line breaks, so that it fits on one line of an event.
fn text_of(value: &impl Serialize) -> String {
    // Text, numbers and names of fields always have a JSON form.
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned())
}

/// A place among a journal's events. To clients its text is opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The number of the last event before it.
    pub number: EventId,
    /// When that event happened.
    pub at: Micros,
}

impl Position {
    /// The place behind this event.
    pub fn of(event: &Event) -> Self {
        Self { number: event.number, at: event.at }
    }

    /// Whether a write that was accepted at `accepted` may have been queued after it.
    pub fn is_before(self, accepted: Micros) -> bool {
        accepted.0 >= self.at.0.saturating_sub(SLACK)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number.0, self.at.0)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Not the id of an event")]
pub struct NotAPosition;

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let (number, at) = text.split_once('-').ok_or(NotAPosition)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !(digits(number) && digits(at)) {
            return Err(NotAPosition);
        }
        let number = number.parse().map_err(|_| NotAPosition)?;
        let at = at.parse().map_err(|_| NotAPosition)?;
        Ok(Self { number: EventId(number), at: Micros(at) })
    }
}

/// Where a client's stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Now: it hasn't had one before.
    Fresh,
    /// Behind what it has seen.
    After(Position),
    /// Now, and what it missed can't be told.
    Lost,
}

impl Resume {
    /// Where a client goes on that has last seen the event `last`, as its text.
    /// `latest` is the journal's last event, where one is known.
    pub fn of(last: Option<&str>, latest: Option<Position>, now: Micros) -> Self {
        let Some(last) = last.filter(|last| !last.is_empty()) else { return Self::Fresh };
        let Ok(position) = last.parse::<Position>() else { return Self::Lost };
        if latest == Some(position) {
            // However long ago that was, nothing has happened since.
            return Self::After(position);
        }
        // Numbers that were never given are another journal's.
        let is_foreign = latest.is_some_and(|latest| position.number >= latest.number);
        let is_too_old = position.at.0 < now.0.saturating_sub(KNOWN_FOR);
        if is_foreign || is_too_old { Self::Lost } else { Self::After(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::journal::{CallerId, EndState, RowId, Seq, State, TableId, WriteId};

    const NOW: Micros = Micros(1_769_904_000_000_000);

    fn users(value: &str) -> Bytes {
        let key = [KeyPart { column: "id".to_owned(), value: value.to_owned() }];
        label(&Relation::new("public", "users"), &key)
    }

    fn event(number: u64, label: Bytes) -> Event {
        Event {
            number: EventId(number),
            caller: CallerId([1; 16]),
            id: WriteId(7),
            table: TableId([2; 16]),
            row: RowId([3; 16]),
            state: State::Ended(EndState::Rejected),
            reason: Some("too_old".to_owned()),
            at: NOW,
            label,
        }
    }

    fn status(state: State, ended: Option<(Micros, EventId)>) -> Status {
        Status {
            id: WriteId(7),
            seq: Seq(1),
            caller: CallerId([1; 16]),
            table: TableId([2; 16]),
            row: RowId([3; 16]),
            is_insert: false,
            state,
            reason: None,
            updated_at: Micros(NOW.0 + 1),
            accepted_at: NOW,
            ended,
            attempts: 3,
            label: users("5"),
            detail: Bytes::from_static(b"{\"body\":\"secret\"}"),
        }
    }

    /// The fields of each event of a text, as a client reads them.
    fn read(text: &str) -> Vec<Vec<(&str, &str)>> {
        let blocks = text.strip_suffix("\n\n").unwrap().split("\n\n");
        blocks.map(|block| block.lines().map(|line| line.split_once(": ").unwrap()).collect()).collect()
    }

    #[test]
    fn a_status_says_what_a_writer_may_know() {
        let id = "00000000-0000-0000-0000-000000000007";
        let queued: serde_json::Value =
            serde_json::from_str(&status_json(&status(State::Queued, None), "public")).unwrap();
        let expected = serde_json::json!({
            "id": id, "table": "users", "key": {"id": "5"}, "state": "queued", "reason": null,
            "updated_at": "2026-02-01T00:00:00.000001+00:00", "attempts": 3,
            "accepted_at": "2026-02-01T00:00:00+00:00", "ended_at": null,
        });
        assert_eq!(queued, expected);
        let ended = status(State::Ended(EndState::Applied), Some((NOW, EventId(9))));
        let ended: serde_json::Value = serde_json::from_str(&status_json(&ended, "other")).unwrap();
        assert_eq!(ended["table"], "public.users", "its schema isn't the default one");
        assert_eq!(
            (&ended["state"], &ended["ended_at"]),
            (&"applied".into(), &"2026-02-01T00:00:00+00:00".into())
        );
    }

    #[test]
    fn an_event_is_one_block_with_its_position() {
        let text = write_text(&event(42, users("line\nbreak\r\n\nevent: x")), "public");
        let [block] = &read(&text)[..] else { panic!("{text}") };
        let names: Vec<&str> = block.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["id", "event", "data"]);
        assert_eq!((block[0].1, block[1].1), ("42-1769904000000000", "write"));
        let data: serde_json::Value = serde_json::from_str(block[2].1).unwrap();
        assert_eq!(data["key"]["id"], "line\nbreak\r\n\nevent: x");
        assert_eq!((&data["state"], &data["reason"]), (&"rejected".into(), &"too_old".into()));
    }

    #[test]
    fn the_other_texts_are_whole_blocks() {
        let change = change_text("users", NOW);
        assert_eq!(
            change,
            "event: change\ndata: {\"table\":\"users\",\"at\":\"2026-02-01T00:00:00+00:00\"}\n\n"
        );
        let others = [
            RESYNC.to_owned(),
            queued_text(&status(State::Queued, None), "public"),
            position_text(Position { number: EventId(1), at: NOW }),
            retry_text(Duration::from_millis(1500)),
        ];
        for text in others {
            assert_eq!(read(&text).len(), 1, "{text}");
        }
        assert!(HEARTBEAT.starts_with(':') && HEARTBEAT.ends_with("\n\n"));
    }

    #[test]
    fn a_label_that_cant_be_read_says_nothing() {
        let text = write_text(&event(1, Bytes::from_static(b"{\"x\":\n")), "public");
        let data: serde_json::Value = serde_json::from_str(read(&text)[0][2].1).unwrap();
        assert!(data["table"].is_null() && data["key"].is_null(), "{data}");
    }

    #[test]
    fn a_position_comes_back_from_its_text_and_nothing_else_does() {
        let position = Position { number: EventId(42), at: NOW };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in [
            "",
            "-",
            "42",
            "42-",
            "-42",
            "+42-1",
            "42--1",
            "4 2-1",
            "x-1",
            "42-1-1",
            "99999999999999999999-1",
        ] {
            assert_eq!(text.parse::<Position>(), Err(NotAPosition), "{text}");
        }
    }

    #[test]
    fn a_client_resumes_where_that_is_known() {
        let latest = Some(Position { number: EventId(50), at: NOW });
        let at = |hours: i64| Micros(NOW.0 - hours * 3_600_000_000);
        let text = |number, at| Position { number: EventId(number), at }.to_string();
        let position = Position { number: EventId(42), at: at(23) };
        assert_eq!(Resume::of(None, latest, NOW), Resume::Fresh);
        assert_eq!(Resume::of(Some(""), latest, NOW), Resume::Fresh);
        assert_eq!(Resume::of(Some(&text(42, at(23))), latest, NOW), Resume::After(position));
        assert_eq!(Resume::of(Some(&text(42, at(23))), None, NOW), Resume::After(position));
        let idle = Position { number: EventId(50), at: at(48) };
        assert_eq!(Resume::of(Some(&idle.to_string()), Some(idle), NOW), Resume::After(idle));
        for lost in ["yesterday".to_owned(), text(42, at(24)), text(51, at(0)), text(50, at(1))] {
            assert_eq!(Resume::of(Some(&lost), latest, NOW), Resume::Lost, "{lost}");
        }
    }

    #[test]
    fn what_was_accepted_at_the_same_time_counts_as_queued_since() {
        let position = Position { number: EventId(5), at: NOW };
        assert!(position.is_before(NOW) && position.is_before(Micros(NOW.0 - SLACK)));
        assert!(!position.is_before(Micros(NOW.0 - SLACK - 1)));
    }
}
