//! What the journal asks of Redis that takes more than a line, and how its answers are read.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::super::id::{CallerId, EventId, Seq};
use super::super::{
    AppendError, Appended, Claim, Draft, Ended, Event, JournalError, MAX_MEMBERS, Member, Pending, Status,
    Wait,
};
use super::reply::Reply;
use super::server::Failure;
use super::wire::{self, LaneState, Malformed, Reader, lane_bytes};
use super::{ECHO, InRedis, PAGE, flag, malformed, millis, scripts};

/// Bytes of records from which on a claim takes no more members.
const CLAIM_BYTES: usize = 1024 * 1024;

/// Parked lanes that are kept although they are empty.
const MAX_PARKED: usize = 100_000;

impl InRedis {
    pub(super) async fn try_append(&self, draft: &Draft) -> Result<Result<Appended, AppendError>, Failure> {
        let limits = *self.limits.lock();
        let after = draft.after.map_or(Vec::new(), |seq| seq.0.to_be_bytes().to_vec());
        let floor = draft.floor.map_or(0, |floor| floor.0.max(0));
        let numbers = [
            millis(draft.linger),
            limits.max_writes as u64,
            limits.max_writes_per_caller as u64,
            floor.unsigned_abs() / 1_000_000,
            floor.unsigned_abs() % 1_000_000,
        ];
        let numbers = numbers.map(|number| number.to_string());
        let (head, body) = (wire::head(draft), wire::body(draft));
        let mut arguments = vec![head.as_slice(), &body, &after, flag(draft.alone)];
        arguments.extend(numbers.iter().map(String::as_bytes));
        let mut reply = self.server.run(&scripts::APPEND, &arguments).await?;
        let refusal = match reply.bytes()?.as_slice() {
            b"queued" => {
                let seq = Seq(Reader(&reply.bytes()?).number()?);
                let (accepted_at, updated_at) = Reader(&reply.bytes()?).times()?;
                let change = reply.number()?;
                self.server.confirm(reply.replication).await?;
                self.mirror.reached(change, ECHO).await;
                return Ok(Ok(Appended { seq, updated_at, accepted_at }));
            }
            b"moved" => AppendError::Moved,
            b"busy" => AppendError::RowBusy,
            b"full" => AppendError::Full,
            b"caller_full" => AppendError::CallerFull,
            _ => AppendError::Unavailable("it was cancelled".to_owned()),
        };
        Ok(Err(refusal))
    }

    pub(super) async fn take(&self, most: usize, now: Instant) -> Result<Vec<Claim>, Failure> {
        let ahead = millis(now.saturating_duration_since(Instant::now()));
        let share = (self.limits.lock().concurrency * 3 / 4).max(1);
        let numbers = [most as u64, ahead, share as u64, MAX_MEMBERS as u64, CLAIM_BYTES as u64];
        let numbers = numbers.map(|number| number.to_string());
        let in_flight: Vec<_> = self
            .holding
            .by_caller()
            .into_iter()
            .map(|(caller, count)| (caller.0, count.to_string()))
            .collect();
        let mut arguments: Vec<&[u8]> = vec![&self.node];
        arguments.extend(numbers.iter().map(String::as_bytes));
        arguments.extend(in_flight.iter().flat_map(|(caller, count)| [caller.as_slice(), count.as_bytes()]));

        let _turn = self.holding.turn().await;
        let mut reply = self.server.run(&scripts::CLAIM, &arguments).await?;
        let change = reply.number()?;
        let mut taken = reply.list()?;
        let mut claims = Vec::new();
        while !taken.is_empty() {
            claims.push(claim(&mut taken.list()?)?);
        }
        for claim in &claims {
            self.holding.add(claim.lane, claim.number);
        }
        self.mirror.reached(change, ECHO).await;
        Ok(claims)
    }

    pub(super) async fn end(
        &self,
        claim: &Claim,
        ended: &[Ended],
        final_only: bool,
    ) -> Result<Reply, Failure> {
        let (lane, number) = (lane_bytes(claim.lane), claim.number.to_be_bytes());
        let mut parts = Vec::with_capacity(4 * ended.len());
        for end in ended {
            let echo = end.echo.as_deref().unwrap_or_default().as_bytes().to_vec();
            let letter = vec![wire::letter(end.state)];
            parts.extend([end.seq.0.to_be_bytes().to_vec(), letter, wire::ending(end), echo]);
        }
        let mut arguments: Vec<&[u8]> = vec![&lane, &number, flag(final_only)];
        arguments.extend(parts.iter().map(Vec::as_slice));
        self.change(&scripts::SETTLE, &arguments, true).await
    }

