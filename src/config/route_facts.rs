//! What routes have to agree on that are about the same table.

use super::context::Context;
use super::file::{Node, Place, Table};
use crate::route::{Invalidate, RouteTable};

/// Notes where routes contradict each other. `written` has the table of each
/// route as it stands in the file.
pub(super) fn check(context: &Context<'_>, routes: &RouteTable, written: &[&Table]) {
    let place = |route: usize, section: &str, key: &str| {
        written.get(route).and_then(|table| place_of(table, section, key))
    };
    for (later, route) in routes.iter().enumerate() {
        let defers_too =
            |other: usize| other == later || routes.share_a_table(other.min(later), other.max(later));
        let others = || routes.iter().enumerate().filter(|(other, _)| defers_too(*other));
        for (earlier, other) in others().take_while(|(earlier, _)| *earlier < later) {
            let (Some(first), Some(second)) = (&other.write, &route.write) else { continue };
            for key in first.disagreements(second) {
                disagree(context, key, place(earlier, "write", key), place(later, "write", key));
            }
        }
        let lives_on = route.read.as_ref().is_some_and(|read| read.invalidate == Invalidate::None);
        if lives_on && let Some((other, _)) = others().find(|(_, other)| other.write.is_some()) {
            never_seen(context, place(other, "write", ""), place(later, "read", "invalidate"));
        }
    }
}

/// Where `key` stands in `[route.<section>]`, or else where that begins.
fn place_of<'a>(route: &'a Table, section: &str, key: &str) -> Option<&'a Place> {
    let entry = route.0.get(section)?;
    let inside = match &entry.item.node {
        Node::Table(table) => table.0.get(key).map(|entry| &entry.key),
        _ => None,
    };
    Some(inside.unwrap_or(&entry.key))
}

fn disagree(context: &Context<'_>, key: &str, first: Option<&Place>, second: Option<&Place>) {
    let (Some(first), Some(second)) = (first, second) else { return };
    let position = context.position(first);
    let problem =
        format!("`route.write.{key}` is not that of an earlier route for the same table, at {position}");
    let remedy = "write the same in both: it is a fact about the table";
    context.problem(second, problem, Some(remedy.into()));
}

fn never_seen(context: &Context<'_>, write: Option<&Place>, invalidate: Option<&Place>) {
    let (Some(write), Some(invalidate)) = (write, invalidate) else { return };
    let position = context.position(write);
    let problem = format!("`route.read.invalidate` can't be \"none\" for a table that defers, at {position}");
    let remedy = "write \"all\" or \"writer\", or remove `[route.write]`";
    context.problem(invalidate, problem, Some(remedy.into()));
}
