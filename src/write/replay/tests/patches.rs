//! PATCH and PUT.

use super::*;

const FIRST: &str = "> PATCH lte.@10 {'name':'b','at':'@10'}";
const OTHERS: &str = "{'id':5,'name':'c','n':1,'at':'@20'}";

fn simple() -> Job {
    patch("{'name':'b'}")
}

#[test]
fn a_row_that_is_not_newer_is_changed() {
    plays("its time is ours", simple(), &[FIRST, "< 200 [{'id':5,'at':'@10'}]", "= applied @10"]);
    plays("a trigger sets it", simple(), &[FIRST, "< 200 [{'id':5,'at':'@31'}]", "= applied @31"]);
    plays("it stays null", simple(), &[FIRST, "< 200 [{'id':5,'at':null}]", "= applied"]);
    plays("it is no text", simple(), &[FIRST, "< 200 [{'id':5,'at':7}]", "= applied"]);
    let put = job(vec![(10, record(Action::Put, "{'name':'b'}"))]);
    plays("PUT is the same", put, &[FIRST, "< 200 [{'id':5,'at':'@10'}]", "= applied @10"]);
}

#[test]
fn zero_rows_are_followed_by_one_read() {
    let read = |row: &str, end: &str| {
        plays(row, simple(), &[FIRST, "< 200 []", "> GET *", &format!("< 200 [{row}]"), end]);
    };
    read("", "= superseded gone");
    read(OTHERS, &format!("= superseded {OTHERS}"));
    read("{'id':5,'name':'b','n':7,'at':'@20'}", "= applied @20");
    read("{'id':5,'name':'b','at':'infinity'}", "= applied infinity");
    read("{'id':5,'name':'c','at':'infinity'}", "= superseded {'id':5,'name':'c','at':'infinity'}");
    read("{'id':5,'n':1,'at':'@20'}", "= superseded {'id':5,'n':1,'at':'@20'}");
}

#[test]
fn exactly_these_values_are_compared_by_type() {
    for (changes, theirs, end) in [
        ("{'x':1.50}", "{'x':1.51,'at':'@20'}", "= superseded {'x':1.51,'at':'@20'}"),
        ("{'x':1.50}", "{'x':1.5,'at':'@20'}", "= applied @20"),
        ("{'doc':{'b':1,'a':2}}", "{'doc':{'a': 2, 'b': 1},'at':'@20'}", "= applied @20"),
        ("{'name':null}", "{'name':'','at':'@20'}", "= superseded {'name':'','at':'@20'}"),
    ] {
        let first = format!("> PATCH lte.@10 {},'at':'@10'}}", &changes[..changes.len() - 1]);
        plays(changes, patch(changes), &[&first, "< 200 []", "> GET *", &format!("< 200 [{theirs}]"), end]);
    }
}

