//! What has to hold of a run, judged from its history afterwards.

use std::collections::{BTreeMap, HashMap};

use super::model::{
    Answer, COLUMNS, Columns, End, History, Method, Place, Read, Row, USERS, Version, Via, Write,
};

/// What may lie between a commit and the end of its write, in microseconds.
const SOON: i64 = 10_000_000;

/// What may lie between the noting of a version and its commit, in microseconds.
const COMMITTING: i64 = 5_000_000;

/// Everything that is wrong with the writes.
pub fn of_writes(history: &History) -> Vec<String> {
    let mut wrong = ended_once(history);
    wrong.extend(history.log.iter().flat_map(|(row, versions)| in_order(history, *row, versions)));
    for (write, time) in history.queued() {
        let said = match history.state(write.number) {
            "applied" => applied(history, write, time),
            "superseded" => superseded(history, write, time),
            "rejected" => rejected(history, write),
            state => Some(format!("it ended as {state:?}")),
        };
        let said = said.or_else(|| came_back(history, write));
        wrong.extend(said.map(|what| format!("{what}: {}", told(history, write))));
    }
    let others = history.writes.values().filter_map(|write| not_queued(history, write));
    wrong.extend(others);
    wrong.extend(history.writes.values().filter_map(|write| overtook(history, write)));
    wrong.extend(times_that_shrink(history));
    wrong.extend(history.log.keys().filter_map(|row| held(history, *row)));
    wrong
}

/// A write and what is known of it.
fn told(history: &History, write: &Write) -> String {
    let end = history.ends.get(&write.number);
    let logged = history.first_of(write);
    let versions = history.versions(write.row);
    let around = logged.map_or(versions.len(), |(place, _)| place);
    let near = &versions[around.saturating_sub(2)..(around + 3).min(versions.len())];
    format!("{write:?}, {end:?}, logged {logged:?}, near {near:?}")
}

/// How long an end may take to become durable, in microseconds.
const DURABLE_WITHIN: i64 = 1_000_000;

/// What has ended so stays so.
fn ended_once(history: &History) -> Vec<String> {
    let changed = history.seen_ends.iter().filter(|(number, end)| history.ends.get(number) != Some(end));
    changed.map(|(number, end)| format!("{number} was {end:?}, is {:?}", history.ends.get(number))).collect()
}

/// Whether a replay took a row's time for one that an earlier write of the same user had got: it found exactly that
/// one's values there when it was sent again, beside somebody else's in another column. A trigger's time looks alike.
fn lent_its_time(history: &History, one: &Version, next: &Version) -> bool {
    let is_same_users = |number: &u64| {
        history.writes.get(number).is_some_and(|write| write.user.is_some() && write.user == next.user)
    };
    matches!(next.via, Via::Replay) && one.columns.iter().flatten().any(is_same_users)
}

/// A row's time grows with each version.
fn in_order(history: &History, row: Row, versions: &[Version]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, pair) in versions.windows(2).enumerate() {
        let [one, next] = pair else { continue };
        // What is sent again changes nothing.
        let is_again = one.time == next.time && one.columns == next.columns;
        if !next.is_insert && one.time >= next.time && !is_again && !lent_its_time(history, one, next) {
            wrong.push(format!("{row:?} went back in time at {place}: {pair:?}"));
        }
    }
    wrong
}

/// The database gets nothing more of a write that has ended. Until then an answer may have been lost and the write
/// repeated: an insert too, if the row was deleted in between.
fn came_back(history: &History, write: &Write) -> Option<String> {
    let ended = history.ends.get(&write.number)?.at;
    let versions = history.versions(write.row);
    let is_again = |place: &usize| {
        let (before, version) =
            (place.checked_sub(1).and_then(|before| versions[before].columns), &versions[*place]);
        version.via == Via::Replay
            && version.user == write.user
            && version.at > ended
            && (0..2).any(|column| {
                let value = |columns: Option<Columns>| columns.map(|columns| columns[column]);
                value(version.columns) == Some(write.number) && value(before) != Some(write.number)
            })
    };
    let place = (0..versions.len()).find(is_again)?;
    Some(format!("the database got it at {place}, after its end"))
}

