use std::time::Duration;

use super::*;

fn text(metrics: &Metrics) -> String {
    metrics.encode(&HeaderMap::new()).1
}

#[test]
fn names_and_labels_are_the_documented_ones() {
    let metrics = Metrics::new();
    metrics.route("profiles").request(Outcome::Hit, StatusCode::OK, Duration::from_micros(120));
    metrics.unrouted().request(Outcome::Forwarded, StatusCode::NOT_FOUND, Duration::from_secs(60));
    metrics.route("profiles").upstream(Duration::from_millis(20));
    metrics.upstream_request(Some(StatusCode::BAD_GATEWAY));
    metrics.upstream_request(None);
    metrics.saved(1000);
    metrics.front_hit();
    metrics.invalidation(InvalidationSource::Write);
    metrics.set_evicted("size", 3);
    metrics.set_cache(7, 4096);
    metrics.set_store_up(true);
    metrics.set_clock_skew(-0.5);
    let text = text(&metrics);
    for line in [
        r#"sluice_requests_total{route="profiles",outcome="hit",status="2xx"} 1"#,
        r#"sluice_requests_total{route="-",outcome="forwarded",status="4xx"} 1"#,
        r#"sluice_request_duration_seconds_bucket{le="0.0001",route="profiles",outcome="hit"} 0"#,
        r#"sluice_request_duration_seconds_bucket{le="0.00025",route="profiles",outcome="hit"} 1"#,
        r#"sluice_request_duration_seconds_bucket{le="+Inf",route="-",outcome="forwarded"} 1"#,
        r#"sluice_request_duration_seconds_sum{route="-",outcome="forwarded"} 60.0"#,
        r#"sluice_upstream_duration_seconds_count{route="profiles"} 1"#,
        r#"sluice_upstream_requests_total{status="5xx"} 1"#,
        r#"sluice_upstream_requests_total{status="none"} 1"#,
        "sluice_upstream_saved_bytes_total 1000",
        "sluice_front_hits_total 1",
        r#"sluice_invalidations_total{source="write"} 1"#,
        r#"sluice_cache_evictions_total{reason="size"} 3"#,
        "sluice_cache_entries 7",
        "sluice_cache_bytes 4096",
        "sluice_connections 0",
        "sluice_store_up 1",
        "sluice_clock_skew_seconds -0.5",
        concat!("sluice_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|there| there == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("_total_total"));
}

#[test]
fn every_type_is_known_to_plain_prometheus() {
    for line in text(&Metrics::new()).lines().filter(|line| line.starts_with("# TYPE")) {
        let kind = line.rsplit(' ').next().unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
    }
}

#[test]
fn a_route_has_one_set_of_series() {
    let metrics = Metrics::new();
    assert!(Arc::ptr_eq(&metrics.route("a"), &metrics.route("a")));
    for _ in 0..2 {
        metrics.route("a").request(Outcome::Miss, StatusCode::OK, Duration::ZERO);
    }
    assert!(text(&metrics).contains(r#"{route="a",outcome="miss",status="2xx"} 2"#));
}

#[test]
fn outcomes_index_their_own_series() {
    for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
        assert_eq!(outcome as usize, index);
    }
}

#[test]
fn odd_statuses_have_a_class() {
    for (status, class) in
        [(100, "1xx"), (206, "2xx"), (304, "3xx"), (499, "4xx"), (599, "5xx"), (999, "5xx")]
    {
        assert_eq!(STATUS_CLASSES[class_index(StatusCode::from_u16(status).unwrap())], class);
    }
}

#[test]
fn connections_are_counted_while_open() {
    let metrics = Metrics::new();
    let guards = [metrics.connection(), metrics.connection()];
    assert!(text(&metrics).contains("sluice_connections 2\n"));
    drop(guards);
    assert!(text(&metrics).contains("sluice_connections 0\n"));
}

#[test]
fn the_media_type_follows_accept() {
    let metrics = Metrics::new();
    for (accept, expected) in [
        ("*/*", "text/plain;"),
        ("text/plain;version=0.0.4", "text/plain;"),
        ("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1", "application/openmetrics-text;"),
    ] {
        let mut request = HeaderMap::new();
        request.insert(header::ACCEPT, HeaderValue::from_static(accept));
        let (media, text) = metrics.encode(&request);
        assert!(media.to_str().unwrap().starts_with(expected), "{accept}");
        assert!(text.ends_with("# EOF\n"));
    }
}