#[test]
fn a_null_time_is_no_conflict() {
    let nobody = "< 200 [{'id':5,'name':'a','at':null}]";
    let again = "> PATCH is.null {'name':'b','at':'@10'}";
    let begun = [FIRST, "< 200 []", "> GET *", nobody, again];
    let with = |more: &[&'static str]| [&begun[..], more].concat();
    plays("it is changed", simple(), &with(&["< 200 [{'at':'@10'}]", "= applied @10"]));
    plays("gone since", simple(), &with(&["< 200 []", "> GET *", "< 200 []", "= superseded gone"]));
    let theirs = format!("< 200 [{OTHERS}]");
    let superseded = format!("= superseded {OTHERS}");
    let changed = [&begun[..], &["< 200 []", "> GET *", &theirs, &superseded]].concat();
    plays("changed since", simple(), &changed);
    let older =
        ["< 200 []", "> GET *", "< 200 [{'name':'c','at':'@9'}]", "= superseded {'name':'c','at':'@9'}"];
    plays("given an older time since", simple(), &with(&older));
    plays("a policy", simple(), &with(&["< 200 []", "> GET *", nobody, "= rejected denied"]));
    // Under `unchanged` a time that has become null is a change.
    let strict = ["> PATCH eq.@5 {'name':'b','at':'@10'}", "< 200 []", "> GET *", nobody];
    plays(
        "unchanged",
        unchanged(simple()),
        &[&strict[..], &["= superseded {'id':5,'name':'a','at':null}"]].concat(),
    );
    let based = based_on(unchanged(simple()), Base::Row(object("{'id':5,'name':'a','at':null}")));
    plays("unchanged, null before", based, &[again, "< 200 [{'at':'@10'}]", "= applied @10"]);
}

#[test]
fn a_time_that_our_own_write_got_back_is_no_conflict() {
    let theirs = "< 200 [{'id':5,'name':'a','at':'@20'}]";
    let again = "> PATCH eq.@20 {'name':'b','at':'@10'}";
    let script = [FIRST, "< 200 []", "> GET *", theirs, again, "< 200 [{'at':'@21'}]", "= applied @21"];
    plays("the same text", with_echo(simple(), "@20"), &script);
    plays("another zone's", with_echo(simple(), "1970-01-01T02:00:20+02:00"), &script);
    let superseded = "= superseded {'id':5,'name':'a','at':'@20'}";
    plays("another time", with_echo(simple(), "@19"), &[FIRST, "< 200 []", "> GET *", theirs, superseded]);
    let strict = ["> PATCH eq.@5 {'name':'b','at':'@10'}", "< 200 []", "> GET *", theirs, again];
    let applied = ["< 200 [{'at':'@21'}]", "= applied @21"];
    plays("unchanged", with_echo(unchanged(simple()), "@20"), &[&strict[..], &applied].concat());
    let lost = ["< 200 []", "> GET *", "< 200 [{'name':'b','at':'@22'}]", "= applied @22"];
    plays("a lost response", with_echo(simple(), "@20"), &[&script[..5], &lost].concat());
}

#[test]
fn unchanged_compares_with_the_row_it_was_based_on() {
    let first = "> PATCH eq.@5 {'name':'b','at':'@10'}";
    plays("it is", unchanged(simple()), &[first, "< 200 [{'at':'@10'}]", "= applied @10"]);
    let older = "{'id':5,'name':'c','at':'@4'}";
    let script =
        [first, "< 200 []", "> GET *", &format!("< 200 [{older}]"), &format!("= superseded {older}")];
    plays("it isn't, though older", unchanged(simple()), &script);
    let ours = "< 200 [{'id':5,'name':'b','at':'@10'}]";
    plays("a lost response", unchanged(simple()), &[first, "< 200 []", "> GET *", ours, "= applied @10"]);
    // The text as it was known is sent, whatever its spelling.
    let base = Base::Row(object("{'id':5,'at':'1970-01-01T02:00:05+02:00'}"));
    let first = "> PATCH eq.1970-01-01T02:00:05+02:00 {'name':'b','at':'@10'}";
    plays("spelling", based_on(unchanged(simple()), base), &[first, "< 200 [{'at':'@10'}]", "= applied @10"]);
}

#[test]
fn a_policy_that_shows_a_row_and_keeps_it_is_a_rejection() {
    let known = "< 200 [{'id':5,'name':'a','at':'@5'}]";
    let script =
        [FIRST, "< 200 []", "> GET *", known, FIRST, "< 200 []", "> GET *", known, "= rejected denied"];
    plays("denied", simple(), &script);
    plays("made in between", simple(), &[&script[..5], &["< 200 [{'at':'@10'}]", "= applied @10"]].concat());
}

#[test]
fn a_retried_dead_letter_has_only_the_first_arm() {
    let read = |job: Job, row: &str, end: &str| {
        plays(row, dead_letter(job), &[FIRST, "< 200 []", "> GET *", &format!("< 200 [{row}]"), end]);
    };
    let nobody = "{'id':5,'name':'a','at':null}";
    read(simple(), nobody, &format!("= superseded {nobody}"));
    read(with_echo(simple(), "@20"), OTHERS, &format!("= superseded {OTHERS}"));
    read(simple(), "{'name':'b','at':'@20'}", "= applied @20");
    plays("it holds", dead_letter(simple()), &[FIRST, "< 200 [{'at':'@10'}]", "= applied @10"]);
}

#[test]
fn a_row_that_had_the_values_before_lends_nobody_its_time() {
    let first = "> PATCH lte.@10 {'name':'a','at':'@10'}";
    let noop = patch("{'name':'a'}");
    plays(
        "alone",
        noop,
        &[first, "< 200 []", "> GET *", "< 200 [{'id':5,'name':'a','at':'@20'}]", "= applied"],
    );
    let both = job(vec![(10, record(Action::Patch, "{'name':'a'}")), (11, record(Action::Patch, "{'n':9}"))]);
    let merged = "> PATCH lte.@10 {'name':'a','n':9,'at':'@11'}";
    let theirs = "{'id':5,'name':'a','n':3,'at':'@20'}";
    let read = format!("< 200 [{theirs}]");
    let second = "> PATCH lte.@11 {'n':9,'at':'@11'}";
    let superseded = format!("= superseded {theirs}");
    let script = [
        merged,
        "< 200 []",
        "> GET *",
        &read,
        "= applied",
        second,
        "< 200 []",
        "> GET *",
        &read,
        &superseded,
    ];
    plays("merged with another", both, &script);
}

#[test]
fn a_write_of_the_time_alone_is_told_by_the_time() {
    let first = "> PATCH lte.@10 {'at':'@10'}";
    plays("newer", patch("{}"), &[first, "< 200 []", "> GET *", "< 200 [{'at':'@20'}]", "= applied"]);
    let nobody = ["< 200 []", "> GET *", "< 200 [{'at':null}]"];
    let script =
        [&[first], &nobody[..], &["> PATCH is.null {'at':'@10'}"], &nobody[..], &["= rejected denied"]];
    plays("null", patch("{}"), &script.concat());
    let refused = "< 403 {'code':'42501'}";
    plays("no right", patch("{}"), &[first, refused, "= rejected refused 403 {'code':'42501'}"]);
}

#[test]
fn a_missing_right_is_tried_without_the_added_time() {
    let refused = "< 403 {'code':'42501'}";
    let again = "> PATCH lte.@10 {'name':'b'}";
    plays("granted", simple(), &[FIRST, refused, again, "< 200 [{'at':'@5'}]", "= applied @5"]);
    plays("not", simple(), &[FIRST, refused, again, refused, "= rejected refused 403 {'code':'42501'}"]);
    let arms = [again, "< 200 []", "> GET *", "< 200 [{'at':null}]", "> PATCH is.null {'name':'b'}"];
    plays(
        "later arms",
        simple(),
        &[&[FIRST, refused], &arms[..], &["< 200 [{'at':null}]", "= applied"]].concat(),
    );
}

#[test]
fn statuses_have_the_outcome_of_the_table() {
    for (answer, end) in [
        ("400 {'code':'PGRST204'}", "= rejected refused 400 {'code':'PGRST204'}"),
        ("403 no", "= rejected refused 403 no"),
        ("404", "= rejected refused 404"),
        ("409 {'code':'23503'}", "= rejected refused 409 {'code':'23503'}"),
        ("409 {'code':'23505'}", "= rejected refused 409 {'code':'23505'}"),
        ("413", "= rejected refused 413"),
        ("401 {'code':'PGRST301'}", "= new token"),
        ("401 {'code':'42501'}", "= new token"),
        ("408", "= retry, counted"),
        ("425", "= retry, counted"),
        ("429 retry-after:7", "= retry, counted after 7s"),
        ("500 {'code':'57014'}", "= retry, counted"),
        ("501", "= retry, counted"),
        ("530", "= retry, counted"),
        ("502", "= retry"),
        ("503 {'code':'PGRST002'}", "= retry"),
        ("504", "= retry"),
        ("520", "= retry"),
        ("broken", "= retry"),
        // Nobody says what these mean.
        ("200", "= retry, counted"),
        ("200 [{", "= retry, counted"),
        ("200 {'id':5}", "= retry, counted"),
        ("204", "= retry, counted"),
        ("202 []", "= retry, counted"),
        ("302", "= retry, counted"),
    ] {
        let answer = format!("< {answer}");
        plays("the PATCH", simple(), &[FIRST, &answer, end]);
        if !answer.contains("23505") {
            plays("the read", simple(), &[FIRST, "< 200 []", "> GET *", &answer, end]);
        }
    }
    let two = "< 200 [{'name':'b'},{'name':'b'}]";
    plays("two rows of a key", simple(), &[FIRST, "< 200 []", "> GET *", two, "= retry, counted"]);
}
