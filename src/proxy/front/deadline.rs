//! What ends a connection's waiting, besides what it waits for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that moves with each request, at next to no cost: the one timer
/// is left where it is while it is due too early, and set again when it fires.
#[derive(Debug)]
pub struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    /// A timer that is first set for `due`.
    pub fn new(due: Instant) -> Self {
        Self(Box::pin(sleep_until(due)))
    }

    /// Ready once `due` is over. It may be another one with each call.
    pub fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        if due < self.0.deadline() {
            self.0.as_mut().reset(due);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if due <= self.0.deadline() {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(due);
        }
    }
}

/// The stop of the process, as a connection sees it. Asking costs one atomic
/// load; the lock that all connections share is taken once for each of them.
pub struct Stop {
    signal: watch::Receiver<bool>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// Whom the signal will wake.
    woken: Option<Waker>,
}

impl Stop {
    /// `signal` turns true, once, when the process stops.
    pub fn new(signal: watch::Receiver<bool>) -> Self {
        let mut seen = signal.clone();
        // It is polled once, and must not put that off because the task has done much before.
        let stopped = unconstrained(async move { stopped(&mut seen).await });
        Self { signal, stopped: Box::pin(stopped), woken: None }
    }

    /// Whether the process stops.
    pub fn is_due(&self) -> bool {
        !matches!(self.signal.has_changed(), Ok(false))
    }

    /// Ready once the process stops.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_due() {
            return Poll::Ready(());
        }
        if self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.woken = Some(cx.waker().clone());
        self.stopped.as_mut().poll(cx)
    }
}

/// Returns once `signal` is true or its sender is gone.
pub async fn stopped(signal: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop as well.
    let _ = signal.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_deadline_may_move_both_ways() {
        let begun = Instant::now();
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let mut deadline = Deadline::new(after(1));
        // The timer fires at once, and is set again.
        poll_fn(|cx| deadline.poll(cx, after(40))).await;
        assert!(Instant::now() >= after(40));
        assert!(futures_util::poll!(poll_fn(|cx| deadline.poll(cx, after(60_000)))).is_pending());
        // Sooner than the timer is set for.
        poll_fn(|cx| deadline.poll(cx, after(60))).await;
        assert!((after(60)..after(30_000)).contains(&Instant::now()));
    }

    #[tokio::test]
    async fn a_stop_wakes_whoever_waits_for_it() {
        for dropped in [false, true] {
            let (sender, receiver) = watch::channel(false);
            let mut stop = Stop::new(receiver.clone());
            for _ in 0..2 {
                assert!(futures_util::poll!(poll_fn(|cx| stop.poll(cx))).is_pending());
            }
            assert!(!stop.is_due());
            // Another task, hence another waker.
            let waiting = tokio::spawn(async move {
                poll_fn(|cx| stop.poll(cx)).await;
                stop.is_due()
            });
            tokio::task::yield_now().await;
            if dropped {
                drop(sender);
            } else {
                sender.send(true).unwrap();
            }
            assert!(waiting.await.unwrap());
        }
    }
}
