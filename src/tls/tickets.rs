//! TLS sessions of the clients of one entrance and one credential generation, to be resumed.
//!
//! Owns: the tickets, which clients keep for us, and until when each may be used.
//! Never: outlives the `ServerTls` that it belongs to (ISTIO.md R16): with the keys gone, a ticket
//! of another generation or another entrance is as good as none.
//! Called by: rustls, through `ProducesTickets`.
//!
//! Why a time in each ticket: on resumption no certificate is checked again, so a session would
//! live on past the end of the certificate under which it was made. With the time over the ticket
//! is as none, and the client is asked for its certificate.
//!
//! Why tickets and no cache: nothing to bound, and nothing that cores contend for.

use std::sync::Arc;

use rustls::server::ProducesTickets;

use super::notes;
use super::sessions::now;

/// Bytes of a session at most. One with a longer chain of the client's is not resumed.
const MOST: usize = 16 * 1024;

/// Makes and reads tickets.
#[derive(Debug)]
pub(super) struct Tickets {
    inner: Arc<dyn ProducesTickets>,
}

impl Tickets {
    /// With keys of its own.
    ///
    /// # Errors
    /// There are no random numbers.
    pub(super) fn new() -> Result<Tickets, rustls::Error> {
        let inner = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Tickets { inner })
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if plain.len() > MOST {
            return None;
        }
        let mut until = i64::MAX;
        notes::write(|notes| until = notes.until.unwrap_or(i64::MAX));
        self.inner.encrypt(&[&until.to_be_bytes(), plain].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = self.inner.decrypt(ticket)?;
        let (until, session) = plain.split_first_chunk()?;
        let until = i64::from_be_bytes(*until);
        if until < now() {
            return None;
        }
        // The tickets that follow are for the same certificate.
        notes::write(|notes| notes.until = Some(until));
        Some(session.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ticket_is_read_by_its_maker_alone_and_until_its_time_is_over() {
        let (tickets, others) = (Tickets::new().unwrap(), Tickets::new().unwrap());
        let sealed = |until| {
            let (tickets, others) = (&tickets, &others);
            let ticket = async move {
                notes::write(|notes| notes.until = until);
                let ticket = tickets.encrypt(b"session").unwrap();
                notes::write(|notes| notes.until = None);
                let read = tickets.decrypt(&ticket);
                assert_eq!(others.decrypt(&ticket), None);
                read
            };
            notes::Noted::new(Box::pin(ticket))
        };
        let (read, notes) = sealed(Some(now() + 60)).await;
        assert_eq!(read.as_deref(), Some(&b"session"[..]));
        assert!(notes.until > Some(now()), "the next ticket ends as well");
        assert_eq!(sealed(None).await.0.as_deref(), Some(&b"session"[..]));
        assert_eq!(sealed(Some(now() - 1)).await.0, None);
    }

    #[test]
    fn a_session_that_is_too_large_gets_no_ticket_and_garbage_is_none() {
        let tickets = Tickets::new().unwrap();
        assert_eq!(tickets.encrypt(&vec![0; MOST + 1]), None);
        let whole = tickets.encrypt(&vec![0; MOST]).unwrap();
        for end in [0, 1, 16, 40, whole.len() - 1] {
            assert_eq!(tickets.decrypt(&whole[..end]), None);
        }
    }
}
