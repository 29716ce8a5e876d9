//! `/sluice/v1/writes/<id>`: what became of a deferred write, for its writer alone.

use std::time::SystemTime;

use http::HeaderMap;

use super::problem::Problem;
use super::visitor::{Bearer, Visitor};
use crate::proxy::gateway::{Gateway, Settings};
use crate::store::journal::{Journal, WriteId};
use crate::write::events::status_json;

/// The status of the write named `id`, as JSON.
///
/// # Errors
///
/// [`Problem`]. Who isn't the writer is told the same as if there were no such write.
pub async fn answer(
    gateway: &Gateway,
    settings: &Settings,
    headers: &HeaderMap,
    id: &str,
) -> Result<String, Problem> {
    let visitor = Bearer::of_headers(headers)
        .visitor(&settings.authenticator, SystemTime::now())
        .map_err(Problem::unauthorized)?;
    let Some(queue) = &gateway.queue else { return Err(Problem::no_write()) };
    find(queue.journal.as_ref(), &visitor, id, &settings.config.upstream.default_schema).await
}

async fn find(
    journal: &dyn Journal,
    visitor: &Visitor,
    id: &str,
    default_schema: &str,
) -> Result<String, Problem> {
    let id: WriteId = id.parse().map_err(|_| Problem::no_write())?;
    match journal.find(id).await {
        Ok(Some(status)) if status.caller == visitor.caller => Ok(status_json(&status, default_schema)),
        Ok(_) => Err(Problem::no_write()),
        Err(error) => {
            tracing::warn!(%error, "status of a write not read");
            Err(Problem::no_journal())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::store::journal::{CallerId, Draft, Embedded, Limits, Options, RowId, TableId};

    const ANN: CallerId = CallerId([1; 16]);
    const BOB: CallerId = CallerId([2; 16]);
    const ID: WriteId = WriteId(0x0189_0000_0000_7000_8000_0000_0000_0001);

    async fn ask(journal: &Embedded, caller: CallerId, id: &str) -> Result<serde_json::Value, u16> {
        let visitor = Visitor { caller, expires: None };
        let status =
            find(journal, &visitor, id, "public").await.map_err(|problem| problem.status.as_u16())?;
        Ok(serde_json::from_str(&status).unwrap())
    }

    #[tokio::test]
    async fn a_status_is_its_writers_alone() {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits { max_writes: 10, max_writes_per_caller: 10, concurrency: 1 };
        let upstream = "https://abc.example".to_owned();
        let journal =
            Embedded::open(&Options { folder: folder.path().to_owned(), upstream, limits }).unwrap();
        let draft = Draft {
            id: ID,
            caller: ANN,
            table: TableId([7; 16]),
            row: RowId([8; 16]),
            is_insert: false,
            floor: None,
            after: None,
            alone: false,
            linger: Duration::ZERO,
            label: Bytes::new(),
            record: Bytes::from_static(b"record"),
        };
        journal.append(draft).await.unwrap();
        let id = ID.to_string();
        let status = ask(&journal, ANN, &id).await.unwrap();
        assert_eq!((&status["id"], &status["state"]), (&id.as_str().into(), &"queued".into()));
        assert_eq!(ask(&journal, BOB, &id).await, Err(404), "somebody else's");
        let unknown = WriteId(ID.0 + 1).to_string();
        for id in [unknown.as_str(), "x", ""] {
            assert_eq!(ask(&journal, ANN, id).await, Err(404), "{id}");
        }
        journal.close().await;
        assert_eq!(ask(&journal, ANN, &id).await, Err(503), "nobody knows");
    }
}