    pub(super) async fn give_back(&self, claim: &Claim, wait: Wait) -> Result<(), Failure> {
        let until = |at: Instant| millis(at.saturating_duration_since(Instant::now()));
        let (kind, delay, rights, confirm): (&[u8], _, _, _) = match wait {
            Wait::Now => (b"N", 0, [0; 16], false),
            Wait::Until(at) => (b"U", until(at), [0; 16], false),
            Wait::Counted(at) => (b"K", until(at), [0; 16], true),
            Wait::Older => (b"O", 0, [0; 16], false),
            Wait::Token { rights, until: at } => (b"T", until(at), rights, false),
            Wait::Parked => (b"P", 0, [0; 16], true),
        };
        let (lane, number) = (lane_bytes(claim.lane), claim.number.to_be_bytes());
        let (delay, most) = (delay.to_string(), MAX_PARKED.to_string());
        let arguments: [&[u8]; 6] = [&lane, &number, kind, delay.as_bytes(), &rights, most.as_bytes()];
        self.change(&scripts::RELEASE, &arguments, confirm).await.map(drop)
    }

    pub(super) async fn missed(
        &self,
        caller: CallerId,
        after: EventId,
    ) -> Result<(Option<EventId>, Vec<Event>), JournalError> {
        let (first, page) = (after.0.saturating_add(1).to_string(), PAGE.to_string());
        let mut reply = self.read(&scripts::MISSED, &[&caller.0, first.as_bytes(), page.as_bytes()]).await?;
        let upto = reply.bytes().map_err(malformed)?;
        let upto = std::str::from_utf8(&upto).ok().and_then(|text| text.parse().ok()).map(EventId);
        let mut list = reply.list().map_err(malformed)?;
        let mut events = Vec::new();
        while !list.is_empty() {
            let event = list.bytes().and_then(|bytes| Reader(&bytes).event());
            events.push(event.map_err(malformed)?.1);
        }
        Ok((upto, events))
    }
}

fn claim(taken: &mut Reply) -> Result<Claim, Malformed> {
    let lane = wire::lane(&taken.bytes()?)?;
    let number = Reader(&taken.bytes()?).number()?;
    let attempts = u32::try_from(taken.number()?).map_err(|_| Malformed)?;
    let echo = String::from_utf8(taken.bytes()?).map_err(|_| Malformed)?;
    let mut members = Vec::new();
    while !taken.is_empty() {
        let seq = Seq(Reader(&taken.bytes()?).number()?);
        let write = Reader(&taken.bytes()?).entry(seq)?;
        let record = wire::record(taken.bytes()?)?;
        let Pending { id, updated_at, accepted_at, .. } = write;
        members.push(Member { seq, id, updated_at, accepted_at, record });
    }
    Ok(Claim { lane, number, attempts, members, echo: (!echo.is_empty()).then_some(echo) })
}

/// How a write is that was found, and its record if that was kept.
pub(super) fn found(state: &[u8], reply: &mut Reply) -> Result<(Status, Bytes), Malformed> {
    let letter = *state.first().ok_or(Malformed)?;
    let number = Reader(&reply.bytes()?).number()?;
    let row = reply.bytes()?;
    if letter != b'Q' {
        return wire::ended_status(wire::end_state(letter)?, EventId(number), &row);
    }
    let attempts = u32::try_from(reply.number()?).map_err(|_| Malformed)?;
    let status = wire::queued_status(Seq(number), &row, attempts, &reply.bytes()?)?;
    Ok((status, Bytes::new()))
}

/// A caller's queued writes.
pub(super) fn snapshot(reply: &mut Reply) -> Result<Arc<[Pending]>, Malformed> {
    let mut writes = Vec::new();
    while !reply.is_empty() {
        let seq = Seq(Reader(&reply.bytes()?).number()?);
        let write = Reader(&reply.bytes()?).entry(seq)?;
        let state = LaneState::read(&reply.bytes()?)?;
        writes.push(Pending { lane_is_stuck: state.is_some_and(LaneState::is_stuck), ..write });
    }
    Ok(writes.into())
}
