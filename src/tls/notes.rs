//! What the callbacks of one handshake saw, kept for the one who asked for the handshake.
//!
//! Owns: [`Notes`], and the future that brings them to the callbacks.
//! Never: decides anything.
//! Called by: `tls::connect` and `tls::accept` (read them), `tls::chain`, `tls::client_config`,
//! `tls::verify_client` and `tls::tickets` (write them).
//!
//! Why a thread-local: rustls calls the verifier and the certificate resolver without saying for
//! which connection, and one of each per connection would forbid resumption, which rustls allows
//! only between connections that share both. A poll stays on its thread, so the notes are put
//! there before each poll of the handshake and taken back after it.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::chain::Refusal;

/// What happened in one handshake beside its result.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// As a client: the server asked for a client certificate.
    pub(super) asked: bool,
    /// We sent one.
    pub(super) shown: bool,
    /// The CAs that the server names, as DER names, where none of them issued our certificate.
    pub(super) wanted: Vec<Vec<u8>>,
    /// The check of the peer's certificate that failed.
    pub(super) refusal: Option<Box<Refusal>>,
    /// As a server: which of our certificates the client is shown.
    pub(super) ours: Option<usize>,
    /// As a server: until when the session may be resumed, in seconds since 1970.
    pub(super) until: Option<i64>,
}

thread_local! {
    static CURRENT: RefCell<Notes> = RefCell::new(Notes::default());
}

/// Writes into the notes of the handshake that is being polled on this thread.
pub(super) fn write(f: impl FnOnce(&mut Notes)) {
    CURRENT.with_borrow_mut(f);
}

/// A future during whose polls [`write()`] reaches its own notes.
pub(super) struct Noted<F> {
    future: F,
    notes: Notes,
}

impl<F> Noted<F> {
    /// Empty notes for `future`.
    pub(super) fn new(future: F) -> Self {
        Noted {
            future,
            notes: Notes::default(),
        }
    }
}

impl<F: Future + Unpin> Future for Noted<F> {
    type Output = (F::Output, Notes);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, &mut this.notes));
        let polled = Pin::new(&mut this.future).poll(cx);
        CURRENT.with_borrow_mut(|current| std::mem::swap(current, &mut this.notes));
        polled.map(|output| (output, std::mem::take(&mut this.notes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn notes_of_two_interleaved_handshakes_do_not_mix() {
        let handshake = |asks: bool| {
            Noted::new(Box::pin(async move {
                tokio::task::yield_now().await;
                write(|notes| notes.asked = asks);
                tokio::task::yield_now().await;
            }))
        };
        let ((_, one), (_, two)) = tokio::join!(handshake(true), handshake(false));
        assert!(one.asked && !two.asked);
    }
}
