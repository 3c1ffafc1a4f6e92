//! The first bytes of a connection: HTTP/1, the HTTP/2 preface, a TLS hello, something else, or
//! silence.
//!
//! Owns: reading just enough to tell, and giving every byte back.
//! Never: parses a request.
//! Called by: `listener::connection`.

use std::future::poll_fn;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncRead;

use super::hello::{BadHello, HANDSHAKE, HelloReader};
use crate::proxy::Hello;
use crate::scratch;

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest method that is taken for one; the longest that is registered has 17 letters.
const MAX_METHOD: usize = 32;
/// Bytes of empty lines in front of a request that are put up with: what is read must have an end.
const MAX_EMPTY: usize = 64;
/// What an absolute target begins with.
const SCHEMES: [&[u8]; 2] = [b"http://", b"https://"];

/// What a connection begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A whole ClientHello.
    Tls(Hello),
    /// It begins like TLS, and is none.
    NotTls(&'static str),
    /// Neither of the others.
    Other,
    /// It ended without a byte.
    Nothing,
}

/// Reads the first bytes. What it has read is kept while it waits, so that a deadline may pass.
pub(super) struct Sniffer {
    seen: BytesMut,
    hello: HelloReader,
    /// Whatever is not TLS or HTTP/2 is HTTP/1, and the answer to it says so.
    all_http: bool,
}

impl Sniffer {
    /// `all_http`: nothing else is expected but TLS, so that no byte more is waited for.
    pub(super) fn new(all_http: bool) -> Self {
        Sniffer {
            seen: BytesMut::new(),
            hello: HelloReader::default(),
            all_http,
        }
    }

    /// Reads until the protocol is certain. The caller bounds the time.
    pub(super) async fn read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<Spoken> {
        loop {
            if let Some(spoken) = self.more(stream).await? {
                return Ok(spoken);
            }
        }
    }

    /// Reads once. `None`: that was not enough to tell.
    pub(super) async fn more<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> io::Result<Option<Spoken>> {
        let bytes = poll_fn(|cx| scratch::poll_read(stream, cx)).await?;
        let read = bytes.len();
        match self.seen.is_empty() {
            true => self.seen = bytes.into(),
            false => self.seen.extend_from_slice(&bytes),
        }
        Ok(match read {
            0 => Some(self.guess("it ended within its first message")),
            _ => self.tell(),
        })
    }

    /// What it is taken for where no more bytes come, or too late.
    pub(super) fn guess(&self, why: &'static str) -> Spoken {
        match self.seen.first() {
            None => Spoken::Nothing,
            Some(&HANDSHAKE) => Spoken::NotTls(why),
            Some(_) if self.all_http || looks_like_http(&self.seen) != Some(false) => Spoken::Http1,
            Some(_) => Spoken::Other,
        }
    }

    /// Every byte that was read.
    pub(super) fn into_bytes(self) -> Bytes {
        self.seen.freeze()
    }

    /// `None`: more bytes are needed.
    fn tell(&mut self) -> Option<Spoken> {
        let seen = self.seen.as_ref();
        match seen.first() {
            None => None,
            Some(&HANDSHAKE) => match self.hello.read(seen) {
                Ok(hello) => hello.map(Spoken::Tls),
                Err(BadHello(why)) => Some(Spoken::NotTls(why)),
            },
            Some(_) if seen.starts_with(PREFACE) => Some(Spoken::Http2),
            Some(_) if PREFACE.starts_with(seen) => None,
            Some(_) if self.all_http => Some(Spoken::Http1),
            Some(_) => looks_like_http(seen).map(|http| match http {
                true => Spoken::Http1,
                false => Spoken::Other,
            }),
        }
    }
}

/// False where what was read can be no request, nor become one.
pub(super) fn could_be_http(seen: &[u8]) -> bool {
    looks_like_http(seen) != Some(false)
}

/// A method and the beginning of a target (RFC 9112 section 3). `None`: more bytes are needed.
fn looks_like_http(seen: &[u8]) -> Option<bool> {
    // Empty lines may come first (RFC 9112 section 2.2).
    let (all, mut seen) = (seen.len(), seen);
    while let Some(rest) = seen.strip_prefix(b"\r\n") {
        seen = rest;
        if all - seen.len() > MAX_EMPTY {
            return Some(false);
        }
    }
    if matches!(seen, b"" | b"\r") {
        return None;
    }
    let Some(space) = seen.iter().position(|byte| !is_token(*byte)) else {
        return (seen.len() > MAX_METHOD).then_some(false);
    };
    if space == 0 || space > MAX_METHOD || seen.get(space) != Some(&b' ') {
        return Some(false);
    }
    let (method, target) = (seen.get(..space)?, seen.get(space + 1..)?);
    match target.first()? {
        b'/' | b'*' => Some(true),
        _ if method == b"CONNECT" => Some(true),
        _ => {
            let mut fit = SCHEMES.iter().filter(|scheme| begins_alike(scheme, target));
            let first = fit.next();
            match first
                .into_iter()
                .chain(fit)
                .any(|scheme| scheme.len() <= target.len())
            {
                true => Some(true),
                false if first.is_none() => Some(false),
                false => None,
            }
        }
    }
}

