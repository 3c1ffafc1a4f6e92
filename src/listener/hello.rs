//! The first message of a TLS client: whom it asks for (RFC 8446 section 4.1.2, RFC 6066 section 3).
//!
//! Owns: reading a ClientHello out of the records that carry it, in however many pieces it comes.
//! Never: takes part in a handshake, or keeps a byte from whoever does.
//! Called by: `listener::sniff`.
//!
//! Why not the TLS library: what passes through may be of any version and ask for anything; only
//! its frame and two of its extensions are our business, and both must be certain.

use crate::model::Host;
use crate::proxy::Hello;

/// Content type of a handshake record (RFC 8446 section 5.1).
pub(super) const HANDSHAKE: u8 = 22;
/// Type of the message (RFC 8446 section 4).
const CLIENT_HELLO: u8 = 1;
/// The longest record (RFC 8446 section 5.1).
const MAX_RECORD: usize = 1 << 14;
/// The longest message that is read: a hello with several key shares and tickets has some 2 KiB.
const MAX_HELLO: usize = 1 << 14;
/// The same with the headers of the records that it comes in.
const MAX_BYTES: usize = MAX_HELLO + 4096;

/// Extensions (RFC 6066, RFC 7301).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;

/// What is wrong with the first message, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadHello(pub(super) &'static str);

/// Puts a ClientHello together.
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    /// Bytes of the connection that were taken in.
    at: usize,
    /// Bytes of the current record that have yet to come.
    record_left: usize,
    /// The message so far, out of its records.
    message: Vec<u8>,
}

impl HelloReader {
    /// `seen`: every byte of the connection so far. `None`: more must come. Takes time in
    /// proportion to what is new.
    pub(super) fn read(&mut self, seen: &[u8]) -> Result<Option<Hello>, BadHello> {
        loop {
            let rest = seen.get(self.at..).unwrap_or_default();
            if self.record_left == 0 {
                let Some(length) = record_header(rest)? else {
                    return Ok(None);
                };
                self.at += 5;
                self.record_left = length;
                continue;
            }
            let take = self.record_left.min(rest.len());
            if take == 0 {
                return Ok(None);
            }
            self.message
                .extend_from_slice(rest.get(..take).unwrap_or_default());
            self.at += take;
            self.record_left -= take;
            if let Some(body) = body(&self.message)? {
                return hello(body).map(Some);
            }
            if self.at > MAX_BYTES {
                return Err(BadHello("its first message is over 16 KiB"));
            }
        }
    }
}

/// The length of the record that begins here; `None` where its header is not whole.
fn record_header(bytes: &[u8]) -> Result<Option<usize>, BadHello> {
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE) {
        return Err(BadHello(
            "its first message is broken off by another record",
        ));
    }
    if bytes.get(1).is_some_and(|major| *major != 3) {
        return Err(BadHello("its first record is of no version of TLS"));
    }
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<5>() else {
        return Ok(None);
    };
    match usize::from(u16::from_be_bytes([high, low])) {
        0 => Err(BadHello("it sends an empty record")),
        length if length > MAX_RECORD => Err(BadHello("its first record is over 16 KiB")),
        length => Ok(Some(length)),
    }
}

/// The message's body, once it is whole.
fn body(message: &[u8]) -> Result<Option<&[u8]>, BadHello> {
    if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
        return Err(BadHello("its first message is no ClientHello"));
    }
    let Some((&[_, high, middle, low], rest)) = message.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, high, middle, low]);
    match usize::try_from(length) {
        Ok(length) if length <= MAX_HELLO => Ok(rest.get(..length)),
        _ => Err(BadHello("its first message is over 16 KiB")),
    }
}

/// Reads fields one after the other; running out of bytes is the one thing that can go wrong.
struct Fields<'a>(&'a [u8]);

const CUT: BadHello = BadHello("a field of its ClientHello is longer than the message");

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BadHello> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, BadHello> {
        let digits = self.take(bytes)?.iter();
        Ok(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A field with its length in front, of so many bytes.
    fn vector(&mut self, bytes: usize) -> Result<&'a [u8], BadHello> {
        let length = self.number(bytes)?;
        self.take(length)
    }
}

