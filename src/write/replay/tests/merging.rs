//! Several members of a job.

use super::*;

fn patches(changes: &[&str]) -> Job {
    job((10..).zip(changes).map(|(second, changes)| (second, record(Action::Patch, changes))).collect())
}

const BOTH: &str = "> PATCH lte.@10 {'name':'b','n':2,'at':'@11'}";

#[test]
fn adjacent_patches_go_as_one() {
    plays(
        "two",
        patches(&["{'name':'b'}", "{'n':2}"]),
        &[BOTH, "< 200 [{'at':'@11'}]", "= applied @11, applied @11"],
    );
    plays(
        "the newest value of each column",
        patches(&["{'name':'x','n':2}", "{'name':'y'}", "{'name':'b'}"]),
        &[
            "> PATCH lte.@10 {'name':'b','n':2,'at':'@12'}",
            "< 200 [{'at':'@12'}]",
            "= applied @12, applied @12, applied @12",
        ],
    );
    plays(
        "the oldest's base",
        unchanged(patches(&["{'name':'b'}", "{'n':2}"])),
        &[
            "> PATCH eq.@5 {'name':'b','n':2,'at':'@11'}",
            "< 200 [{'at':'@11'}]",
            "= applied @11, applied @11",
        ],
    );
}

#[test]
fn what_upstream_could_tell_apart_goes_one_by_one() {
    type Change = fn(&mut Record);
    let cases: [(&str, Change); 8] = [
        ("another profile", |record| record.profile = Some("public".into())),
        ("other headers", |record| record.headers.push(("x-a".into(), "1".into()))),
        ("another guard", |record| record.guard = Guard::Unchanged),
        ("other rights", |record| record.rights = [3; 16]),
        ("another way to a token", |record| {
            record.credentials = CredentialMode::Remint { max: Duration::from_secs(60) };
        }),
        ("another column of the time", |record| record.updated_at.kind = TimestampKind::WithoutZone),
        ("PUT", |record| record.action = Action::Put),
        ("an upsert", |record| record.action = Action::Upsert),
    ];
    for (name, change) in cases {
        for changed in [0, 1] {
            let mut job = patches(&["{'name':'b'}", "{'n':2}"]);
            change(&mut job.members[changed].record);
            let (_, ask) = Replay::new(job).unwrap();
            assert_eq!(ask.member, 0, "{name}");
            assert!(!told(&ask).contains("'n':2"), "{name}");
        }
    }
    let mut inserted = patches(&["{'name':'b'}", "{'n':2}", "{'name':'c'}"]);
    inserted.members[0].record.action = Action::Insert;
    plays(
        "never into an insert",
        inserted,
        &[
            "> POST {'id':'5','name':'b','at':'@10'}",
            "< 201",
            "> GET id,at,name",
            "< 200 [{'name':'b','at':'@10'}]",
            "= applied @10",
            "> PATCH lte.@11 {'n':2,'name':'c','at':'@12'}",
            "< 200 [{'at':'@12'}]",
            "= applied @12, applied @12",
        ],
    );
}

#[test]
fn the_newest_members_credentials_are_used() {
    let (mut replay, ask) = Replay::new(patches(&["{'name':'b'}", "{'n':2}"])).unwrap();
    assert_eq!(ask.member, 1);
    let Step::Ask(ask) = step(&mut replay, "400") else { panic!("members go one by one") };
    assert_eq!(ask.member, 0);
}

const FIRST: &str = "> PATCH lte.@10 {'name':'b','at':'@10'}";
const SECOND: &str = "> PATCH lte.@11 {'n':2,'at':'@11'}";

#[test]
fn a_refusal_is_looked_into_one_by_one() {
    let job = || patches(&["{'name':'b'}", "{'n':2}"]);
    let refused = "< 400 {'code':'23514'}";
    let rejected = "= rejected refused 400 {'code':'23514'}";
    let applied = "< 200 [{'at':'@10'}]";
    plays("the second", job(), &[BOTH, refused, FIRST, applied, "= applied @10", SECOND, refused, rejected]);
    plays("the first", job(), &[BOTH, refused, FIRST, refused, rejected, SECOND, applied, "= applied @10"]);
    let neither = [BOTH, refused, FIRST, applied, "= applied @10", SECOND, applied, "= applied @10"];
    plays("neither", job(), &neither);
    plays(
        "away meanwhile",
        job(),
        &[BOTH, refused, FIRST, applied, "= applied @10", SECOND, "< 503", "= retry"],
    );
    // Three: none of those that were one is merged again.
    let three = patches(&["{'name':'b'}", "{'n':2}", "{'x':3}"]);
    plays(
        "three",
        three,
        &[
            "> PATCH lte.@10 {'name':'b','n':2,'x':3,'at':'@12'}",
            refused,
            FIRST,
            applied,
            "= applied @10",
            SECOND,
            refused,
            rejected,
            "> PATCH lte.@12 {'x':3,'at':'@12'}",
            applied,
            "= applied @10",
        ],
    );
}

#[test]
fn a_retry_is_no_refusal() {
    let job = || patches(&["{'name':'b'}", "{'n':2}"]);
    for (answer, end) in [
        ("< 503", "= retry"),
        ("< broken", "= retry"),
        ("< 429", "= retry, counted"),
        ("< 401", "= new token"),
    ] {
        plays(answer, job(), &[BOTH, answer, end]);
    }
    // Nor is a right that is missing, until it was tried without the time.
    let refused = "< 403 {'code':'42501'}";
    let again = "> PATCH lte.@10 {'name':'b','n':2}";
    plays(
        "no right to the time",
        job(),
        &[BOTH, refused, again, "< 200 [{'at':'@3'}]", "= applied @3, applied @3"],
    );
    plays(
        "no right to a column",
        job(),
        &[
            BOTH,
            refused,
            again,
            refused,
            FIRST,
            "< 200 [{'at':'@10'}]",
            "= applied @10",
            SECOND,
            refused,
            "> PATCH lte.@11 {'n':2}",
            refused,
            "= rejected refused 403 {'code':'42501'}",
        ],
    );
}

