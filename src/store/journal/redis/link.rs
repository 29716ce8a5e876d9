//! The task that follows the journal's changes: subscribes, loads what there is, beats. It
//! also takes what nodes held that are gone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::Event;
use super::super::id::{EventId, Seq};
use super::holding::Holding;
use super::mirror::{Loaded, Mirror};
use super::promise::judge;
use super::reply::Reply;
use super::scripts::{BEAT, DISOWN, LOAD, MISSED, OPEN};
use super::server::{Failure, Server};
use super::view::View;
use super::wire::{self, LaneState, Malformed, Reader, lane_bytes};
use crate::config::{Ack, Topology};
use crate::store::backoff::{Backoff, chance};
use crate::store::connect::{BusConnection, Connector};
use crate::store::error::StoreError;
use crate::store::stamp::ReplicationId;

/// Between the sending of two beats.
const BEAT_INTERVAL: Duration = Duration::from_millis(250);

/// A node that has not beaten for so long is gone.
pub const SILENCE: Duration = Duration::from_millis(3500);

/// A beat that comes so late, or is answered so late, says that time was lost: nobody's silence means anything then.
const STEADY: Duration = Duration::from_secs(1);

/// Changes that are told this much later than they are known of are told elsewhere.
const LATE: Duration = Duration::from_millis(500);

/// Before the journal is loaded again, and the longest that is waited.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Writes or lanes of one page, roughly.
const PAGE: &[u8] = b"1000";

/// Events of each kind that are told of late after a gap.
const MISSED_EVENTS: &[u8] = b"1000";

/// The latest format of the journal that this version knows, and the one that it makes.
const FORMAT: &str = "1";

/// How far joining the journal has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// It goes on.
    NotYet,
    /// The node follows.
    Yes,
    /// It was made for this other upstream.
    Foreign(String),
}

/// What the task works with.
pub struct Link {
    pub connector: Arc<Connector>,
    pub server: Arc<Server>,
    pub mirror: Arc<Mirror>,
    pub holding: Arc<Holding>,
    pub node: [u8; 8],
    pub upstream: String,
    pub ack: Ack,
    pub topology: Topology,
    pub joined: watch::Sender<Joined>,
}

impl Link {
    /// Follows for good.
    pub async fn run(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut said = None;
        loop {
            let mut has_followed = false;
            let reason = match self.follow(&mut has_followed).await {
                Ok(never) => match never {},
                Err(failure) => failure.reason().clone(),
            };
            self.mirror.unlink();
            if has_followed {
                backoff.reset();
                said = None;
            }
            if said.as_ref() != Some(&reason) {
                tracing::warn!(%reason, "the journal can't be followed");
                said = Some(reason);
            }
            sleep(backoff.wait(chance())).await;
        }
    }

    async fn follow(&self, has_followed: &mut bool) -> Result<Infallible, Failure> {
        let masters = self.connector.masters().await.map_err(Failure::Refused)?;
        let master = masters.first().ok_or(Failure::Refused(StoreError::Unavailable))?;
        let link = self.mirror.link();
        let mirror = self.mirror.clone();
        let on_message = Arc::new(move |bytes: &[u8]| mirror.hear(link, bytes));
        let channel = self.connector.bus(master, self.server.channel(), on_message).await;
        let channel = channel.map_err(Failure::Refused)?;
        self.join().await?;
        let replication = self.load(link).await?;
        *has_followed = true;
        self.joined.send_replace(Joined::Yes);
        self.beat(&channel, replication).await
    }

    /// Sees to it that the journal is ours, and that the server can keep its promise.
    async fn join(&self) -> Result<(), Failure> {
        let mut reply = self.server.run(&OPEN, &[self.upstream.as_bytes(), FORMAT.as_bytes()]).await?;
        let (owner, format) = (text(&mut reply)?, text(&mut reply)?);
        let standing = if owner != self.upstream {
            self.joined.send_replace(Joined::Foreign(owner.clone()));
            Err(format!("the journal belongs to {owner}: set another store.namespace"))
        } else if format != FORMAT {
            Err(format!("the journal has format {format}, this version of Sluice knows {FORMAT}"))
        } else {
            let judged = judge(&self.connector, self.ack, &self.topology).await;
            judged.map_err(Failure::Refused)?
        };
        let is_known_but_unusable = owner != self.upstream || format != FORMAT;
        if self.server.set_standing(standing.clone()) {
            match &standing {
                Ok(_) => tracing::info!(ack = %self.ack, "the journal is in use"),
                Err(reason) => tracing::warn!(reason, "no write is deferred"),
            }
        }
        match standing {
            Err(reason) if is_known_but_unusable => Err(Failure::Refused(StoreError::Refused(reason))),
            _ => Ok(()),
        }
    }

