//! One request under way, whatever it came by, in memory that its thread's next request uses again.
//!
//! Owns: [`Work`], and the routines that a thread keeps for it.
//! Never: knows a connection's protocol, or what becomes of the answer.
//! Called by: `proxy::http1`, `proxy::http2`.
//!
//! Why a routine that does one request after the other, and not a future for each: a future is made on the
//! stack and moved to where it stays, and this one has five kilobytes. Here the request moves.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::body::AnswerBody;
use super::connection::Connection;
use super::forward::forward;
use super::http1::Content;
use crate::message::{Request, Response};

/// Routines that one thread keeps.
const KEPT: usize = 32;

type Asked = (Arc<Connection>, Request<Content>);
type Routine = Pin<Box<dyn Future<Output = Infallible> + Send>>;

thread_local! {
    static SPARE: RefCell<Vec<Routine>> = const { RefCell::new(Vec::new()) };
    /// What a routine is given, and gives back, within one poll; between two of them nothing.
    static ASKED: Cell<Option<Asked>> = const { Cell::new(None) };
    static ANSWERED: Cell<Option<Response<AnswerBody>>> = const { Cell::new(None) };
}

/// Does one request after the other. Between two of them it holds nothing.
async fn routine() -> Infallible {
    loop {
        let asked = poll_fn(|_| ASKED.take().map_or(Poll::Pending, Poll::Ready));
        let (connection, request) = asked.await;
        let answer = forward(connection, request).await;
        ANSWERED.set(Some(answer));
    }
}

/// A request on its way to its answer. Dropped, it is given up.
pub(super) struct Work {
    /// What is still to be begun.
    asked: Option<Asked>,
    /// Whose request it is. `None`: it has not begun, or has its answer.
    routine: Option<Routine>,
}

impl Work {
    pub(super) fn new(connection: Arc<Connection>, request: Request<Content>) -> Work {
        Work {
            asked: Some((connection, request)),
            routine: None,
        }
    }

    /// The answer. Not to be polled again once it was ready.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Response<AnswerBody>> {
        if let Some(asked) = self.asked.take() {
            let spare = SPARE.with_borrow_mut(Vec::pop);
            self.routine = Some(spare.unwrap_or_else(|| Box::pin(routine())));
            ASKED.set(Some(asked));
        }
        let Some(routine) = &mut self.routine else {
            return Poll::Pending;
        };
        // It never ends.
        let _ = routine.as_mut().poll(cx);
        let Some(answer) = ANSWERED.take() else {
            return Poll::Pending;
        };
        if let Some(done) = self.routine.take() {
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < KEPT {
                    spare.push(done);
                }
            });
        }
        Poll::Ready(answer)
    }
}