/// The database has had each of its columns, or a later write of the lane that went with it.
fn applied(history: &History, write: &Write, time: i64) -> Option<String> {
    if write.is_bad {
        return Some("what can't be applied was applied".into());
    }
    let ended = history.ends.get(&write.number)?.at;
    let is_overwritten = |column: usize| {
        let later = history.writes.values().filter(|later| {
            later.row == write.row
                && later.user == write.user
                && later.method == Method::Patch
                && later.sets[column]
                && later.sent <= ended
        });
        let mut places = later.map(|later| (later.number, history.place(later.row, column, later.number)));
        write.method == Method::Patch
            && places
                .any(|(number, place)| number != write.number && place.logged.is_some() && place.time > time)
    };
    let lacks = |column: &usize| {
        let logged = history.logged(write.row, *column, write.number);
        let is_late = logged.is_some_and(|(_, version)| version.at > ended);
        write.sets[*column] && (is_late || logged.is_none() && !is_overwritten(*column))
    };
    let column = (0..2).find(lacks)?;
    Some(format!("applied, but the database never had its {} by then", COLUMNS[column]))
}

/// By its end there was a version that is newer, or there was no such row.
fn superseded(history: &History, write: &Write, time: i64) -> Option<String> {
    let end = history.ends.get(&write.number)?;
    let versions = history.versions(write.row);
    let is_newer = |version: &Version| {
        let is_own_replay = version.via == Via::Replay && version.user == write.user;
        version.columns.is_some() && version.time > time && version.at <= end.at && !is_own_replay
    };
    let was_gone = |(place, version): (usize, &Version)| {
        let until = versions.get(place + 1).map_or(i64::MAX, |next| next.at.saturating_add(COMMITTING));
        version.columns.is_none() && version.at <= end.at && until >= write.sent
    };
    let is_so = match end.reason.as_str() {
        "newer" => versions.iter().any(is_newer),
        "gone" => versions.iter().enumerate().any(was_gone),
        _ => false,
    };
    (!is_so).then(|| "superseded by nothing".into())
}

/// The database never had it, and could not take it.
fn rejected(history: &History, write: &Write) -> Option<String> {
    let ended = history.ends.get(&write.number)?.at;
    let makes = matches!(write.method, Method::Insert | Method::Upsert);
    let has_another =
        || history.versions(write.row).iter().any(|version| version.at <= ended && version.columns.is_some());
    match history.first_of(write) {
        // Its insert was done, the answer lost, and somebody changed the row before it was asked for.
        Some((place, _)) if makes && history.versions(write.row).len() > place + 1 => None,
        Some(_) => Some("rejected, but the database has had it".into()),
        None if write.is_bad || makes && has_another() => None,
        None => Some("rejected for no reason".into()),
    }
}

/// What was said to be done was, and what wasn't to be done wasn't.
fn not_queued(history: &History, write: &Write) -> Option<String> {
    let logged = history.first_of(write);
    let what = match (&write.answer, write.method) {
        (Answer::Refused | Answer::Held, _) if logged.is_some() => "refused, but the database has it",
        (Answer::Done, Method::Insert | Method::Upsert | Method::Put) if logged.is_none() => {
            "done, but the database never had it"
        }
        _ => return None,
    };
    Some(format!("{what}: {}", told(history, write)))
}

/// A forwarded write never goes before what its author had queued for the row.
fn overtook(history: &History, write: &Write) -> Option<String> {
    let place = match write.method {
        Method::Delete => deletion(history, write)?.logged?,
        _ => history.first_of(write)?.0,
    };
    let version = history.versions(write.row).get(place).filter(|version| version.via == Via::Forwarded)?;
    let earlier = history.queued().find(|(earlier, _)| {
        earlier.user == write.user
            && earlier.row == write.row
            && earlier.answered < write.sent
            && history.ends.get(&earlier.number).is_some_and(|end| end.at > version.at)
    })?;
    Some(format!("{} was overtaken by {}", told(history, earlier.0), told(history, write)))
}

/// Who is answered before another one asks has the earlier time.
fn times_that_shrink(history: &History) -> Vec<String> {
    let mut rows: BTreeMap<Row, Vec<(&Write, i64)>> = BTreeMap::new();
    history.queued().for_each(|(write, time)| rows.entry(write.row).or_default().push((write, time)));
    let mut wrong = Vec::new();
    for writes in rows.values_mut() {
        writes.sort_by_key(|(_, time)| *time);
        let mut last_sent = i64::MIN;
        for (write, _) in writes.iter() {
            if write.answered < last_sent {
                wrong.push(format!("its time is later than that of one sent after it: {write:?}"));
            }
            last_sent = last_sent.max(write.sent);
        }
    }
    wrong
}

