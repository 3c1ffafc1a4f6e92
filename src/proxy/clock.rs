//! The bells of one thread, which one timer rings.
//!
//! Owns: [`Bell`], and the task that keeps the timer.
//! Never: knows what somebody waits for.
//! Called by: `alarm`.
//!
//! Why not a timer of the runtime for each: most waits are over long before their time. To set one of those costs
//! a lock, a place in a wheel and, where it is the first to be due, a system call that wakes a thread which is
//! awake. Here the timer is set for the next step, whoever waits for longer, and again only while anybody has begun to
//! wait since; a bell rings at its time nevertheless.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::runtime;
use tokio::time::{Instant, Sleep};

use super::lot::PATIENCE;

/// The timer is never set further ahead while bells are being set: one that is due later need not move it. As long as
/// the shortest of the waits that most connections have.
const STEP: Duration = PATIENCE;

thread_local! {
    static CLOCK: RefCell<Option<(runtime::Id, Shared)>> = const { RefCell::new(None) };
}

type Shared = Arc<Mutex<Clock>>;

/// Wakes a task at a time. Dropped, it is silent.
pub(super) struct Bell {
    clock: Shared,
    place: usize,
}

#[derive(Default)]
struct Clock {
    places: Vec<Place>,
    free: Vec<usize>,
    /// No bell is due before.
    earliest: Option<Instant>,
    /// A bell was set since the task looked last.
    touched: bool,
    /// What the timer is set for.
    armed: Option<Instant>,
    /// There is a task, and this wakes it.
    task: Option<Waker>,
    running: bool,
}

#[derive(Default)]
struct Place {
    /// `None`: it has rung, or is not set.
    due: Option<Instant>,
    waker: Option<Waker>,
}

fn lock(clock: &Mutex<Clock>) -> MutexGuard<'_, Clock> {
    clock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bell {
    /// One of this thread's, which is not set. Needs a runtime around it.
    pub(super) fn new() -> Bell {
        let clock = here();
        let mut locked = lock(&clock);
        let place = locked.free.pop().unwrap_or_else(|| {
            locked.places.push(Place::default());
            locked.places.len() - 1
        });
        let starts = !std::mem::replace(&mut locked.running, true);
        drop(locked);
        if starts {
            let mut hand = Hand {
                clock: Arc::clone(&clock),
                sleep: Box::pin(tokio::time::sleep(STEP)),
            };
            tokio::spawn(std::future::poll_fn(move |cx| hand.poll(cx)));
        }
        Bell { clock, place }
    }

    /// Sets it, unless it is set for no later than `due`; the task that is woken is that of `cx`. True where it has
    /// rung meanwhile, or was not set: then it is set now.
    pub(super) fn set(&self, due: Instant, cx: &Context<'_>) -> bool {
        let mut clock = lock(&self.clock);
        let Some(place) = clock.places.get_mut(self.place) else {
            return false;
        };
        let (before, same) = (
            place.due,
            (place.waker.as_ref()).is_some_and(|waker| waker.will_wake(cx.waker())),
        );
        let mut old = None;
        if !same {
            old = place.waker.replace(cx.waker().clone());
        }
        let mut task = None;
        if before.is_none_or(|before| due < before) {
            place.due = Some(due);
            clock.touched = true;
            if clock.earliest.is_none_or(|earliest| due < earliest) {
                clock.earliest = Some(due);
            }
            if clock.armed.is_none_or(|armed| due < armed) {
                task = clock.task.take();
            }
        }
        drop(clock);
        // Outside: what a waker keeps alive may have a bell itself.
        drop(old);
        if let Some(task) = task {
            task.wake();
        }
        before.is_none()
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let mut clock = lock(&self.clock);
        let waker = clock.places.get_mut(self.place).and_then(|place| {
            place.due = None;
            place.waker.take()
        });
        clock.free.push(self.place);
        drop(clock);
        drop(waker);
    }
}

/// The clock of this thread, within this runtime.
fn here() -> Shared {
    let id = runtime::Handle::current().id();
    CLOCK.with_borrow_mut(|clock| match clock {
        Some((known, clock)) if *known == id => Arc::clone(clock),
        _ => {
            let (_, clock) = clock.insert((id, Shared::default()));
            Arc::clone(clock)
        }
    })
}

impl Clock {
    /// Those who are to be woken; then when to look again.
    fn look(&mut self, now: Instant) -> (Vec<Waker>, Option<Instant>) {
        let mut rung = Vec::new();
        if self.earliest.is_some_and(|earliest| earliest <= now) {
            self.earliest = None;
            for place in &mut self.places {
                match place.due {
                    Some(due) if due <= now => {
                        place.due = None;
                        rung.extend(place.waker.take());
                    }
                    Some(due) => {
                        self.earliest = Some(self.earliest.map_or(due, |other| other.min(due)));
                    }
                    None => {}
                }
            }
        }
        if self.free.len() == self.places.len() {
            (self.places, self.free) = (Vec::new(), Vec::new());
            self.earliest = None;
        }
        let step = std::mem::take(&mut self.touched).then(|| now + STEP);
        self.armed = self.earliest.into_iter().chain(step).min();
        (rung, self.armed)
    }
}

/// The task.
struct Hand {
    clock: Shared,
    sleep: Pin<Box<Sleep>>,
}

impl Hand {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            let (rung, next) = {
                let mut clock = lock(&self.clock);
                clock.task = Some(cx.waker().clone());
                clock.look(now)
            };
            rung.into_iter().for_each(Waker::wake);
            let Some(next) = next else {
                return Poll::Pending;
            };
            self.sleep.as_mut().reset(next);
            ready!(self.sleep.as_mut().poll(cx));
        }
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        let mut clock = lock(&self.clock);
        clock.running = false;
        clock.armed = None;
        let task = clock.task.take();
        drop(clock);
        drop(task);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn bells() -> (usize, Option<Instant>) {
        let clock = here();
        let clock = lock(&clock);
        (clock.places.len(), clock.armed)
    }

    #[tokio::test(start_paused = true)]
    async fn bells_ring_at_their_time_whatever_their_order() {
        let began = Instant::now();
        let mut waits = Vec::new();
        for ms in [900, 3, 50, 49, 1000, 26, 25, 24] {
            waits.push(tokio::spawn(async move {
                let bell = Bell::new();
                let due = Instant::now() + Duration::from_millis(ms);
                poll_fn(|cx| match bell.set(due, cx) && Instant::now() >= due {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                (ms, began.elapsed())
            }));
        }
        for wait in waits {
            let (ms, after) = wait.await.unwrap();
            assert_eq!(after, Duration::from_millis(ms));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_is_left_alone_while_waits_are_short_and_stops_after_them() {
        let mut armed = Vec::new();
        for _ in 0..100 {
            let bell = Bell::new();
            let due = Instant::now() + 2 * STEP;
            poll_fn(|cx| Poll::Ready(bell.set(due, cx))).await;
            tokio::task::yield_now().await;
            armed.extend(bells().1);
            assert_eq!(bells().0, 1, "a place is used again");
        }
        armed.dedup();
        assert_eq!(armed.len(), 1);
        tokio::time::sleep(10 * STEP).await;
        assert_eq!(bells(), (0, None));
    }

    #[test]
    fn a_thread_whose_runtime_has_ended_gets_another_clock() {
        for _ in 0..2 {
            let runtime = runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let (bell, began) = (Bell::new(), Instant::now());
                let due = began + STEP * 3;
                poll_fn(|cx| match bell.set(due, cx) && Instant::now() >= due {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                })
                .await;
                assert_eq!(began.elapsed(), STEP * 3);
            });
        }
    }
}
