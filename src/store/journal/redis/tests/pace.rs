//! How many appends a server takes that has each on its disk before it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::server::{RedisServer, info};
use crate::store::journal::model::draft;
use crate::store::journal::{CallerId, Draft, Journal, Limits, RowId};

const TASKS: u64 = 64;

#[test]
#[ignore = "a measurement, on a quiet machine: cargo test --release -- --ignored --nocapture appends_a_second"]
fn appends_a_second() {
    let server = RedisServer::start(&[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let limits = Limits { max_writes: 10_000_000, max_writes_per_caller: 10_000_000, concurrency: 16 };
        let node = Arc::new(server.node("pace", limits).await);
        let (count, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (node, count) = (node.clone(), count.clone());
                tokio::spawn(async move {
                    let mut slowest = Duration::ZERO;
                    for n in 0u64.. {
                        if begun.elapsed() > Duration::from_secs(5) {
                            break;
                        }
                        let id = task * 1_000_000_000 + n;
                        let mut row = [0; 16];
                        row[..8].copy_from_slice(&id.to_be_bytes());
                        let mut caller = [0; 16];
                        caller[..8].copy_from_slice(&(id % 1000).to_be_bytes());
                        let (row, caller) = (RowId(row), CallerId(caller));
                        let record = Bytes::from(vec![b'x'; 1500]);
                        let asked = Instant::now();
                        node.append(Draft { row, caller, record, ..draft(u128::from(id), 0, 0) })
                            .await
                            .unwrap();
                        slowest = slowest.max(asked.elapsed());
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    slowest
                })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        for task in tasks {
            slowest = slowest.max(task.await.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let stats = info(&server, "commandstats");
        println!("{}", stats.lines().find(|line| line.starts_with("cmdstat_evalsha")).unwrap_or_default());
        let cpu = info(&server, "cpu");
        println!("{}", cpu.lines().filter(|line| line.contains("_cpu_")).collect::<Vec<_>>().join(" "));
        println!("{:.0} appends/s, slowest {slowest:?}", count.load(Ordering::Relaxed) as f64 / seconds);
    });
}
