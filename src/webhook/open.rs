//! The connections that are open, and who makes room for the next one.
//!
//! Owns: how many there are at once.
//! Never: reads or writes.
//! Called by: server, status.
//!
//! Why whoever was never answered goes first: the API server keeps a few connections and uses them,
//! and whoever opens many and says nothing then closes his own.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::task::{AbortHandle, Id, JoinSet};

/// What a connection says of itself.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose answer is being made.
    busy: AtomicUsize,
    /// Answers that were made.
    answered: AtomicU64,
}

impl Activity {
    pub(super) async fn during<T>(&self, answer: impl Future<Output = T>) -> T {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let done = answer.await;
        self.busy.fetch_sub(1, Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        done
    }

    /// The less, the sooner it makes room.
    fn worth(&self) -> (bool, bool) {
        let answered = self.answered.load(Ordering::Relaxed) > 0;
        (answered, answered && self.busy.load(Ordering::Relaxed) > 0)
    }
}

/// Oldest first.
pub(super) struct Open {
    most: usize,
    tasks: JoinSet<()>,
    known: Vec<(Id, Arc<Activity>, AbortHandle)>,
}

impl Open {
    pub(super) fn new(most: usize) -> Open {
        Open {
            most,
            tasks: JoinSet::new(),
            known: Vec::new(),
        }
    }

    /// Starts a connection; where there are too many, another one is broken off first.
    pub(super) async fn start<F>(&mut self, connection: impl FnOnce(Arc<Activity>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id));
        }
        while self.known.len() >= self.most {
            let least = self
                .known
                .iter()
                .min_by_key(|(_, activity, _)| activity.worth());
            if let Some((_, _, handle)) = least {
                handle.abort();
            }
            match self.tasks.join_next_with_id().await {
                Some(ended) => self.forget(ended.map_or_else(|error| error.id(), |(id, ())| id)),
                None => self.known.clear(),
            }
        }
        let activity = Arc::new(Activity::default());
        let handle = self.tasks.spawn(connection(Arc::clone(&activity)));
        self.known.push((handle.id(), activity, handle));
    }

    /// Returns when the last one has ended.
    pub(super) async fn ended(&mut self) {
        while self.tasks.join_next().await.is_some() {}
        self.known.clear();
    }

    fn forget(&mut self, id: Id) {
        self.known.retain(|(known, ..)| *known != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn whoever_was_never_answered_makes_room_first_and_then_the_oldest() {
        let mut open = Open::new(2);
        let mut ends = Vec::new();
        for nth in 0..4 {
            let (alive, end) = oneshot::channel::<()>();
            ends.push(end);
            open.start(|activity| async move {
                if nth == 0 {
                    activity.during(async {}).await;
                }
                std::future::pending::<()>().await;
                drop(alive);
            })
            .await;
            tokio::task::yield_now().await;
        }
        let broken = ends
            .iter_mut()
            .map(|end| end.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(broken.collect::<Vec<_>>(), [false, true, true, false]);
    }
}
