//! What a client that comes back has missed of its writes.

use crate::store::journal::{CallerId, Journal, JournalError, State};
use crate::write::events::{Position, queued_text, write_text};

/// More than this is not told one by one.
const MAX_TOLD: usize = 256;
/// Pages of the journal that are looked through.
const MAX_PAGES: usize = 2;

/// The part of the events that a client hasn't seen.
#[derive(Debug, Clone, Copy)]
pub struct Missing {
    /// Whose client it is.
    pub caller: CallerId,
    /// What it has seen last.
    pub after: Position,
    /// The last event that doesn't reach it by itself, where that is known.
    pub until: Option<Position>,
}

impl Missing {
    /// The text of what it missed: the writes that were queued since and still
    /// are, then those that ended. `None`: that is too much to tell.
    ///
    /// # Errors
    ///
    /// [`JournalError`] where the journal can't be read.
    pub async fn read(
        &self,
        journal: &dyn Journal,
        default_schema: &str,
    ) -> Result<Option<String>, JournalError> {
        // In this order a write that ends meanwhile is told twice rather than not at all.
        let Some(queued) = self.queued(journal, default_schema).await? else { return Ok(None) };
        let Some(ended) = self.ended(journal, default_schema).await? else { return Ok(None) };
        Ok(Some(queued + &ended))
    }

    async fn queued(
        &self,
        journal: &dyn Journal,
        default_schema: &str,
    ) -> Result<Option<String>, JournalError> {
        let snapshot = journal.snapshot(self.caller);
        let since: Vec<_> = snapshot.iter().filter(|write| self.after.is_before(write.accepted_at)).collect();
        if since.len() > MAX_TOLD {
            return Ok(None);
        }
        let mut text = String::new();
        for write in since {
            let status = journal.find(write.id).await?;
            if let Some(status) = status.filter(|status| status.state == State::Queued) {
                text.push_str(&queued_text(&status, default_schema));
            }
        }
        Ok(Some(text))
    }

