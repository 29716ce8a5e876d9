//! Hits are counted and logged the same, whoever answers them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::front_connections::{in_front, row};
use crate::support::eventually;
use crate::support::front::{Client, FrontHits, never_the_fronts};
use crate::support::http::Request;
use crate::support::sluice::Sluice;

const LARGE: &str = "/storage/v1/object/public/media/large.bin";
/// How often each is asked, on each path.
const TIMES: usize = 5;

/// Every kind of hit, and how it is asked for. Parts may be left to the proxy.
fn kinds(sluice: &Sluice) -> Vec<(&'static str, Request)> {
    let large = || sluice.get(LARGE);
    vec![
        ("GET", row(sluice, 1)),
        ("GET", row(sluice, 1).header("If-None-Match", "*")),
        ("GET", row(sluice, 2).header("Accept-Encoding", "gzip")),
        ("HEAD", sluice.request("HEAD", "/rest/v1/users?id=eq.1").anonymous()),
        ("GET", large()),
        ("GET", large().header("Range", "bytes=0-9")),
        ("GET", large().header("Range", "bytes=999999-")),
        ("GET", sluice.get(&format!("{LARGE}?token=a-secret-one"))),
    ]
}

/// Asks [`TIMES`] for a hit.
#[track_caller]
fn ask(client: &mut Client<std::net::TcpStream>, method: &str, request: &Request) {
    for _ in 0..TIMES {
        client.write(&request.encode());
        assert!(client.read(method).is_hit(), "{}", String::from_utf8_lossy(&request.encode()));
    }
}

/// What is counted of requests, by series.
fn counts(sluice: &Sluice) -> BTreeMap<String, i64> {
    let text = sluice.admin("GET", "/metrics").send().expect(200).text();
    let counted = ["sluice_requests_total", "sluice_request_duration_seconds_count", "sluice_upstream_"];
    let lines = text.lines().filter(|line| counted.iter().any(|series| line.starts_with(series)));
    let pairs = lines.filter_map(|line| line.rsplit_once(' '));
    pairs.map(|(series, value)| (series.to_owned(), value.parse::<f64>().unwrap() as i64)).collect()
}

fn requests(counts: &BTreeMap<String, i64>) -> i64 {
    let counted = |series: &String| {
        series.starts_with("sluice_requests_total") || series.starts_with("sluice_request_duration")
    };
    counts.iter().filter(|(series, _)| counted(series)).map(|(_, count)| count).sum()
}

/// The series that `scenario` moves, and by how much; it makes so many requests.
#[track_caller]
fn moved(sluice: &Sluice, times: usize, scenario: impl FnOnce()) -> BTreeMap<String, i64> {
    let before = counts(sluice);
    scenario();
    let mut after = before.clone();
    // An answer may arrive a moment before it is counted.
    eventually("all is counted", || {
        after = counts(sluice);
        requests(&after) - requests(&before) >= 2 * times as i64
    });
    let by = |(series, count): (String, i64)| {
        let moved = count - before.get(&series).copied().unwrap_or_default();
        (moved != 0).then_some((series, moved))
    };
    after.into_iter().filter_map(by).collect()
}

#[test]
fn hits_are_counted_the_same() {
    let (_upstream, sluice) = in_front(|setup| setup);
    let mut client = Client::open(sluice.address());
    for (method, request) in kinds(&sluice) {
        moved(&sluice, 1 + TIMES, || {
            client.write(&request.encode());
            client.read(method);
            ask(&mut client, method, &request);
        });
        let counted = FrontHits::from_now(&sluice);
        let fronts = moved(&sluice, TIMES, || ask(&mut client, method, &request));
        if !String::from_utf8_lossy(&request.encode()).contains("Range:") {
            counted.expect(TIMES as u64, &String::from_utf8_lossy(&request.encode()));
        }
        let proxys = moved(&sluice, TIMES, || ask(&mut client, method, &never_the_fronts(&request)));
        assert_eq!(fronts, proxys, "{}", String::from_utf8_lossy(&request.encode()));
        let total = fronts.iter().filter(|(series, _)| series.starts_with("sluice_requests_total"));
        assert_eq!(total.map(|(_, count)| count).sum::<i64>(), TIMES as i64);
    }
}

#[test]
fn hits_are_logged_the_same() {
    let (_upstream, sluice) = in_front(|setup| setup.section("log", "format = \"json\"\naccess = true"));
    let mut client = Client::open(sluice.address());
    let mut asked = 0;
    for (method, request) in kinds(&sluice) {
        client.write(&request.encode());
        client.read(method);
        ask(&mut client, method, &request);
        ask(&mut client, method, &never_the_fronts(&request));
        asked += 1 + 2 * TIMES;
        let mut lines = Vec::new();
        eventually("each has its line", || {
            lines = access_lines(&sluice);
            lines.len() >= asked
        });
        assert_eq!(lines.len(), asked, "one line each");
        let hits = &lines[asked - 2 * TIMES..];
        for line in hits {
            assert_eq!(line, &hits[2 * TIMES - 1]);
            assert_eq!(line["outcome"], "hit");
        }
    }
    assert!(!sluice.log().contains("a-secret-one"), "a secret is logged");
}

/// The access log, without what the clock says.
fn access_lines(sluice: &Sluice) -> Vec<Value> {
    let mut lines: Vec<Value> =
        sluice.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    lines.retain(|line| line["target"] == "access");
    for line in &mut lines {
        let line = line.as_object_mut().unwrap();
        line.remove("timestamp");
        line.remove("duration_ms");
    }
    lines
}