/// What the row has to be, by who wrote last: what the status endpoint says was
/// applied, with the times of the 202s, and what the log has of all others.
fn predicted(history: &History, row: Row) -> Option<Columns> {
    let versions = history.versions(row);
    let made = versions.iter().rposition(|version| version.is_insert)?;
    if versions.iter().skip(made).any(|version| version.columns.is_none()) {
        return None;
    }
    let began = versions[made].at;
    let mut latest =
        versions[made].columns.map(|columns| columns.map(|number| (versions[made].time, number)))?;
    for write in history.writes.values().filter(|write| write.row == row) {
        let was_applied = history.state(write.number) == "applied"
            && history.ends.get(&write.number).is_some_and(|end| end.at > began);
        for (column, latest) in latest.iter_mut().enumerate().filter(|(column, _)| write.sets[*column]) {
            let place = history.place(row, column, write.number);
            let is_there = match place.logged {
                Some(logged) => logged >= made,
                None => was_applied,
            };
            if is_there {
                *latest = (*latest).max((place.time, write.number));
            }
        }
    }
    Some(latest.map(|(_, number)| number))
}

fn held(history: &History, row: Row) -> Option<String> {
    let (predicted, held) = (predicted(history, row), history.held.get(&row).copied());
    let versions = history.versions(row);
    let last = &versions[versions.len().saturating_sub(4)..];
    (predicted != held)
        .then(|| format!("{row:?} is {held:?}, not {predicted:?}; its last versions: {last:?}"))
}

/// Everything that is wrong with the reads.
pub fn of_reads(history: &History) -> Vec<String> {
    let acknowledged = acknowledged(history);
    let inserts = inserts(history);
    let mut wrong = Vec::new();
    for read in &history.reads {
        // A list with an insert of one's own may come without it.
        let may_lack = read.is_list
            && inserts[&read.user].iter().any(|(sent, ended)| *sent < read.answered && *ended > read.sent);
        for (row, shown) in &read.shown {
            let known = acknowledged.get(&(read.user, *row)).map_or(&[] as &[_], Vec::as_slice);
            let known = known.iter().filter(|known| known.answered < read.sent);
            let mut said = shown.and_then(|shown| strange(history, read, *row, shown));
            if !read.is_uncorrected && !may_lack {
                said = said.or_else(|| too_old(history, read, *row, *shown, known));
            }
            wrong.extend(said.map(|what| {
                let (sent, answered, list) = (read.sent, read.answered, read.is_list);
                format!("user {} read {row:?} ({sent} to {answered}, list: {list}): {what}", read.user)
            }));
        }
    }
    wrong
}

/// Something of somebody else's that the database didn't have yet, or something that had come to nothing.
fn strange(history: &History, read: &Read, row: Row, shown: Columns) -> Option<String> {
    for (column, number) in shown.into_iter().enumerate().filter(|(_, number)| *number != 0) {
        let Some(write) = history.writes.get(&number) else {
            return Some(format!("{number} was never written"));
        };
        let logged = history.logged(row, column, number);
        let is_committed = logged.is_some_and(|(_, version)| version.at <= read.answered);
        if write.row != row || !write.sets[column] {
            return Some(format!("{number} is not of this row: {write:?}"));
        }
        if is_committed {
            continue;
        }
        if write.user != Some(read.user) {
            return Some(format!("somebody else's pending write: {}", told(history, write)));
        }
        // An end is dated when it is judged, and seen once it is durable.
        let has_ended = |end: &End| end.state != "applied" && end.at + DURABLE_WITHIN < read.sent;
        if matches!(write.answer, Answer::Refused | Answer::Held)
            || history.ends.get(&number).is_some_and(has_ended)
        {
            return Some(format!("it came to nothing, and was shown: {}", told(history, write)));
        }
    }
    None
}

/// A change that its author was told of.
struct Acknowledged {
    number: u64,
    answered: i64,
    /// By column. `None`: it is not about this one.
    places: [Option<Place>; 2],
    is_delete: bool,
    /// Until when a row that was in its way may be shown.
    until: i64,
}

