//! Plain POST.

use super::*;

const POST: &str = "> POST {'id':'5','name':'b','at':'@10'}";
const READ: &str = "> GET id,at,name";
const THERE: &str = "< 409 {'code':'23505'}";

fn simple() -> Job {
    job(vec![(10, record(Action::Insert, "{'name':'b'}"))])
}

#[test]
fn an_insert_is_a_plain_post() {
    for status in ["< 201", "< 200", "< 204", "< 201 nothing that is read"] {
        plays(status, simple(), &[POST, status, "= applied"]);
    }
    plays("a success that nobody knows", simple(), &[POST, "< 202", "= retry, counted"]);
    plays(
        "a parent is missing",
        simple(),
        &[POST, "< 409 {'code':'23503'}", "= rejected refused 409 {'code':'23503'}"],
    );
    for (answer, end) in [
        ("< 401", "= new token"),
        ("< 503", "= retry"),
        ("< broken", "= retry"),
        ("< 500", "= retry, counted"),
    ] {
        plays(answer, simple(), &[POST, answer, end]);
    }
}

#[test]
fn a_key_that_is_there_is_ours_if_its_values_are() {
    let rejected = "= rejected refused 409 {'code':'23505'}";
    for (answer, end) in [
        ("< 200 [{'id':5,'name':'b','at':'@10'}]", "= applied @10"),
        ("< 200 [{'id':5,'name':'b','at':'@31'}]", "= applied @31"),
        ("< 200 [{'id':5,'name':'c','at':'@10'}]", rejected),
        // Another unique column's value, or a row that the caller can't see.
        ("< 200 []", rejected),
        ("< 403 {'code':'42501'}", rejected),
        ("< 404", rejected),
        ("< 401", "= new token"),
        ("< 503", "= retry"),
        ("< broken", "= retry"),
        ("< 429 retry-after:3", "= retry, counted after 3s"),
        ("< 200 <html>", "= retry, counted"),
    ] {
        plays(answer, simple(), &[POST, THERE, READ, answer, end]);
    }
    let key_alone = job(vec![(10, record(Action::Insert, "{}"))]);
    let script =
        ["> POST {'id':'5','at':'@10'}", THERE, "> GET id,at", "< 200 [{'id':5,'at':'@9'}]", "= applied @9"];
    plays("nothing but a key", key_alone, &script);
}

#[test]
fn an_insert_that_is_followed_learns_its_time() {
    for (answer, end) in [
        ("< 200 [{'id':5,'name':'b','at':'@31'}]", "= applied @31"),
        // Somebody's, or a trigger's: not the time of exactly these values.
        ("< 200 [{'id':5,'name':'B','at':'@31'}]", "= applied"),
        ("< 200 []", "= applied"),
        ("< 403 {'code':'42501'}", "= applied"),
        ("< 401", "= applied"),
        ("< 500", "= applied"),
        ("< 200 <html>", "= applied"),
        ("< 503", "= retry"),
        ("< broken", "= retry"),
    ] {
        plays(answer, followed(simple()), &[POST, "< 201", READ, answer, end]);
    }
    let update = (11, record(Action::Patch, "{'n':2}"));
    let jobs = job(vec![(10, record(Action::Insert, "{'name':'b'}")), update]);
    plays(
        "by a member of the job",
        jobs,
        &[
            POST,
            "< 201",
            READ,
            "< 200 [{'id':5,'name':'b','at':'@31'}]",
            "= applied @31",
            "> PATCH lte.@11 {'n':2,'at':'@11'}",
            "< 200 []",
            "> GET *",
            "< 200 [{'id':5,'name':'b','n':0,'at':'@31'}]",
            "> PATCH eq.@31 {'n':2,'at':'@11'}",
            "< 200 [{'at':'@32'}]",
            "= applied @32",
        ],
    );
}

#[test]
fn a_missing_right_is_tried_without_the_added_time() {
    let refused = "< 403 {'code':'42501'}";
    let again = "> POST {'id':'5','name':'b'}";
    plays("granted", simple(), &[POST, refused, again, "< 201", "= applied"]);
    plays("not", simple(), &[POST, refused, again, refused, "= rejected refused 403 {'code':'42501'}"]);
    let there = "< 200 [{'name':'b','at':'@3'}]";
    plays("there already", simple(), &[POST, refused, again, THERE, READ, there, "= applied @3"]);
    plays("followed", followed(simple()), &[POST, refused, again, "< 201", READ, there, "= applied @3"]);
}

#[test]
fn an_insert_that_is_followed_meanwhile_learns_its_time() {
    let (mut replay, _) = Replay::new(simple()).unwrap();
    replay.note_later();
    let Step::Ask(read) = step(&mut replay, "201") else { panic!("the row is read") };
    assert_eq!(format!("> {}", told(&read)), READ);
}