#[test]
fn a_direct_write_in_between_is_not_overwritten() {
    // The one at 10 s is older than the direct write, the one at 11 s isn't.
    let theirs = "{'id':5,'name':'c','n':1,'at':'1970-01-01T00:00:10.5+00:00'}";
    let short = "{'id':5,'name':'c','n':1,'at':'@10.5'}";
    let found = format!("< 200 [{theirs}]");
    plays(
        "superseded and applied",
        patches(&["{'name':'b'}", "{'n':2}"]),
        &[
            BOTH,
            "< 200 []",
            "> GET *",
            &found,
            FIRST,
            "< 200 []",
            "> GET *",
            &found,
            &format!("= superseded {short}"),
            SECOND,
            "< 200 [{'at':'@11'}]",
            "= applied @11",
        ],
    );
}

#[test]
fn a_lost_response_to_some_of_them_is_recognised() {
    // The first two went as one when the third was not there yet.
    let three = || patches(&["{'name':'x','n':2}", "{'name':'b'}", "{'x':3}"]);
    let found = |row: &str| format!("< 200 [{row}]");
    let merged = "> PATCH lte.@10 {'name':'b','n':2,'x':3,'at':'@12'}";
    plays(
        "two of three",
        three(),
        &[
            merged,
            "< 200 []",
            "> GET *",
            &found("{'name':'b','n':2,'x':0,'at':'@11'}"),
            "= applied @11, applied @11",
            "> PATCH lte.@12 {'x':3,'at':'@12'}",
            "< 200 [{'at':'@12'}]",
            "= applied @12",
        ],
    );
    plays(
        "all",
        three(),
        &[
            merged,
            "< 200 []",
            "> GET *",
            &found("{'name':'b','n':2,'x':3,'at':'@12'}"),
            "= applied @12, applied @12, applied @12",
        ],
    );
    plays(
        "the first, a trigger's time",
        three(),
        &[
            merged,
            "< 200 []",
            "> GET *",
            &found("{'name':'x','n':2,'x':0,'at':'@31'}"),
            "= applied @31",
            "> PATCH lte.@11 {'name':'b','x':3,'at':'@12'}",
            "< 200 []",
            "> GET *",
            &found("{'name':'x','n':2,'x':0,'at':'@31'}"),
            "> PATCH eq.@31 {'name':'b','x':3,'at':'@12'}",
            "< 200 [{'at':'@32'}]",
            "= applied @32, applied @32",
        ],
    );
}

#[test]
fn a_member_that_a_later_one_overwrote_shares_its_end() {
    let job = || patches(&["{'name':'bad'}", "{'n':2}", "{'name':'b'}"]);
    let merged = "> PATCH lte.@10 {'name':'b','n':2,'at':'@12'}";
    let refused = "< 400 {'code':'23514'}";
    let rejected = "= rejected refused 400 {'code':'23514'}";
    let alone = "> PATCH lte.@10 {'name':'bad','at':'@10'}";
    let rest = "> PATCH lte.@11 {'n':2,'name':'b','at':'@12'}";
    plays(
        "applied",
        job(),
        &[
            merged,
            refused,
            alone,
            refused,
            rest,
            "< 200 [{'at':'@12'}]",
            "= applied @12, applied @12, applied @12",
        ],
    );
    // What was refused overwrote nothing.
    plays(
        "refused",
        job(),
        &[
            merged,
            refused,
            alone,
            refused,
            rest,
            refused,
            rejected,
            SECOND,
            refused,
            rejected,
            "> PATCH lte.@12 {'name':'b','at':'@12'}",
            "< 200 [{'at':'@12'}]",
            "= applied @12",
        ],
    );
    plays("away meanwhile", job(), &[merged, refused, alone, refused, rest, "< 503", "= retry"]);
    // A step on the way to the next counts as its author sent it.
    let steps = patches(&["{'name':'review'}", "{'name':'published'}"]);
    plays(
        "each allowed alone",
        steps,
        &[
            "> PATCH lte.@10 {'name':'published','at':'@11'}",
            refused,
            "> PATCH lte.@10 {'name':'review','at':'@10'}",
            "< 200 [{'at':'@10'}]",
            "= applied @10",
            "> PATCH lte.@11 {'name':'published','at':'@11'}",
            "< 200 [{'at':'@11'}]",
            "= applied @11",
        ],
    );
}

#[test]
fn dead_letters_are_not_merged() {
    plays(
        "one by one",
        dead_letter(patches(&["{'name':'b'}", "{'n':2}"])),
        &[FIRST, "< 200 [{'at':'@10'}]", "= applied @10", SECOND, "< 200 [{'at':'@11'}]", "= applied @11"],
    );
}

#[test]
fn the_time_that_a_member_got_back_counts_for_the_next() {
    let mut job = patches(&["{'name':'b'}", "{'n':2}"]);
    job.members[1].record.action = Action::Put;
    let theirs = "< 200 [{'name':'b','n':1,'at':'@31'}]";
    plays(
        "a trigger",
        job,
        &[
            FIRST,
            "< 200 [{'at':'@31'}]",
            "= applied @31",
            SECOND,
            "< 200 []",
            "> GET *",
            theirs,
            "> PATCH eq.@31 {'n':2,'at':'@11'}",
            "< 200 [{'at':'@32'}]",
            "= applied @32",
        ],
    );
}
