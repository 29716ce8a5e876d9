use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const DEADLINE: Duration = Duration::from_secs(3);

/// A resolver whose n-th lookup answers `script(n)`, and the count of its lookups.
fn scripted(
    script: impl Fn(usize) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
) -> (Arc<Resolver>, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let script = Arc::new(script);
    let resolver = Resolver::with_lookup("db.example", 443, DEADLINE, move || {
        let (counter, script) = (Arc::clone(&counter), Arc::clone(&script));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            script(counter.fetch_add(1, Ordering::SeqCst))
        })
    });
    (resolver, count)
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, last], 443))
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

#[tokio::test]
async fn literals_are_never_looked_up() {
    for (host, expected) in [("127.0.0.1", "127.0.0.1:8000"), ("[::1]", "[::1]:8000"), ("::1", "[::1]:8000")]
    {
        let resolver = Resolver::with_lookup(host, 8000, DEADLINE, || panic!("looked up"));
        let addresses = resolver.addresses().await.unwrap();
        assert_eq!(addresses[0].to_string(), expected);
        resolver.report_failure(addresses[0]);
        assert_eq!(resolver.addresses().await.unwrap(), addresses);
    }
}

#[tokio::test]
async fn the_systems_resolver_knows_localhost() {
    let resolver = Resolver::new("localhost", 80, DEADLINE);
    assert!(resolver.addresses().await.unwrap().iter().all(|address| address.ip().is_loopback()));
}

#[tokio::test(start_paused = true)]
async fn concurrent_callers_share_one_lookup() {
    let (resolver, count) = scripted(|_| Ok(vec![address(1), address(1), address(2)]));
    let calls = (0..50).map(|_| {
        let resolver = Arc::clone(&resolver);
        tokio::spawn(async move { resolver.addresses().await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(*call.await.unwrap().unwrap(), [address(1), address(2)]);
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_given_at_once_and_refreshed_behind() {
    let (resolver, count) = scripted(|call| Ok(vec![address(call as u8)]));
    assert_eq!(*resolver.addresses().await.unwrap(), [address(0)]);
    tokio::time::sleep(Duration::from_secs(9)).await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(0)]);
    settle().await;
    assert_eq!(count.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(0)]);
    settle().await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_keeps_the_answer() {
    let (resolver, count) = scripted(|call| match call {
        0 => Ok(vec![address(1)]),
        1 => Err(io::Error::other("no such host")),
        _ => Ok(Vec::new()),
    });
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(11)).await;
        assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
        settle().await;
    }
    assert_eq!(count.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_lookup_is_remembered_for_a_second() {
    let (resolver, count) = scripted(|call| match call {
        0 => Err(io::Error::other("no such host")),
        _ => Ok(vec![address(1)]),
    });
    assert_eq!(resolver.addresses().await.unwrap_err().reason, "no such host");
    assert!(resolver.addresses().await.is_err());
    assert_eq!(count.load(Ordering::SeqCst), 1);
    tokio::time::sleep(RETRY_AFTER).await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_hangs_ends_at_its_deadline() {
    let resolver = Resolver::with_lookup("db.example", 443, DEADLINE, || Box::pin(std::future::pending()));
    let begun = Instant::now();
    assert!(resolver.addresses().await.unwrap_err().timed_out);
    assert_eq!(begun.elapsed().as_secs(), DEADLINE.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_does_not_stop_the_lookup() {
    let (resolver, count) = scripted(|_| Ok(vec![address(1)]));
    assert!(timeout(Duration::from_millis(1), resolver.addresses()).await.is_err());
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_panics_is_a_failure_of_that_lookup_alone() {
    let (resolver, _) = scripted(|call| match call {
        0 => std::panic::resume_unwind(Box::new("a broken lookup")),
        _ => Ok(vec![address(1)]),
    });
    assert_eq!(resolver.addresses().await.unwrap_err().reason, "the lookup was cut off");
    tokio::time::sleep(RETRY_AFTER).await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1)]);
}

#[tokio::test(start_paused = true)]
async fn failed_addresses_are_tried_last_for_a_while() {
    let (resolver, count) = scripted(|_| Ok(vec![address(1), address(2), address(3)]));
    resolver.addresses().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    resolver.report_failure(address(1));
    assert_eq!(*resolver.addresses().await.unwrap(), [address(2), address(3), address(1)]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    resolver.report_failure(address(2));
    resolver.report_failure(address(9));
    assert_eq!(*resolver.addresses().await.unwrap(), [address(3), address(1), address(2)]);
    assert_eq!(count.load(Ordering::SeqCst), 2);
    tokio::time::sleep(PENALTY).await;
    resolver.addresses().await.unwrap();
    settle().await;
    assert_eq!(*resolver.addresses().await.unwrap(), [address(1), address(2), address(3)]);
}
