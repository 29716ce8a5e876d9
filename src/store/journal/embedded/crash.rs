//! A process that appends and settles is killed; what it said is durable must be.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::tests::{draft, end, options};
use super::*;
use crate::store::journal::State;

/// Tells the child where its journal is, and its first id.
const FOLDER: &str = "SLUICE_TEST_JOURNAL_FOLDER";
const FIRST_ID: &str = "SLUICE_TEST_JOURNAL_FIRST_ID";

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

#[test]
#[ignore = "the other test runs it in a process of its own, and kills it"]
fn a_process_that_works_until_it_is_killed() {
    let folder = std::env::var(FOLDER).expect("set by the other test");
    let first_id: u128 = std::env::var(FIRST_ID).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let journal = Arc::new(Embedded::open(&options(folder.as_ref())).unwrap());
        for task in 0..8u128 {
            let journal = journal.clone();
            tokio::spawn(async move {
                for n in 0.. {
                    let id = first_id + task * 1_000_000 + n;
                    match journal.append(draft(id, task as u8, n as u8)).await {
                        Ok(appended) => {
                            say(&format!("queued {id} {} {}", appended.seq.0, appended.updated_at.0))
                        }
                        Err(AppendError::Moved) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
        loop {
            for claim in journal.claim(8, Instant::now()).await.unwrap() {
                let member = &claim.members[0];
                let ends = vec![end(member.seq, EndState::Applied)];
                assert_eq!(journal.settle(&claim, ends, false).await, Ok(Settled::Done));
                say(&format!("ended {} {} {}", member.id.0, member.seq.0, member.updated_at.0));
                journal.release(claim, Wait::Now).await.unwrap();
            }
        }
    });
}

/// Lets a child work until it has said so many things, and returns what it said.
fn killed_after(lines: usize, folder: &str, first_id: u128) -> Vec<(bool, u128, u64, i64)> {
    let module = module_path!().split_once("::").map_or("", |(_, path)| path);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg(format!("{module}::a_process_that_works_until_it_is_killed"))
        .args(["--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST_ID, first_id.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while output.read_line(&mut line).unwrap() > 0 {
        let words: Vec<_> = line.split_whitespace().collect();
        // A line that was cut by the end was not said.
        if let ([what @ ("queued" | "ended"), id, seq, time], true) = (words.as_slice(), line.ends_with('\n'))
        {
            said.push((*what == "ended", id.parse().unwrap(), seq.parse().unwrap(), time.parse().unwrap()));
        }
        if said.len() == lines {
            child.kill().unwrap();
        }
        line.clear();
    }
    child.wait().unwrap();
    said
}

#[test]
fn what_a_killed_process_acknowledged_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut last_seq = 0;
    let mut given: HashMap<u64, u128> = HashMap::new();
    for (round, lines) in [300, 1, 1000].into_iter().enumerate() {
        let said = killed_after(lines, folder.path().to_str().unwrap(), (round as u128 + 1) << 64);
        assert!(said.len() >= lines, "the child ended by itself");
        let journal = Embedded::open(&options(folder.path())).unwrap();
        for (ended, id, seq, updated_at) in said {
            let status = runtime.block_on(journal.find(WriteId(id))).unwrap().expect("it was acknowledged");
            assert!(!ended || status.state == State::Ended(EndState::Applied));
            assert_eq!((status.seq.0, status.updated_at.0), (seq, updated_at));
            assert_eq!(*given.entry(seq).or_insert(id), id, "a number given twice");
            last_seq = last_seq.max(seq);
        }
        let again = runtime.block_on(journal.append(draft(round as u128 + 1, 200, round as u8))).unwrap();
        assert!(again.seq.0 > last_seq);
        last_seq = again.seq.0;
    }
}

/// The file `after` a commit, as it may be found if the power failed on the way from
/// `before`: of the sectors that differ some are written, chosen by `chance`.
fn torn(before: &[u8], after: &[u8], mut chance: u64) -> Vec<u8> {
    const SECTOR: usize = 512;
    let mut torn = before.to_vec();
    torn.resize(after.len().max(before.len()), 0);
    for (at, sector) in after.chunks(SECTOR).enumerate() {
        let here = &mut torn[at * SECTOR..at * SECTOR + sector.len()];
        if here != sector {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if chance >> 63 == 1 {
                here.copy_from_slice(sector);
            }
        }
    }
    torn
}

#[tokio::test]
async fn a_commit_that_was_torn_is_there_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("journal.redb");
    let journal = Embedded::open(&options(folder.path())).unwrap();
    for id in 1..=20 {
        journal.append(draft(id, 1, id as u8)).await.unwrap();
    }
    let claim = journal.claim(1, Instant::now()).await.unwrap().remove(0);
    let before = std::fs::read(&file).unwrap();
    let ends = vec![end(claim.members[0].seq, EndState::Rejected)];
    assert_eq!(journal.settle(&claim, ends, false).await, Ok(Settled::Done));
    let after = std::fs::read(&file).unwrap();

    let (mut whole, mut none) = (0, 0);
    for chance in 0..48 {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("journal.redb"), torn(&before, &after, chance)).unwrap();
        let journal = Embedded::open(&options(folder.path())).unwrap();
        let status = journal.find(claim.members[0].id).await.unwrap().expect("it was acknowledged");
        let has_ended = status.state == State::Ended(EndState::Rejected);
        assert_eq!(journal.depth().writes, if has_ended { 19 } else { 20 });
        *(if has_ended { &mut whole } else { &mut none }) += 1;
        for id in 2..=20 {
            assert_eq!(journal.find(WriteId(id)).await.unwrap().unwrap().state, State::Queued);
        }
    }
    assert!(none > 0, "{whole} of 48 were whole: nothing was torn");
}
