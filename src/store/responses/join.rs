//! Awaiting several futures at the same time.

use std::future::{Future, poll_fn};
use std::task::Poll;

/// What all of `futures` give, in their order. Meant for few: each is polled
/// whenever one of them may have got further.
pub(super) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut pending = false;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => pending = true,
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn all_run_at_once_and_keep_their_order() {
        let (first, second) = (oneshot::channel::<()>(), oneshot::channel::<()>());
        let (wake_first, wake_second) = (first.0, second.0);
        let one = async move { first.1.await.map(|()| 1) };
        // Ends only while the first is under way, and lets that end.
        let other = async move {
            second.1.await.unwrap();
            wake_first.send(()).unwrap();
            Ok(2)
        };
        wake_second.send(()).unwrap();
        type Boxed = std::pin::Pin<Box<dyn Future<Output = Result<u8, oneshot::error::RecvError>>>>;
        let futures: [Boxed; 2] = [Box::pin(one), Box::pin(other)];
        assert_eq!(all(futures.into_iter()).await, [Ok(1), Ok(2)]);
        assert!(all(std::iter::empty::<std::future::Ready<u8>>()).await.is_empty());
    }
}
