use std::fs;
use std::os::unix::fs::PermissionsExt;

use redb::ReadableDatabase;

use super::*;
use crate::store::journal::OpenError;

const UPSTREAM: &str = "https://abc.supabase.co";

fn refusal(folder: &Path, upstream: &str) -> OpenError {
    match open(folder, upstream) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

fn named(error: &OpenError, folder: &Path) -> String {
    let text = error.to_string();
    assert!(text.contains(&folder.join("journal.redb").display().to_string()), "{text}");
    text
}

#[test]
fn the_folder_is_made_for_nobody_else() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a/sluice-data");
    drop(open(&folder, UPSTREAM).unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join("journal.redb")), 0o600);
    drop(open(&folder, UPSTREAM).unwrap());
}

#[test]
fn a_journal_of_another_upstream_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), UPSTREAM).unwrap());
    let error = refusal(folder.path(), "https://xyz.supabase.co");
    let text = named(&error, folder.path());
    assert!(text.contains(UPSTREAM) && text.contains("https://xyz.supabase.co"), "{text}");
    drop(open(folder.path(), UPSTREAM).unwrap());
}

#[test]
fn a_journal_that_is_open_elsewhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let held = open(folder.path(), UPSTREAM).unwrap();
    let error = refusal(folder.path(), UPSTREAM);
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    named(&error, folder.path());
    drop(held);
    drop(open(folder.path(), UPSTREAM).unwrap());
}

#[test]
fn a_journal_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, _) = open(folder.path(), UPSTREAM).unwrap();
    let transaction = disk.database().unwrap().begin_write().unwrap();
    let later = (FORMAT + 1).to_be_bytes();
    transaction.open_table(META).unwrap().insert("format", later.as_slice()).unwrap();
    transaction.commit().unwrap();
    drop(disk);
    let error = refusal(folder.path(), UPSTREAM);
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1, .. }), "{error}");
    named(&error, folder.path());
}

#[test]
fn a_damaged_journal_is_refused_without_a_panic() {
    let intact = tempfile::tempdir().unwrap();
    drop(open(intact.path(), UPSTREAM).unwrap());
    let bytes = fs::read(intact.path().join("journal.redb")).unwrap();
    let half = bytes[..bytes.len() / 2].to_vec();
    let mut overwritten = bytes.clone();
    overwritten[..64].fill(0xff);
    let mut pages = bytes.clone();
    pages[4096..].fill(0xff);
    for (what, bytes) in [
        ("no database", b"something else entirely".repeat(1000)),
        ("a short text", b"hello".to_vec()),
        ("half of it", half),
        ("another head", overwritten),
        ("other pages", pages),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.redb");
        fs::write(&file, &bytes).unwrap();
        let error = refusal(folder.path(), UPSTREAM);
        assert!(matches!(error, OpenError::Corrupt { .. }), "{what}: {error}");
        assert!(named(&error, folder.path()).contains("Restore the file"), "{what}");
        assert_eq!(fs::metadata(&file).unwrap().len(), bytes.len() as u64, "{what}: it is left as it was");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("a file");
    fs::write(&folder, b"").unwrap();
    let error = refusal(&folder, UPSTREAM);
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
    assert!(error.to_string().contains("a file"), "{error}");
}

#[test]
fn what_ended_too_long_ago_is_cleared_away() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, _) = open(folder.path(), UPSTREAM).unwrap();
    let transaction = disk.database().unwrap().begin_write().unwrap();
    {
        let mut table = transaction.open_table(APPLIED).unwrap();
        let mut places = transaction.open_table(ENDED).unwrap();
        let head = row::Head {
            id: WriteId(0),
            caller: CallerId([0; 16]),
            table: crate::store::journal::TableId([0; 16]),
            row: RowId([0; 16]),
            is_insert: false,
            updated_at: Micros(0),
            accepted_at: Micros(0),
        };
        for number in 0..5u64 {
            let head = row::Head { id: WriteId(number.into()), ..head };
            let (seq, ended_at) = (Seq(number), Micros(number as i64));
            let empty = b"".as_slice();
            let row = EndedRow {
                head,
                seq,
                ended_at,
                attempts: 0,
                reason: "",
                label: empty,
                detail: empty,
                record: empty,
            };
            table.insert(number, row.encode().as_slice()).unwrap();
            places.insert(head.id.0, (0, number)).unwrap();
        }
        clear(&mut table, &mut places, EndState::Applied, Micros(KEPT + 3)).unwrap();
        assert_eq!(table.len().unwrap(), 2, "older than a day: 0, 1 and 2");
        assert_eq!(places.len().unwrap(), 2);
    }
    transaction.commit().unwrap();
    let table = disk.database().unwrap().begin_read().unwrap().open_table(APPLIED).unwrap();
    assert_eq!(table.first().unwrap().unwrap().0.value(), 3);
}
