//! One timer for whatever its owner waits for.
//!
//! Owns: when it is moved: only when it fires, or must fire earlier, and so not for every request.
//! Never: knows what is late.
//! Called by: `proxy::guarded`, `proxy::http1`, `proxy::send`, `proxy::lot`, listener.

use std::task::{Context, Poll};

use tokio::time::Instant;

use super::clock::Bell;

/// Costs nothing until something has to be waited for.
#[derive(Default)]
pub struct Alarm(Option<Bell>);

impl Alarm {
    /// Ready once `due` is over. A later call may name another time.
    pub fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = self.0.is_none();
        let bell = self.0.get_or_insert_with(Bell::new);
        // It may have been set for an earlier wait.
        if bell.set(due, cx) && !fresh && Instant::now() >= due {
            self.0 = None;
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    const STEP: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_time_that_was_named_last_and_not_before() {
        let began = Instant::now();
        for (first, second) in [(1, 2), (2, 1)] {
            let mut alarm = Alarm::default();
            let now = Instant::now();
            let early = poll_fn(|cx| Poll::Ready(alarm.poll(now + STEP * first, cx)));
            assert!(early.await.is_pending());
            poll_fn(|cx| alarm.poll(now + STEP * second, cx)).await;
            assert_eq!(now.elapsed().as_secs(), u64::from(second) * STEP.as_secs());
        }
        assert_eq!(began.elapsed().as_secs(), 3 * STEP.as_secs());
    }
}
