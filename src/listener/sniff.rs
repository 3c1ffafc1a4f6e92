//! The first bytes of a connection: HTTP/1, the HTTP/2 preface, a TLS hello, or silence.
//!
//! Owns: reading just enough to tell, and giving every byte back.
//! Never: parses a request.
//! Called by: `listener::connection`.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Content type of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// What one read takes: a usual request head fits.
const FIRST_READ: usize = 2048;

/// What a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.0 or 1.1, or anything that is neither of the others.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A TLS record, which a plain listener cannot serve.
    Tls,
    /// It ended without a byte.
    Nothing,
}

/// Reads until the protocol is certain. The caller bounds the time.
pub(super) async fn sniff<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Spoken, Bytes)> {
    let mut seen = BytesMut::new();
    let mut chunk = [0_u8; FIRST_READ];
    loop {
        let read = stream.read(&mut chunk).await?;
        seen.extend_from_slice(chunk.get(..read).unwrap_or_default());
        match tell(&seen) {
            Some(spoken) => return Ok((spoken, seen.freeze())),
            None if read == 0 => {
                let spoken = if seen.is_empty() {
                    Spoken::Nothing
                } else {
                    Spoken::Http1
                };
                return Ok((spoken, seen.freeze()));
            }
            None => {}
        }
    }
}

/// `None`: more bytes are needed.
fn tell(seen: &[u8]) -> Option<Spoken> {
    match seen.first() {
        None => None,
        Some(&TLS_HANDSHAKE) => Some(Spoken::Tls),
        Some(_) if seen.starts_with(PREFACE) => Some(Spoken::Http2),
        Some(_) if PREFACE.starts_with(seen) => None,
        Some(_) => Some(Spoken::Http1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_told_whichever_way_it_is_split() {
        for cut in 1..PREFACE.len() {
            assert_eq!(tell(&PREFACE[..cut]), None, "{cut}");
        }
        assert_eq!(tell(PREFACE), Some(Spoken::Http2));
    }

    #[test]
    fn a_post_is_not_taken_for_a_preface() {
        assert_eq!(tell(b"P"), None);
        assert_eq!(tell(b"PO"), Some(Spoken::Http1));
        assert_eq!(tell(b"PRI * HTTP/1.1"), Some(Spoken::Http1));
    }

    #[tokio::test]
    async fn every_byte_that_was_read_is_given_back() {
        let (spoken, bytes) = sniff(&mut &b"GET / HTTP/1.1\r\n\r\n"[..]).await.unwrap();
        assert_eq!(
            (spoken, &bytes[..]),
            (Spoken::Http1, &b"GET / HTTP/1.1\r\n\r\n"[..])
        );
    }

    #[tokio::test]
    async fn a_connection_that_ends_at_once_spoke_nothing() {
        assert_eq!(sniff(&mut &b""[..]).await.unwrap().0, Spoken::Nothing);
        assert_eq!(sniff(&mut &b"PRI * "[..]).await.unwrap().0, Spoken::Http1);
        assert_eq!(sniff(&mut &[0x16, 3, 1][..]).await.unwrap().0, Spoken::Tls);
    }
}
