//! The oracle: whatever is read through Sluice, with everything cached for an
//! hour, is what PostgREST answers at that moment.
//!
//! `STEPS` and `SEED` change the length and bring a sequence back.

use std::collections::BTreeMap;

use crate::support::backend::Stack;
use crate::support::http::Connection;
use crate::support::sluice::Setup;
use crate::support::story::{self, Story, ask, cached, seen};

const DEFAULT_STEPS: u64 = 10_000;

#[test]
fn reads_equal_upstreams_with_the_schema_known() {
    let stack = story::stack("oracle_known");
    let setup = Setup::new(&stack.url()).with_schema();
    compare(&stack, &setup, "schema known", "");
}

#[test]
fn reads_equal_upstreams_without_a_schema() {
    let stack = story::stack("oracle_unknown");
    compare(&stack, &Setup::new(&stack.url()), "schema unknown", "");
}

/// Were an invalidation missed, the comparison would tell.
#[test]
#[should_panic(expected = "the last calls")]
fn the_comparison_notices_what_is_stale() {
    let stack = story::stack("oracle_blind");
    compare(&stack, &Setup::new(&stack.url()), "nothing invalidated", "invalidate = \"none\"");
}

fn compare(stack: &Stack, setup: &Setup, what: &str, policy: &str) {
    let sluice = cached(setup, policy).start();
    let seed = story::seed();
    let steps = story::number("STEPS").unwrap_or(DEFAULT_STEPS);
    eprintln!("transparency, {what}: SEED={seed} STEPS={steps}");

    let mut story = Story::new(seed);
    let mut through = Connection::open(sluice.address()).unwrap();
    let mut direct = Connection::open(&stack.address()).unwrap();
    let mut history = Vec::new();
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for step in 0..steps {
        let call = story.next_call();
        history.push(call.describe());
        let answer = ask(&call.request(sluice.address()), &mut through, &history);
        if call.is_write() {
            *outcomes.entry(if answer.status < 300 { "writes" } else { "refused writes" }).or_default() += 1;
            continue;
        }
        let expected = ask(&call.request(&stack.address()), &mut direct, &history);
        *outcomes.entry(if answer.is_hit() { "hits" } else { "misses" }).or_default() += 1;
        let recent = history[history.len().saturating_sub(12)..].join("\n  ");
        assert_eq!(
            seen(&answer),
            seen(&expected),
            "step {step}, {what}, SEED={seed}: {}\nthe last calls:\n  {recent}",
            answer.cache_status(),
        );
    }
    eprintln!("transparency, {what}: {outcomes:?}");
    story::enough(&outcomes, steps);
}