    async fn ended(
        &self,
        journal: &dyn Journal,
        default_schema: &str,
    ) -> Result<Option<String>, JournalError> {
        let is_coming = |number| self.until.is_some_and(|until| number > until.number);
        let (mut text, mut told, mut from) = (String::new(), 0, self.after.number);
        for _ in 0..MAX_PAGES {
            let page = journal.ended_since(self.caller, from, MAX_TOLD).await?;
            for event in page.events.iter().filter(|event| !is_coming(event.number)) {
                told += 1;
                text.push_str(&write_text(event, default_schema));
            }
            if told > MAX_TOLD {
                return Ok(None);
            }
            if !page.more || is_coming(page.next) {
                return Ok(Some(text));
            }
            from = page.next;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use bytes::Bytes;
    use tokio::sync::broadcast;

    use super::*;
    use crate::postgrest::timestamp::Micros;
    use crate::store::journal::{
        Draft, Embedded, EndState, Ended, Event, EventId, Limits, Options, RowId, TableId, Wait, WriteId,
    };
    use crate::tag::Relation;
    use crate::write::events::label;
    use crate::write::record::KeyPart;

    const ANN: CallerId = CallerId([1; 16]);
    const BOB: CallerId = CallerId([2; 16]);
    const START: Position = Position { number: EventId(0), at: Micros(0) };

    struct Setting {
        journal: Embedded,
        events: broadcast::Receiver<Event>,
        _folder: tempfile::TempDir,
    }

    impl Setting {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let limits = Limits { max_writes: 10_000, max_writes_per_caller: 10_000, concurrency: 16 };
            let options = Options {
                folder: folder.path().to_owned(),
                upstream: "https://abc.example".to_owned(),
                limits,
            };
            let journal = Embedded::open(&options).unwrap();
            Self { events: journal.subscribe(), journal, _folder: folder }
        }

        async fn append(&self, id: u128, caller: CallerId) {
            let key = [KeyPart { column: "id".to_owned(), value: id.to_string() }];
            let draft = Draft {
                id: WriteId(id),
                caller,
                table: TableId([7; 16]),
                row: RowId(id.to_be_bytes()),
                is_insert: false,
                floor: None,
                after: None,
                alone: false,
                linger: Duration::ZERO,
                label: label(&Relation::new("public", "users"), &key),
                record: Bytes::from_static(b"record"),
            };
            self.journal.append(draft).await.unwrap();
        }

        /// Ends all writes that can be claimed.
        async fn end_all(&self) {
            for claim in self.journal.claim(1000, Instant::now()).await.unwrap() {
                let end = |seq| Ended {
                    seq,
                    state: EndState::Applied,
                    reason: None,
                    detail: Bytes::new(),
                    echo: None,
                    attempts: 0,
                };
                let ended = claim.members.iter().map(|member| end(member.seq)).collect();
                self.journal.settle(&claim, ended, false).await.unwrap();
                self.journal.release(claim, Wait::Now).await.unwrap();
            }
        }

        /// The place behind the last event.
        async fn last(&mut self) -> Position {
            let mut last = None;
            while let Ok(event) = self.events.try_recv() {
                last = Some(Position::of(&event));
            }
            last.unwrap()
        }

        async fn missed(
            &self,
            caller: CallerId,
            after: Position,
            until: Option<Position>,
        ) -> Option<Vec<String>> {
            let missing = Missing { caller, after, until };
            let text = missing.read(&self.journal, "public").await.unwrap()?;
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            Some(
                data.map(|data| {
                    let data: serde_json::Value = serde_json::from_str(data).unwrap();
                    assert_eq!(data["table"], "users");
                    format!("{} {}", data["key"]["id"].as_str().unwrap(), data["state"].as_str().unwrap())
                })
                .collect(),
            )
        }
    }

    #[tokio::test]
    async fn a_client_is_told_what_was_queued_and_what_ended_since() {
        let mut setting = Setting::new();
        setting.append(1, ANN).await;
        setting.append(2, BOB).await;
        let seen = setting.last().await;
        setting.end_all().await;
        setting.append(3, ANN).await;
        assert_eq!(setting.missed(ANN, seen, None).await.unwrap(), ["3 queued", "1 applied"]);
        assert_eq!(setting.missed(BOB, seen, None).await.unwrap(), ["2 applied"]);
        let up_to_date = setting.last().await;
        // It is still queued, and was just now: said once more.
        assert_eq!(setting.missed(ANN, up_to_date, Some(up_to_date)).await.unwrap(), ["3 queued"]);
        assert_eq!(setting.missed(BOB, up_to_date, Some(up_to_date)).await.unwrap(), Vec::<String>::new());
    }

    #[tokio::test]
    async fn what_comes_by_itself_is_not_told_as_missed() {
        let mut setting = Setting::new();
        setting.append(1, ANN).await;
        setting.end_all().await;
        let until = setting.last().await;
        setting.append(2, ANN).await;
        setting.end_all().await;
        assert_eq!(setting.missed(ANN, START, Some(until)).await.unwrap(), ["1 applied"]);
    }

    #[tokio::test]
    async fn what_is_too_much_is_not_told() {
        let setting = Setting::new();
        for id in 0..=MAX_TOLD as u128 {
            setting.append(id, ANN).await;
            if id + 1 == MAX_TOLD as u128 {
                assert_eq!(setting.missed(ANN, START, None).await.unwrap().len(), MAX_TOLD);
            }
        }
        assert_eq!(setting.missed(ANN, START, None).await, None);
        while setting.journal.depth().writes > 0 {
            setting.end_all().await;
        }
        assert_eq!(setting.missed(ANN, START, None).await, None);
        assert_eq!(setting.missed(BOB, START, None).await.unwrap(), Vec::<String>::new());
    }
}