    async fn load(&self, link: u64) -> Result<ReplicationId, Failure> {
        let mut view = View::default();
        let mut first = None;
        for what in ["entries", "lanes"] {
            let mut cursor = b"0".to_vec();
            loop {
                let mut reply = self.server.run(&LOAD, &[what.as_bytes(), &cursor, PAGE]).await?;
                let (change, event) = (reply.number()?, EventId(reply.number()?));
                let (replication, ..) = *first.get_or_insert((reply.replication, change, event));
                same(replication, &reply)?;
                cursor = reply.bytes()?;
                add(&mut view, what, &mut reply.list()?)?;
                if cursor == b"0" {
                    break;
                }
            }
        }
        let (replication, since, last_event) = first.ok_or(Malformed)?;
        let missed = self.missed(replication).await?;
        if self.mirror.loaded(link, Loaded { replication, since, last_event, view, missed }) {
            Ok(replication)
        } else {
            Err(Failure::Refused(StoreError::Broken("changes of the journal were missed".into())))
        }
    }

    /// What ended while nothing was heard.
    async fn missed(&self, replication: ReplicationId) -> Result<Vec<Event>, Failure> {
        let last = self.mirror.last_event();
        if last.0 == 0 {
            return Ok(Vec::new());
        }
        let first = (last.0 + 1).to_string();
        let mut reply = self.server.run(&MISSED, &[b"", first.as_bytes(), MISSED_EVENTS]).await?;
        same(replication, &reply)?;
        reply.bytes()?;
        let mut list = reply.list()?;
        let mut events = Vec::new();
        while !list.is_empty() {
            events.push(Reader(&list.bytes()?).event()?.1);
        }
        events.sort_unstable_by_key(|event| event.number);
        Ok(events)
    }

    async fn beat(&self, channel: &BusConnection, replication: ReplicationId) -> Result<Infallible, Failure> {
        let mut ticks = interval(BEAT_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut steady_since) = (Instant::now(), Instant::now());
        let (mut behind_since, mut had_too_many) = (None, false);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = channel.closed() => return Err(broken("the journal's channel was disconnected")),
                () = self.mirror.gap() => return Err(broken("changes of the journal were missed")),
            }
            let sent_at = Instant::now();
            let silence = (steady_since.elapsed() >= SILENCE).then_some(SILENCE);
            let beat = self.beat_once(silence).await?;
            if beat.replication != replication {
                self.server.reconnect();
                return Err(broken("another server took over"));
            }
            if sent_at.duration_since(last) > STEADY || sent_at.elapsed() > STEADY {
                steady_since = Instant::now();
            }
            last = sent_at;
            if self.mirror.beat(sent_at, beat.change, beat.time) {
                behind_since = None;
            } else if behind_since.get_or_insert(sent_at).elapsed() > LATE {
                return Err(broken("changes of the journal are told elsewhere"));
            }
            let has_too_many = beat.held > self.holding.len();
            if has_too_many && had_too_many {
                self.disown().await?;
            }
            had_too_many = has_too_many;
        }
    }

    /// One beat. With a `silence`, takes what nodes held that have been silent for so long.
    pub async fn beat_once(&self, silence: Option<Duration>) -> Result<Beat, Failure> {
        let silence = silence.map_or(String::new(), |silence| silence.as_millis().to_string());
        let mut reply = self.server.run(&BEAT, &[&self.node, silence.as_bytes()]).await?;
        let (change, time, held, taken) =
            (reply.number()?, reply.number()?, reply.number()?, reply.number()?);
        if taken > 0 {
            tracing::warn!(lanes = taken, "what a silent node had claimed was taken over");
        }
        Ok(Beat { replication: reply.replication, change, time, held })
    }

    /// Gives back what Redis says that this node holds and it doesn't know of: an answer was lost.
    async fn disown(&self) -> Result<(), Failure> {
        let _turn = self.holding.turn().await;
        let known: Vec<_> = self.holding.all();
        let known: Vec<_> =
            known.into_iter().map(|(lane, number)| (lane_bytes(lane), number.to_be_bytes())).collect();
        let mut arguments: Vec<&[u8]> = vec![&self.node, b"0"];
        arguments.extend(known.iter().flat_map(|(lane, number)| [lane.as_slice(), number.as_slice()]));
        let lanes = self.server.run(&DISOWN, &arguments).await?.number()?;
        tracing::warn!(lanes, "claims whose answer was lost were given back");
        Ok(())
    }
}

/// What a beat was answered.
pub struct Beat {
    pub replication: ReplicationId,
    /// The latest change.
    pub change: u64,
    /// The server's, in ms.
    pub time: u64,
    /// How many lanes this node holds by Redis's account.
    held: u64,
}

fn broken(why: &str) -> Failure {
    Failure::Refused(StoreError::Broken(why.to_owned()))
}

fn same(replication: ReplicationId, reply: &Reply) -> Result<(), Failure> {
    if reply.replication == replication { Ok(()) } else { Err(broken("another server took over")) }
}

fn text(reply: &mut Reply) -> Result<String, Malformed> {
    String::from_utf8(reply.bytes()?).map_err(|_| Malformed)
}

fn add(view: &mut View, what: &str, page: &mut Reply) -> Result<(), Malformed> {
    while !page.is_empty() {
        let (name, value) = (page.bytes()?, page.bytes()?);
        if what == "entries" {
            view.insert(Reader(&value).entry(Seq(Reader(&name).number()?))?);
        } else {
            view.set_lane(wire::lane(&name)?, LaneState::read(&value)?);
        }
    }
    Ok(())
}
