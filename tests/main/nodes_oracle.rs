//! The oracle over a fleet: reads and writes go to three nodes at random, and
//! what is read is what PostgREST answers at that moment. Only what another
//! node's write has just changed may lag behind, and for how long is measured.
//!
//! `STEPS` and `SEED` change the length and bring a sequence back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::nodes::AT_WORST;
use crate::support::backend::Stack;
use crate::support::http::Connection;
use crate::support::sluice::{Setup, Sluice};
use crate::support::story::{self, Call, Story, ask, cached, seen};
use crate::support::{Random, p99, redis};

const DEFAULT_STEPS: u64 = 2_000;
const MOSTLY: Duration = Duration::from_millis(20);

#[test]
fn three_nodes_read_what_upstream_has_with_the_schema_known() {
    let stack = story::stack("oracle_nodes_known");
    let setup = Setup::new(&stack.url()).with_schema();
    compare(&stack, &setup, "three nodes, schema known", "");
}

#[test]
fn three_nodes_read_what_upstream_has_without_a_schema() {
    let stack = story::stack("oracle_nodes_unknown");
    compare(&stack, &Setup::new(&stack.url()), "three nodes, schema unknown", "");
}

/// Were an invalidation not passed on, the comparison would tell.
#[test]
#[should_panic(expected = "the last calls")]
fn the_comparison_notices_what_is_stale_on_another_node() {
    let stack = story::stack("oracle_nodes_blind");
    compare(&stack, &Setup::new(&stack.url()), "three nodes, nothing invalidated", "invalidate = \"none\"");
}

/// A node, as one client sees it.
struct Node {
    sluice: Sluice,
    connection: Connection,
    /// Whether it may be behind other nodes' writes: it has a memory of its own.
    may_lag: bool,
}

impl Node {
    fn new(sluice: Sluice, may_lag: bool) -> Self {
        let connection = Connection::open(sluice.address()).unwrap();
        Self { sluice, connection, may_lag }
    }
}

/// The latest write through each node: which, and when it was answered.
#[derive(Default)]
struct Writes {
    answered: BTreeMap<usize, Instant>,
    /// For each write, the time after which nothing older was read. Most are zero.
    lags: Vec<Duration>,
}

impl Writes {
    fn note(&mut self, node: usize) {
        self.answered.insert(node, Instant::now());
        self.lags.push(Duration::ZERO);
    }

    /// When the latest write through another node than this was answered.
    fn elsewhere(&self, node: usize) -> Option<Instant> {
        self.answered.iter().filter(|(writer, _)| **writer != node).map(|(_, at)| *at).max()
    }

    /// Something older than the latest write was read so long after it.
    fn lagged(&mut self, lag: Duration) {
        if let Some(last) = self.lags.last_mut() {
            *last = lag.max(*last);
        }
    }
}

fn compare(stack: &Stack, setup: &Setup, what: &str, policy: &str) {
    let setup = cached(&setup.clone().redis(&redis::shared().url()), policy);
    let [one, other] = setup.nodes();
    let [bare] = setup.clone().without_memory().nodes();
    let mut nodes = [Node::new(one, true), Node::new(other, true), Node::new(bare, false)];
    let seed = story::seed();
    let steps = story::number("STEPS").unwrap_or(DEFAULT_STEPS);
    eprintln!("transparency, {what}: SEED={seed} STEPS={steps}");

    let (mut story, mut choice) = (Story::new(seed), Random::new(seed ^ 0xf1ee7));
    let mut direct = Connection::open(&stack.address()).unwrap();
    let (mut history, mut writes) = (Vec::new(), Writes::default());
    let mut outcomes = BTreeMap::<&str, u64>::new();
    for step in 0..steps {
        let call = story.next_call();
        let number = choice.below(3) as usize;
        history.push(format!("node {number}, {}", call.describe()));
        let node = &mut nodes[number];
        if call.is_write() {
            let answer = ask(&call.request(node.sluice.address()), &mut node.connection, &history);
            writes.note(number);
            *outcomes.entry(if answer.status < 300 { "writes" } else { "refused writes" }).or_default() += 1;
            continue;
        }
        let excuse = writes.elsewhere(number).filter(|_| node.may_lag);
        match read(node, &call, stack, &mut direct, excuse, &history) {
            Ok((hit, lag)) => {
                *outcomes.entry(if hit { "hits" } else { "misses" }).or_default() += 1;
                if let Some(lag) = lag {
                    writes.lagged(lag);
                    *outcomes.entry("asked again").or_default() += 1;
                }
            }
            Err(difference) => {
                let recent = history[history.len().saturating_sub(12)..].join("\n  ");
                panic!("step {step}, {what}, SEED={seed}: {difference}\nthe last calls:\n  {recent}");
            }
        }
    }
    eprintln!("transparency, {what}: {outcomes:?}");
    story::enough(&outcomes, steps);
    let lag = p99(&format!("{what}: from a write's answer until nothing older is read"), &writes.lags);
    assert!(lag < MOSTLY, "{lag:?}");
}

/// Asks until the node answers as upstream does: whether that was a hit and, if
/// it wasn't the first answer, how long after the write that is its `excuse`.
///
/// # Errors
///
/// How the answers differ, where there is no excuse or not any more.
fn read(
    node: &mut Node,
    call: &Call,
    stack: &Stack,
    direct: &mut Connection,
    excuse: Option<Instant>,
    history: &[String],
) -> Result<(bool, Option<Duration>), String> {
    let mut expected = None;
    let mut lag = None;
    loop {
        let asked = Instant::now();
        let answer = ask(&call.request(node.sluice.address()), &mut node.connection, history);
        // Upstream comes second: the node has no time to catch up.
        let expected = expected.get_or_insert_with(|| ask(&call.request(&stack.address()), direct, history));
        if seen(&answer) == seen(expected) {
            return Ok((answer.is_hit(), lag));
        }
        let late = excuse.map(|written| asked.duration_since(written));
        if late.is_none_or(|late| late > AT_WORST) {
            let (answered, status) = (seen(&answer), answer.cache_status());
            return Err(format!(
                "{status}, {late:?} after a write\n{answered:?}\nis not\n{:?}",
                seen(expected)
            ));
        }
        lag = excuse.map(|written| written.elapsed());
    }
}