fn hello(body: &[u8]) -> Result<Hello, BadHello> {
    let mut fields = Fields(body);
    // Version and random.
    fields.take(2 + 32)?;
    if fields.vector(1)?.len() > 32 {
        return Err(BadHello("its session id is over 32 bytes"));
    }
    let suites = fields.vector(2)?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return Err(BadHello("its list of cipher suites is none"));
    }
    if fields.vector(1)?.is_empty() {
        return Err(BadHello("its list of compression methods is empty"));
    }
    let mut found = Hello::default();
    if fields.0.is_empty() {
        // Before TLS 1.3 extensions may be missing as a whole.
        return Ok(found);
    }
    let mut extensions = Fields(fields.vector(2)?);
    if !fields.0.is_empty() {
        return Err(BadHello("something follows its ClientHello's last field"));
    }
    let mut seen = [false; 2];
    while !extensions.0.is_empty() {
        let kind = extensions.number(2)?;
        let data = extensions.vector(2)?;
        let nth = match u16::try_from(kind) {
            Ok(SERVER_NAME) => 0,
            Ok(ALPN) => 1,
            _ => continue,
        };
        if seen
            .get_mut(nth)
            .is_some_and(|seen| std::mem::replace(seen, true))
        {
            return Err(BadHello("it has one extension twice"));
        }
        match nth {
            0 => found.server_name = server_name(data)?,
            _ => found.alpn = protocols(data)?.into(),
        }
    }
    Ok(found)
}

/// RFC 6066 section 3: a list of one name. An address is none.
fn server_name(data: &[u8]) -> Result<Option<Box<str>>, BadHello> {
    let mut list = Fields(data);
    let mut names = Fields(list.vector(2)?);
    if names.number(1)? != 0 {
        return Err(BadHello("its server name is of an unknown kind"));
    }
    let name = names.vector(2)?;
    if !names.0.is_empty() || !list.0.is_empty() {
        return Err(BadHello("it asks for more than one server name"));
    }
    let text = std::str::from_utf8(name).ok();
    let Some(host) = text.and_then(|text| Host::normalise(text).ok()) else {
        return Err(BadHello("its server name is no host name"));
    };
    let is_address = host.parse::<std::net::IpAddr>().is_ok();
    Ok((!is_address).then(|| host.into_owned().into()))
}

