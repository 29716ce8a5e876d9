//! Queued writes that others ask for.

use super::*;

/// Three tables: a write's is that of its number.
fn append(case: &mut Case, of: u8, to: u8, table: u8, is_insert: bool) -> Seq {
    let draft = Draft { table: TableId([table; 16]), is_insert, ..case.draft(of, to) };
    let appended = case.stage(&draft).unwrap();
    case.accept(&draft, &appended)
}

fn found(case: &Case, wanted: Wanted<'_>) -> Vec<u64> {
    case.queue.wanted(&wanted).iter().map(|write| write.seq.0).collect()
}

#[test]
fn writes_are_found_by_row_table_and_caller_as_long_as_they_are_queued() {
    let mut case = Case::new(LIMITS);
    for (of, to, table, is_insert) in [
        (1, 1, 1, false),
        (2, 1, 1, false),
        (1, 2, 1, true),
        (1, 3, 2, false),
        (2, 4, 2, true),
        (1, 1, 1, false),
    ] {
        append(&mut case, of, to, table, is_insert);
    }
    let (rows, tables) = ([row(1), row(9)], [TableId([2; 16]), TableId([9; 16])]);
    let by_row = Wanted { rows: &rows, ..Wanted::default() };
    let by_table = Wanted { tables: &tables, ..Wanted::default() };
    for (wanted, seqs) in [
        (Wanted::default(), vec![]),
        (by_row, vec![1, 2, 6]),
        (by_table, vec![4, 5]),
        (Wanted { caller: Some(caller(2)), ..Wanted::default() }, vec![2, 5]),
        (Wanted { caller: Some(caller(9)), ..Wanted::default() }, vec![]),
        (Wanted { inserts_of: Some(caller(1)), ..Wanted::default() }, vec![3]),
        (Wanted { inserts_of: Some(caller(1)), tables: &tables, ..by_row }, vec![1, 2, 3, 4, 5, 6]),
    ] {
        assert_eq!(found(&case, wanted), seqs, "{wanted:?}");
    }
    for taken in case.claim(9) {
        case.finish(&taken);
    }
    for wanted in [by_row, by_table, Wanted { caller: Some(caller(1)), ..Wanted::default() }] {
        assert_eq!(found(&case, wanted), Vec::<u64>::new(), "{wanted:?}");
    }
    assert!(case.is_bare());
}
