//! One timer for whatever its owner waits for.
//!
//! Owns: when it is moved: only when it fires, or must fire earlier, and so not for every request.
//! Never: knows what is late.
//! Called by: `proxy::guarded`, `proxy::http1`, `proxy::send`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Costs nothing until something has to be waited for.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` is over. A later call may name another time.
    pub(super) fn poll(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() > due {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if Instant::now() >= due {
                self.0 = None;
                return Poll::Ready(());
            }
            // It was set for an earlier wait.
            sleep.as_mut().reset(due);
        }
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
