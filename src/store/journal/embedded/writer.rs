//! The writer thread: takes what has come in, makes it durable with one commit, answers.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::super::disk::{Changes, DiskError};
use super::super::id::{EventId, LaneId};
use super::super::queue::{Ahead, EchoChange, Entry, Gone, Mark, Queue, Staged};
use super::super::{AppendError, Appended, Draft, Ended, Event, JournalError, Settled, State, Wait};
use super::Shared;
use crate::postgrest::timestamp::Micros;

/// Messages in one commit at most.
const MAX_BATCH: usize = 512;

/// Bytes of records in one commit, from which on no more are taken.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How long ends of writes wait for others, to become durable with them, and how often it is looked.
const GATHERING: Duration = Duration::from_millis(1);
const LOOK: Duration = Duration::from_micros(200);

type Reply<T> = oneshot::Sender<T>;

/// What the writer is asked to do.
pub enum Message {
    Append {
        draft: Draft,
        reply: Reply<Result<Appended, AppendError>>,
    },
    Settle {
        lane: LaneId,
        number: u64,
        ended: Vec<Ended>,
        final_only: bool,
        reply: Reply<Result<Settled, JournalError>>,
    },
    Release {
        lane: LaneId,
        number: u64,
        wait: Wait,
        reply: Reply<Result<(), JournalError>>,
    },
    Unpark {
        lane: LaneId,
        reply: Reply<Result<bool, JournalError>>,
    },
    /// Answered once all that was sent before is durable.
    Barrier {
        reply: Reply<()>,
    },
    /// As `Barrier`; then the file is closed.
    Close {
        reply: Reply<()>,
    },
}

impl Message {
    /// Whether no client waits for it: ends of writes come in groups then.
    fn may_wait(&self) -> bool {
        matches!(self, Self::Settle { .. } | Self::Release { .. })
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Append { draft, .. } => draft.record.len() + draft.label.len(),
            Self::Settle { ended, .. } => ended.iter().map(|ended| ended.detail.len()).sum(),
            _ => 0,
        }
    }
}

/// The writer's side of the journal.
pub struct Writer {
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Message>,
    next_event: EventId,
}

/// What was judged and waits for the commit.
#[derive(Default)]
struct Batch {
    appends: Vec<Append>,
    settled: Vec<Settlement>,
    gone: Vec<Gone>,
    marks: Vec<Mark>,
    unparked: Vec<LaneId>,
    /// What else is answered once it is durable.
    answers: Vec<Answer>,
    close: Option<Reply<()>>,
}

type Answer = Box<dyn FnOnce(Result<(), JournalError>) + Send>;

struct Settlement {
    ended: Vec<Ended>,
    reply: Reply<Result<Settled, JournalError>>,
}

struct Append {
    draft: Draft,
    appended: Appended,
    entry: Entry,
    ahead: Option<Ahead>,
    reply: Reply<Result<Appended, AppendError>>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, inbox: mpsc::Receiver<Message>, next_event: EventId) -> Self {
        Self { shared, inbox, next_event }
    }

    /// Works until it is told to close, or nobody is left to tell it anything.
    pub fn run(mut self) {
        let _stopped = Stopped(self.shared.clone());
        while let Some(first) = self.inbox.blocking_recv() {
            let messages = self.take(first);
            if let Some(reply) = self.turn(messages) {
                self.inbox.close();
                while let Some(message) = self.inbox.blocking_recv() {
                    refuse(message, &JournalError::Closed);
                }
                self.shared.disk.close();
                let _ = reply.send(());
                return;
            }
        }
        self.shared.disk.close();
    }

    fn take(&mut self, first: Message) -> Vec<Message> {
        let (mut bytes, mut may_wait) = (first.bytes(), first.may_wait());
        let mut messages = vec![first];
        let until = Instant::now() + GATHERING;
        while messages.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            match self.inbox.try_recv() {
                Ok(message) => {
                    bytes += message.bytes();
                    may_wait &= message.may_wait();
                    messages.push(message);
                }
                Err(TryRecvError::Empty) if may_wait && Instant::now() < until => std::thread::sleep(LOOK),
                Err(_) => break,
            }
        }
        messages
    }

    fn turn(&mut self, messages: Vec<Message>) -> Option<Reply<()>> {
        let mut batch = Batch::default();
        let failure = self.shared.failure();
        let now = self.shared.now();
        let mut queue = self.shared.queue.lock();
        let time = queue.time(Micros::of(now));
        for message in messages {
            match (&failure, message) {
                (_, Message::Close { reply }) => batch.close = Some(reply),
                (Some(error), message) => refuse(message, error),
                (None, message) => batch.judge(&mut queue, message, now),
            }
        }
        let forgotten = if failure.is_none() { queue.sweep() } else { Vec::new() };
        let (clock, next_seq) = queue.marks();
        drop(queue);

        let mut changes = batch.changes(self.next_event, time);
        changes.ahead.extend(forgotten.into_iter().map(|row| (row, None)));
        (changes.clock, changes.next_seq) = (clock.0, next_seq.0);
        let first_event = EventId(self.next_event.0 + changes.ends.len() as u64);
        changes.next_event = first_event.0 + changes.appends.len() as u64;
        self.next_event = EventId(changes.next_event);
        let committed = if changes.is_empty() { Ok(Vec::new()) } else { self.shared.disk.commit(&changes) };
        drop(changes);
        match committed {
            Ok(events) => batch.succeed(&self.shared, events, first_event),
            Err(error) => {
                self.shared.fail(&error);
                batch.fail(&error, &self.shared);
                None
            }
        }
    }
}

