//! Who is in the fleet, and whose the store is.

use std::process::Command;

use super::{ROUTE, new_row, read, real, shared};
use crate::support::faulty::Faulty;
use crate::support::process::Process;
use crate::support::sluice::{Setup, write_file};
use crate::support::{backend, eventually, redis};

#[test]
fn a_node_that_stops_leaves_the_fleet_and_one_that_dies_is_struck_off() {
    let setup = real();
    let nodes = format!("{}:n:{{nodes}}", setup.namespace());
    let mut redis = redis::shared().client();
    let mut count = || redis.command(&["ZCARD", &nodes]).number();
    let [one, other, third] = setup.nodes();
    eventually("all are there", || count() == 3);
    assert_eq!(one.stop(), Some(0));
    assert_eq!(count(), 2, "it says goodbye before it ends");
    other.process().signal("KILL");
    other.process().wait();
    assert_eq!(count(), 2);
    eventually("the dead one is struck off", || count() == 1);
    read(&third, "/rest/v1/teams");
}

#[test]
fn a_store_that_belongs_to_another_upstream_is_refused() {
    let setup = real();
    let [one] = setup.nodes();
    let target = new_row();
    read(&one, &target);
    let elsewhere = Faulty::in_front_of(&backend::shared().url());
    let store = format!(
        "kind = \"redis\"\nurl = \"{}\"\nnamespace = \"{}\"",
        redis::shared().url(),
        setup.namespace()
    );
    let file = write_file(&Setup::new(&elsewhere.url()).section("store", &store).toml());
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["serve", "-c"]).arg(&file);
    let process = Process::start("sluice", "KILL", None, &command);
    let status = process.wait();
    let said = process.lines().join("\n");
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("store.namespace"), "{said}");
    assert!(said.contains(&backend::shared().address()), "it doesn't say whose it is: {said}");
    assert_eq!(elsewhere.count(ROUTE), 0);
    // Whose it is may go on, and come back.
    let [again] = setup.nodes();
    for node in [&one, &again] {
        eventually("it is cached", || read(node, &target).is_hit());
    }
}

#[test]
fn two_namespaces_of_one_redis_know_nothing_of_each_other() {
    let upstream = Faulty::in_front_of(&backend::shared().url());
    let [one] = shared(&upstream.url()).nodes();
    let [other] = shared(&upstream.url()).nodes();
    let target = new_row();
    eventually("it is cached", || read(&one, &target).is_hit());
    let asked = upstream.count(ROUTE);
    read(&other, &target).expect_no_hit();
    assert_eq!(upstream.count(ROUTE), asked + 1, "the other node has to ask for itself");
}
