//! Scripts of whole replays: `>` is what upstream is asked, `<` what it
//! answers, `=` how writes end. `@10` is ten seconds past 1970, `'` is `"`.

mod inserts;
mod merging;
mod patches;
mod requests;
mod upserts;

use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::*;
use crate::postgrest::timestamp::TimestampKind;
use crate::route::{CredentialMode, Guard, OnReject};
use crate::store::journal::WriteId;
use crate::tag::Relation;
use crate::write::record::{Action, Base, CallerName, KeyPart, UpdatedAt};
use crate::write::seal::{Credential, Sealer};

const EPOCH: &str = "1970-01-01T00:00:";
const UTC: &str = "+00:00";

/// The row that was known, unless a case says otherwise.
const KNOWN: &str = "{'id':5,'name':'a','n':1,'at':'@5'}";

/// `@10` and `'` as they are sent.
fn spelt(text: &str) -> String {
    let mut spelt = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('@') {
        let digits = after.find(|character: char| !character.is_ascii_digit()).unwrap_or(after.len());
        spelt += &format!("{before}{EPOCH}{:0>2}{UTC}", &after[..digits]);
        rest = &after[digits..];
    }
    (spelt + rest).replace('\'', "\"")
}

/// The way back.
fn shortened(text: &str) -> String {
    let mut text = text.replace('"', "'").replace(UTC, "");
    for second in 0..60 {
        text = text.replace(&format!("{EPOCH}{second:02}"), &format!("@{second}"));
    }
    text
}

fn object(text: &str) -> Object {
    Object::parse(spelt(text).as_bytes()).unwrap()
}

fn record(action: Action, changes: &str) -> Record {
    let caller = CallerName { fingerprint: [1; 16], role: "authenticated".into(), sub: "alice".into() };
    let credential = Credential { token: "token".into(), api_key: None, expires: None };
    let sealer = Sealer::from_secret(&[7; 32]).unwrap();
    Record {
        route: "profiles".into(),
        relation: Relation::new("public", "users"),
        profile: None,
        headers: Vec::new(),
        key: vec![KeyPart { column: "id".into(), value: "5".into() }],
        action,
        changes: object(changes),
        base: if action == Action::Insert { Base::Absent } else { Base::Row(object(KNOWN)) },
        updated_at: UpdatedAt { column: "at".into(), kind: TimestampKind::WithZone },
        types: [("id", "bigint"), ("name", "text"), ("n", "integer"), ("x", "numeric"), ("doc", "jsonb")]
            .map(|(name, format)| (name.to_owned(), format.to_owned()))
            .into(),
        guard: Guard::NotNewer,
        on_reject: OnReject::Skip,
        credentials: CredentialMode::Token,
        sealed: sealer.seal(&credential, WriteId(1), caller.id()).unwrap(),
        session: [3; 16],
        rights: [2; 16],
        caller,
    }
}

fn job(members: Vec<(i64, Record)>) -> Job {
    let member = |(second, record)| JobMember { record, updated_at: Micros(second * 1_000_000) };
    Job {
        members: members.into_iter().map(member).collect(),
        echo: None,
        has_later: false,
        retried_dead_letter: false,
    }
}

fn patch(changes: &str) -> Job {
    job(vec![(10, record(Action::Patch, changes))])
}

fn unchanged(mut job: Job) -> Job {
    job.members.iter_mut().for_each(|member| member.record.guard = Guard::Unchanged);
    job
}

fn based_on(mut job: Job, base: Base) -> Job {
    job.members[0].record.base = base;
    job
}

fn with_echo(mut job: Job, echo: &str) -> Job {
    job.echo = Some(spelt(echo));
    job
}

fn dead_letter(mut job: Job) -> Job {
    job.retried_dead_letter = true;
    job
}

fn followed(mut job: Job) -> Job {
    job.has_later = true;
    job
}

/// What is asked, in short: the filter on `updated_at`, the selection of a read, the body.
fn told(ask: &Ask) -> String {
    let query = ask.target.split_once('?').map_or("", |(_, query)| query);
    let value = |name: &str| {
        let pair = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.map(|value| shortened(&percent_decode_str(value).decode_utf8().unwrap()))
    };
    let body = shortened(std::str::from_utf8(&ask.body).unwrap());
    let prefer = ask.headers.get("prefer").map_or("", |prefer| prefer.to_str().unwrap());
    match ask.method {
        Method::PATCH => format!("PATCH {} {body}", value("at").unwrap()),
        Method::GET => format!("GET {}", value("select").unwrap()),
        _ if prefer.contains("ignore-duplicates") => format!("POST ignoring {body}"),
        _ => format!("POST {body}"),
    }
}