impl Batch {
    fn judge(&mut self, queue: &mut Queue, message: Message, now: SystemTime) {
        match message {
            Message::Append { draft, reply } => match queue.stage(&draft, Micros::of(now)) {
                Ok(Staged::New(appended, ahead)) => {
                    let entry = Entry::new(&draft, &appended);
                    self.appends.push(Append { draft, appended, entry, ahead, reply });
                }
                Ok(Staged::Known(appended)) => drop(reply.send(Ok(appended))),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Settle { lane, number, ended, final_only, reply } => {
                match queue.end(lane, number, &ended, final_only) {
                    Ok(gone) => {
                        self.gone.extend(gone);
                        self.settled.push(Settlement { ended, reply });
                    }
                    Err(settled) => drop(reply.send(Ok(settled))),
                }
            }
            Message::Release { lane, number, wait, reply } => {
                self.marks.push(queue.release(lane, number, wait, Instant::now()));
                self.answers.push(Box::new(move |result| drop(reply.send(result))));
            }
            Message::Unpark { lane, reply } => {
                let was_parked = queue.unpark(lane);
                self.unparked.extend(was_parked.then_some(lane));
                self.answers.push(Box::new(move |result| drop(reply.send(result.map(|()| was_parked)))));
            }
            Message::Barrier { reply } => self.answers.push(Box::new(move |_| {
                let _ = reply.send(());
            })),
            Message::Close { reply } => self.close = Some(reply),
        }
    }

    fn changes(&self, next_event: EventId, time: Micros) -> Changes<'_> {
        let mut changes = Changes::default();
        for append in &self.appends {
            changes.appends.push((append.appended.seq, append.entry, &append.draft));
            changes.ahead.extend(append.ahead.map(|ahead| (append.draft.row, Some(ahead))));
        }
        let ends = self.settled.iter().flat_map(|settlement| &settlement.ended);
        changes.ends =
            ends.zip(next_event.0..).map(|(ended, number)| (EventId(number), time, ended)).collect();
        for mark in &self.marks {
            match mark {
                Mark::None => {}
                Mark::Attempts(seq, attempts) => changes.attempts.push((*seq, *attempts)),
                Mark::Parked(lane) => changes.parked.push((*lane, true)),
            }
        }
        changes.parked.extend(self.unparked.iter().map(|lane| (*lane, false)));
        for gone in &self.gone {
            if gone.entry.attempts > 0 {
                changes.attempts.push((gone.seq, 0));
            }
            match &gone.echo {
                EchoChange::None => {}
                EchoChange::Keep(echo) => changes.echoes.push((gone.entry.row, Some(echo.clone()))),
                EchoChange::Drop => changes.echoes.push((gone.entry.row, None)),
            }
        }
        changes
    }

    /// It is durable: what was appended becomes visible, then all are told.
    fn succeed(self, shared: &Shared, mut events: Vec<Event>, first_event: EventId) -> Option<Reply<()>> {
        let now = Instant::now();
        let mut queue = shared.queue.lock();
        queue.forget(&self.gone);
        for gone in &self.gone {
            shared.presence.remove(gone.entry.caller);
        }
        for append in &self.appends {
            shared.presence.add(append.draft.caller);
            let lingers_until = (!append.draft.linger.is_zero()).then(|| now + append.draft.linger);
            queue.accept(append.appended.seq, append.entry, lingers_until);
        }
        drop(queue);

        let numbered = self.appends.iter().zip(first_event.0..);
        events.extend(numbered.map(|(append, number)| append.event(EventId(number))));
        for event in events {
            // Nobody may be listening.
            let _ = shared.events.send(event);
        }
        shared.changed.send_modify(|changes| *changes += 1);
        for append in self.appends {
            let _ = append.reply.send(Ok(append.appended));
        }
        for settlement in self.settled {
            let _ = settlement.reply.send(Ok(Settled::Done));
        }
        for answer in self.answers {
            answer(Ok(()));
        }
        self.close
    }

    fn fail(self, error: &DiskError, shared: &Shared) {
        let failure = shared.failure().unwrap_or(JournalError::Closed);
        for append in self.appends {
            let _ = append.reply.send(Err(match error {
                DiskError::InDoubt(_) => AppendError::Unknown,
                _ => of_failure(&failure),
            }));
        }
        for settlement in self.settled {
            let _ = settlement.reply.send(Err(failure.clone()));
        }
        for answer in self.answers {
            answer(Err(failure.clone()));
        }
        shared.changed.send_modify(|changes| *changes += 1);
    }
}

impl Append {
    fn event(&self, number: EventId) -> Event {
        Event {
            number,
            caller: self.draft.caller,
            id: self.draft.id,
            table: self.draft.table,
            row: self.draft.row,
            state: State::Queued,
            reason: None,
            at: self.appended.accepted_at,
            label: self.draft.label.clone(),
        }
    }
}

/// What an append is told that was certainly not made.
pub fn of_failure(failure: &JournalError) -> AppendError {
    match failure {
        JournalError::Closed => AppendError::Closed,
        JournalError::Unavailable(why) => AppendError::Unavailable(why.clone()),
    }
}

fn refuse(message: Message, failure: &JournalError) {
    match message {
        Message::Append { reply, .. } => drop(reply.send(Err(of_failure(failure)))),
        Message::Settle { reply, .. } => drop(reply.send(Err(failure.clone()))),
        Message::Release { reply, .. } => drop(reply.send(Err(failure.clone()))),
        Message::Unpark { reply, .. } => drop(reply.send(Err(failure.clone()))),
        Message::Barrier { reply } | Message::Close { reply } => {
            let _ = reply.send(());
        }
    }
}

/// Says so if the thread ends otherwise than it should.
struct Stopped(Arc<Shared>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail(&"the writer stopped");
        }
    }
}
