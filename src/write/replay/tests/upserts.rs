//! POST with `resolution=merge-duplicates`.

use super::*;

const PATCH: &str = "> PATCH lte.@10 {'name':'b','at':'@10'}";
const POST: &str = "> POST ignoring {'id':'5','name':'b','at':'@10'}";
const OTHERS: &str = "{'id':5,'name':'c','at':'@20'}";

fn of_row() -> Job {
    job(vec![(10, record(Action::Upsert, "{'name':'b'}"))])
}

fn of_none() -> Job {
    based_on(of_row(), Base::Absent)
}

#[test]
fn a_row_that_is_there_is_changed_as_by_a_patch() {
    for job in [of_row(), of_none()] {
        plays("changed", job, &[PATCH, "< 200 [{'at':'@10'}]", "= applied @10"]);
    }
    for job in [of_row(), of_none()] {
        let script =
            [PATCH, "< 200 []", "> GET *", &format!("< 200 [{OTHERS}]"), &format!("= superseded {OTHERS}")];
        plays("somebody else's", job, &script);
    }
    let lost = [PATCH, "< 200 []", "> GET *", "< 200 [{'name':'b','at':'@31'}]", "= applied @31"];
    plays("a lost response", of_none(), &lost);
}

#[test]
fn a_row_that_was_known_and_is_gone_is_not_revived() {
    plays("gone", of_row(), &[PATCH, "< 200 []", "> GET *", "< 200 []", "= superseded gone"]);
}

#[test]
fn a_row_that_never_was_is_made() {
    let begun = [PATCH, "< 200 []", "> GET *", "< 200 []", POST];
    let with = |more: &[&'static str]| [&begun[..], more].concat();
    plays("made", of_none(), &with(&["< 201 [{'id':5,'at':'@10'}]", "= applied @10"]));
    plays("made, a trigger's time", of_none(), &with(&["< 201 [{'id':5,'at':'@31'}]", "= applied @31"]));
    plays(
        "a parent is missing",
        of_none(),
        &with(&["< 409 {'code':'23503'}", "= rejected refused 409 {'code':'23503'}"]),
    );
    plays("nobody knows", of_none(), &with(&["< 201 made", "= retry, counted"]));
    plays("away", of_none(), &with(&["< 503", "= retry"]));
    let refused = "< 403 {'code':'42501'}";
    let again = "> POST ignoring {'id':'5','name':'b'}";
    plays("no right to the time", of_none(), &with(&[refused, again, "< 201 [{'at':'@3'}]", "= applied @3"]));
    plays(
        "no right",
        of_none(),
        &with(&[refused, again, refused, "= rejected refused 403 {'code':'42501'}"]),
    );
}

#[test]
fn a_row_in_the_way_is_tried_once_more_from_the_patch() {
    let begun = [PATCH, "< 200 []", "> GET *", "< 200 []", POST, "< 201 []", PATCH];
    let with = |more: &[&'static str]| [&begun[..], more].concat();
    plays("just made by another", of_none(), &with(&["< 200 [{'at':'@10'}]", "= applied @10"]));
    let nobody = with(&["< 200 []", "> GET *", "< 200 []", "= rejected not_visible"]);
    plays("hidden", of_none(), &nobody);
    let newer = with(&[
        "< 200 []",
        "> GET *",
        "< 200 [{'name':'c','at':'@20'}]",
        "= superseded {'name':'c','at':'@20'}",
    ]);
    plays("newer", of_none(), &newer);
    let null = with(&[
        "< 200 []",
        "> GET *",
        "< 200 [{'name':'c','at':null}]",
        "> PATCH is.null {'name':'b','at':'@10'}",
        "< 200 [{'at':'@10'}]",
        "= applied @10",
    ]);
    plays("without a time", of_none(), &null);
    let untimed =
        ["< 200 []", "> GET *", "< 200 [{'name':'c','at':null}]", "> PATCH is.null {'name':'b','at':'@10'}"];
    let come_and_gone = [
        &[PATCH],
        &untimed[..],
        &["< 200 []", "> GET *", "< 200 []", POST, "< 201 []", PATCH],
        &untimed,
        &["< 200 [{'at':'@10'}]", "= applied @10"],
    ];
    plays("it comes and goes", of_none(), &come_and_gone.concat());
}

#[test]
fn unchanged_means_that_there_still_is_none() {
    let job = || unchanged(of_none());
    plays("there is none", job(), &["> GET *", "< 200 []", POST, "< 201 [{'at':'@10'}]", "= applied @10"]);
    plays(
        "there is one",
        job(),
        &["> GET *", &format!("< 200 [{OTHERS}]"), &format!("= superseded {OTHERS}")],
    );
    plays("a lost response", job(), &["> GET *", "< 200 [{'name':'b','at':'@10'}]", "= applied @10"]);
    let hidden = ["> GET *", "< 200 []", POST, "< 201 []", "> GET *", "< 200 []", "= rejected not_visible"];
    plays("hidden", job(), &hidden);
}

#[test]
fn a_retried_dead_letter_makes_the_row_too() {
    let script = [PATCH, "< 200 []", "> GET *", "< 200 []", POST, "< 201 [{'at':'@10'}]", "= applied @10"];
    plays("made", dead_letter(of_none()), &script);
}