/// RFC 7301 section 3.1: names of protocols, each behind its length.
fn protocols(data: &[u8]) -> Result<&[u8], BadHello> {
    let mut list = Fields(data);
    let all = list.vector(2)?;
    let mut names = Fields(all);
    while !names.0.is_empty() {
        if names.vector(1)?.is_empty() {
            return Err(BadHello("it offers a protocol without a name"));
        }
    }
    match list.0.is_empty() && !all.is_empty() {
        true => Ok(all),
        false => Err(BadHello("its list of protocols is none")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn vector(bytes: usize, data: &[u8]) -> Vec<u8> {
        let length = data.len().to_be_bytes();
        [&length[length.len() - bytes..], data].concat()
    }

    fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &vector(2, data)].concat()
    }

    fn sni(name: &[u8]) -> Vec<u8> {
        extension(0, &vector(2, &[&[0], &vector(2, name)[..]].concat()))
    }

    fn message(extensions: &[u8]) -> Vec<u8> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &vector(1, &[9; 32]),
            &vector(2, &[0x13, 1, 0x13, 2]),
            &vector(1, &[0]),
            &vector(2, extensions),
        ]
        .concat();
        [&[1][..], &vector(3, &body)].concat()
    }

    fn record(data: &[u8]) -> Vec<u8> {
        [&[22, 3, 1][..], &vector(2, data)].concat()
    }

    /// The record that a client of this name and these protocols sends first.
    pub(in crate::listener) fn client_hello(name: Option<&str>, alpn: &[&str]) -> Vec<u8> {
        let mut extensions = extension(43, &[2, 3, 4]);
        extensions.extend(name.into_iter().flat_map(|name| sni(name.as_bytes())));
        if !alpn.is_empty() {
            let names: Vec<u8> = alpn.iter().flat_map(|n| vector(1, n.as_bytes())).collect();
            extensions.extend(extension(16, &vector(2, &names)));
        }
        record(&message(&extensions))
    }

    fn read(seen: &[u8]) -> Result<Option<Hello>, BadHello> {
        HelloReader::default().read(seen)
    }

    fn why(seen: &[u8]) -> &'static str {
        read(seen).unwrap_err().0
    }

    #[test]
    fn a_hello_says_the_name_in_normal_form_and_the_protocols() {
        let hello = read(&client_hello(Some("A.Example."), &["h2"]))
            .unwrap()
            .unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("a.example"));
        assert_eq!(&*hello.alpn, b"\x02h2");
        let istio = "outbound_.80_._.bank.example";
        let hello = read(&client_hello(Some(istio), &[])).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some(istio));
        let hello = read(&client_hello(None, &[])).unwrap().unwrap();
        assert_eq!((hello.server_name, hello.alpn.len()), (None, 0));
    }

    #[test]
    fn a_hello_of_an_old_version_without_extensions_is_one() {
        let body = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 47], &[1, 0]].concat();
        let sent = record(&[&[1][..], &vector(3, &body)].concat());
        assert_eq!(read(&sent).unwrap(), Some(Hello::default()));
    }

    #[test]
    fn a_hello_may_come_in_many_records_and_in_single_bytes() {
        let whole = message(&sni(b"bank.example"));
        for size in [1, 2, 3, 50] {
            let sent: Vec<u8> = whole.chunks(size).flat_map(record).collect();
            let mut reader = HelloReader::default();
            for end in 0..sent.len() {
                assert_eq!(reader.read(&sent[..end]).unwrap(), None, "{size} {end}");
            }
            let hello = reader.read(&sent).unwrap().unwrap();
            assert_eq!(hello.server_name.as_deref(), Some("bank.example"));
        }
    }

    #[test]
    fn an_address_in_place_of_a_name_is_no_name() {
        for name in [&b"192.0.2.1"[..], b"2001:db8::1"] {
            let hello = read(&record(&message(&sni(name)))).unwrap().unwrap();
            assert_eq!(hello.server_name, None);
        }
    }

    #[test]
    fn what_is_not_whole_or_not_allowed_is_refused_in_words() {
        let two = [vector(2, b"a"), vector(2, b"b")];
        let two = extension(0, &vector(2, &[&[0], &two[0][..], &[0], &two[1]].concat()));
        for (sent, words) in [
            (record(&[2, 0, 0, 0]), "its first message is no ClientHello"),
            (vec![22, 9], "its first record is of no version of TLS"),
            (record(&[]), "it sends an empty record"),
            (vec![22, 3, 1, 0x40, 1], "its first record is over 16 KiB"),
            (record(&[1, 0, 0x40, 1]), "its first message is over 16 KiB"),
            (
                [record(&[1, 0]), vec![23]].concat(),
                "its first message is broken off by another record",
            ),
            (
                record(&[1, 0, 0, 1, 3]),
                "a field of its ClientHello is longer than the message",
            ),
            (record(&message(&[0, 0, 0, 9])), CUT.0),
            (
                record(&message(&[sni(b"a"), sni(b"a")].concat())),
                "it has one extension twice",
            ),
            (
                record(&message(&two)),
                "it asks for more than one server name",
            ),
            (
                record(&message(&sni(b"a b"))),
                "its server name is no host name",
            ),
            (
                record(&message(&sni(b"\xff"))),
                "its server name is no host name",
            ),
            (
                record(&message(&extension(16, &[0, 1, 0]))),
                "it offers a protocol without a name",
            ),
            (
                record(&message(&extension(16, &[0, 0]))),
                "its list of protocols is none",
            ),
        ] {
            assert_eq!(why(&sent), words, "{sent:?}");
        }
    }

    #[test]
    fn a_hello_that_never_ends_is_given_up_after_16_kib() {
        let start = [1, 0, 0x3f, 0xff];
        let mut sent = record(&start);
        let mut reader = HelloReader::default();
        for _ in 0..=MAX_BYTES / 6 {
            match reader.read(&sent) {
                Ok(None) => sent.extend(record(&[0])),
                Ok(Some(hello)) => panic!("{hello:?}"),
                Err(error) => {
                    assert_eq!(error.0, "its first message is over 16 KiB");
                    return;
                }
            }
        }
        panic!("it went on reading");
    }

    proptest::proptest! {
        /// However a hello is spoilt and cut, the verdict is the one on the whole.
        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_are_cut(
            spoilt in proptest::collection::vec((0_usize..400, proptest::num::u8::ANY), 0..4),
            cuts in proptest::collection::vec(1_usize..40, 1..20),
            size in 1_usize..300,
        ) {
            let whole = message(&[sni(b"bank.example"), extension(16, &[0, 3, 2, 104, 50])].concat());
            let mut sent: Vec<u8> = whole.chunks(size).flat_map(record).collect();
            for (place, byte) in spoilt {
                let length = sent.len();
                sent[place % length] = byte;
            }
            let mut reader = HelloReader::default();
            let (mut end, mut cuts) = (0, cuts.iter().cycle());
            let found = loop {
                end = (end + cuts.next().unwrap()).min(sent.len());
                match reader.read(&sent[..end]) {
                    Ok(None) if end < sent.len() => {}
                    found => break found,
                }
            };
            proptest::prop_assert_eq!(found, read(&sent));
        }
    }
}