fn told_end(end: &End) -> String {
    let told = |end: &MemberEnd| {
        let echo = end.echo.as_ref().map_or(String::new(), |echo| format!(" {}", shortened(echo)));
        let outcome = match &end.outcome {
            Outcome::Applied => "applied".to_owned(),
            Outcome::Superseded { theirs: None } => "superseded gone".to_owned(),
            Outcome::Superseded { theirs: Some(row) } => format!("superseded {}", shortened(&row.to_json())),
            Outcome::Rejected { reason, status, body } => {
                let status = status.map_or(String::new(), |status| format!(" {status}"));
                format!("rejected {}{status} {}", reason.as_str(), shortened(body)).trim_end().to_owned()
            }
        };
        outcome + &echo
    };
    let applied = end.ended.iter().filter(|end| end.outcome == Outcome::Applied).count();
    assert_eq!(end.needs_oldest, applied == 0, "a refusal waits for older writes, nothing else does");
    assert!(applied == end.ended.len() || end.ended.len() == 1);
    format!("= {}", end.ended.iter().map(told).collect::<Vec<_>>().join(", "))
}

/// `200 [...]`, `429 retry-after:7`, or `broken`.
fn step(replay: &mut Replay, answer: &str) -> Step {
    let (status, rest) = answer.split_once(' ').unwrap_or((answer, ""));
    let Ok(status) = status.parse() else { return replay.failed(Failure::Broken) };
    let mut headers = HeaderMap::new();
    let body = match rest.strip_prefix("retry-after:") {
        Some(after) => {
            headers.insert("retry-after", after.parse().unwrap());
            String::new()
        }
        None => spelt(rest),
    };
    let status = StatusCode::from_u16(status).unwrap();
    replay.answered(&Answer { status, headers, body: Bytes::from(body) })
}

/// Plays a script: the lines with `<` go in, all others have to come out.
#[track_caller]
fn plays(name: &str, job: Job, script: &[&str]) {
    let members = job.members.len();
    let mut answers = script.iter().filter_map(|line| line.strip_prefix("< "));
    let mut lines = Vec::new();
    let mut ended = 0;
    let (mut replay, first) = Replay::new(job).unwrap();
    let mut next = Step::Ask(first);
    loop {
        next = match next {
            Step::Ask(ask) => {
                lines.push(format!("> {}", told(&ask)));
                let Some(answer) = answers.next() else { break };
                lines.push(format!("< {answer}"));
                step(&mut replay, answer)
            }
            Step::End(end) => {
                ended += end.ended.len();
                lines.push(told_end(&end));
                match replay.proceed() {
                    Some(ask) => Step::Ask(ask),
                    None => {
                        assert_eq!(ended, members, "{name}: every write ends");
                        break;
                    }
                }
            }
            Step::Retry(Retry::Uncounted) => {
                lines.push("= retry".into());
                break;
            }
            Step::Retry(Retry::Counted { after }) => {
                let after = after.map_or(String::new(), |after| format!(" after {after:?}"));
                lines.push(format!("= retry, counted{after}"));
                break;
            }
            Step::NewToken => {
                lines.push("= new token".into());
                break;
            }
        };
    }
    assert_eq!(lines, script, "{name}:\n{}\n", lines.join("\n"));
}

#[test]
fn a_job_without_members_is_none() {
    assert!(Replay::new(job(Vec::new())).is_none());
}

#[test]
fn outcomes_and_requests_keep_rows_out_of_logs() {
    let (_, ask) = Replay::new(patch("{'name':'secret'}")).unwrap();
    let outcome = Outcome::Superseded { theirs: Some(object("{'name':'secret'}")) };
    let rejected = Outcome::Rejected { reason: Reason::Refused, status: Some(400), body: "secret".into() };
    assert!(!format!("{ask:?} {outcome:?} {rejected:?}").contains("secret"));
}