/// By user and row: what he was told is done or will be, and wasn't told otherwise of later.
fn acknowledged(history: &History) -> HashMap<(usize, Row), Vec<Acknowledged>> {
    let mut known: HashMap<(usize, Row), Vec<Acknowledged>> = HashMap::new();
    for write in history.writes.values() {
        let Some(user) = write.user else { continue };
        let places = match write.answer {
            Answer::Queued { .. } if history.state(write.number) == "applied" => [0, 1]
                .map(|column| write.sets[column].then(|| history.place(write.row, column, write.number))),
            Answer::Done if write.method == Method::Delete => [deletion(history, write); 2],
            Answer::Done => [0, 1].map(|column| {
                let place = history.place(write.row, column, write.number);
                place.logged.map(|_| place)
            }),
            _ => continue,
        };
        let (number, answered, is_delete) = (write.number, write.answered, write.method == Method::Delete);
        let end = history.ends.get(&number).filter(|_| write.method == Method::Insert);
        let until = end.map_or(i64::MIN, |end| end.at);
        let entry = known.entry((user, write.row)).or_default();
        entry.push(Acknowledged { number, answered, places, is_delete, until });
    }
    known
}

/// Where the row was deleted by this write. `None`: there was none.
fn deletion(history: &History, write: &Write) -> Option<Place> {
    let mut versions = history.versions(write.row).iter().enumerate();
    let is_it = |version: &Version| {
        let meanwhile = write.sent <= version.at && version.at <= write.answered;
        version.columns.is_none() && version.user == write.user && meanwhile
    };
    let (logged, version) = versions.find(|(_, version)| is_it(version))?;
    Some(Place { time: version.time, logged: Some(logged) })
}

/// Something older than what the reader himself had been told of.
fn too_old<'a>(
    history: &History,
    read: &Read,
    row: Row,
    shown: Option<Columns>,
    known: impl Iterator<Item = &'a Acknowledged>,
) -> Option<String> {
    for known in known {
        for (column, due) in
            known.places.iter().enumerate().filter_map(|(column, due)| Some((column, (*due)?)))
        {
            let is_old = match shown {
                Some(shown) => {
                    let place = history.place(row, column, shown[column]);
                    // What was accepted while he deleted the row is queued behind that.
                    let is_queued = known.is_delete && is_queued(history, read, shown[column]);
                    read.sent > known.until && place.is_before(due) && !is_queued
                }
                None => !known.is_delete && !was_deleted_after(history, row, due, read.answered),
            };
            if is_old {
                let write = &history.writes[&known.number];
                let shown = shown.map(|shown| history.writes.get(&shown[column]));
                return Some(format!("{shown:?} is older than {}", told(history, write)));
            }
        }
    }
    None
}

/// Whether the write is the reader's own, and was still queued when he began to read.
fn is_queued(history: &History, read: &Read, number: u64) -> bool {
    let is_own = history.writes.get(&number).is_some_and(|write| write.user == Some(read.user));
    is_own && history.ends.get(&number).is_none_or(|end| end.at >= read.sent)
}

fn was_deleted_after(history: &History, row: Row, due: Place, answered: i64) -> bool {
    let mut versions = history.versions(row).iter().enumerate();
    versions.any(|(logged, version)| {
        let place = Place { time: version.time, logged: Some(logged) };
        version.columns.is_none() && version.at <= answered && due.is_before(place)
    })
}

/// By user: when he sent what may make a row, and when that had certainly ended.
fn inserts(history: &History) -> HashMap<usize, Vec<(i64, i64)>> {
    let mut inserts: HashMap<usize, Vec<(i64, i64)>> = (0..USERS).map(|user| (user, Vec::new())).collect();
    let makes = |write: &&Write| matches!(write.method, Method::Insert | Method::Upsert);
    for write in history.writes.values().filter(makes) {
        let Some(user) = write.user else { continue };
        let ended = match &write.answer {
            Answer::Queued { .. } => history.ends.get(&write.number).map_or(i64::MAX, |end| end.at),
            // Where the database has it, the queue is rid of it soon.
            Answer::Unknown => history.first_of(write).map_or(i64::MAX, |(_, version)| version.at + SOON),
            Answer::Done | Answer::Refused | Answer::Held => continue,
        };
        inserts.entry(user).or_default().push((write.sent, ended));
    }
    inserts
}