/// As far as both go, they are the same but for case.
fn begins_alike(one: &[u8], other: &[u8]) -> bool {
    let mut pairs = one.iter().zip(other);
    pairs.all(|(a, b)| a.eq_ignore_ascii_case(b))
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::client_hello;
    use super::*;

    fn tell(all_http: bool, seen: &[u8]) -> Option<Spoken> {
        let mut sniffer = Sniffer::new(all_http);
        sniffer.seen.extend_from_slice(seen);
        sniffer.tell()
    }

    async fn sniff(mut stream: &[u8]) -> (Spoken, Bytes) {
        let mut sniffer = Sniffer::new(true);
        let spoken = sniffer.read(&mut stream).await.unwrap();
        (spoken, sniffer.into_bytes())
    }

    #[test]
    fn a_preface_is_told_whichever_way_it_is_split() {
        for all_http in [true, false] {
            for cut in 1..PREFACE.len() {
                assert_eq!(tell(all_http, &PREFACE[..cut]), None, "{cut}");
            }
            assert_eq!(tell(all_http, PREFACE), Some(Spoken::Http2));
        }
    }

    #[test]
    fn a_post_is_not_taken_for_a_preface() {
        assert_eq!(tell(true, b"P"), None);
        assert_eq!(tell(true, b"PO"), Some(Spoken::Http1));
        assert_eq!(tell(true, b"PRI * HTTP/1.1"), Some(Spoken::Http1));
    }

    #[test]
    fn v20_http_is_told_from_other_protocols_by_its_method_and_target() {
        let long = [b'x'; MAX_METHOD + 1];
        let empty = b"\r\n".repeat(MAX_EMPTY);
        for http in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\r\n\r\nGET /",
            b"OPTIONS * HTTP/1.1",
            b"get /",
            b"GET http://bank.example/ HTTP/1.1",
            b"GET HTTPS://bank.example/",
            b"CONNECT bank.example:443",
        ] {
            assert_eq!(tell(false, http), Some(Spoken::Http1), "{http:?}");
            // However few of its bytes have come, it is not taken for anything else.
            for cut in 1..http.len() {
                let early = tell(false, &http[..cut]);
                assert!(
                    matches!(early, None | Some(Spoken::Http1)),
                    "{http:?} {cut}"
                );
            }
        }
        for other in [
            &b"EHLO client.example\r\n"[..],
            b"SSH-2.0-OpenSSH_9.6 Ubuntu",
            b"*1\r\n$4\r\nPING\r\n",
            b"PING\r\n",
            b" GET /",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"GET httq",
            &long,
            &empty,
        ] {
            assert_eq!(tell(false, other), Some(Spoken::Other), "{other:?}");
        }
    }

    #[tokio::test]
    async fn every_byte_that_was_read_is_given_back() {
        let (spoken, bytes) = sniff(b"GET / HTTP/1.1\r\n\r\n").await;
        assert_eq!(
            (spoken, &bytes[..]),
            (Spoken::Http1, &b"GET / HTTP/1.1\r\n\r\n"[..])
        );
    }

    #[tokio::test]
    async fn a_connection_that_ends_at_once_spoke_nothing() {
        assert_eq!(sniff(b"").await.0, Spoken::Nothing);
        assert_eq!(sniff(b"PRI * ").await.0, Spoken::Http1);
    }

    #[tokio::test]
    async fn a_client_hello_is_read_whole_byte_by_byte_and_given_back() {
        let sent = client_hello(Some("Bank.Example"), &["h2", "http/1.1"]);
        let (mut client, mut server) = tokio::io::duplex(1);
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move {
                use tokio::io::AsyncWriteExt;
                client.write_all(&sent).await.unwrap();
                client
            }
        });
        let mut sniffer = Sniffer::new(true);
        let Spoken::Tls(hello) = sniffer.read(&mut server).await.unwrap() else {
            panic!("not taken for TLS");
        };
        assert_eq!(hello.server_name.as_deref(), Some("bank.example"));
        assert_eq!(&*hello.alpn, b"\x02h2\x08http/1.1");
        assert_eq!(sniffer.into_bytes(), sent);
        drop(writing.await);
    }

    #[tokio::test]
    async fn half_a_client_hello_is_named_as_that_and_no_tls() {
        let sent = client_hello(Some("bank.example"), &[]);
        for cut in 1..sent.len() {
            let (spoken, bytes) = sniff(&sent[..cut]).await;
            assert_eq!(spoken, Spoken::NotTls("it ended within its first message"));
            assert_eq!(bytes, sent[..cut]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stalls_in_its_first_message_is_told_by_what_came() {
        for (sent, expected) in [
            (&[22, 3, 1, 2][..], Spoken::NotTls("it took too long")),
            (b"GE", Spoken::Http1),
        ] {
            let (mut client, mut server) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut client, sent)
                .await
                .unwrap();
            let mut sniffer = Sniffer::new(false);
            let within = std::time::Duration::from_secs(10);
            let late = tokio::time::timeout(within, sniffer.read(&mut server)).await;
            assert!(late.is_err());
            assert_eq!(sniffer.guess("it took too long"), expected);
            assert_eq!(sniffer.into_bytes(), sent);
        }
    }
}
