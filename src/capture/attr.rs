//! Netlink messages and their attributes, as bytes (RFC 3549; linux/netlink.h).
//!
//! Owns: lengths, padding, and what is believed of an answer: nothing beyond its bounds.
//! Never: knows what a message means, or opens a socket.
//! Called by: `wire`, `expression`, `routing`, `socket`.

/// Both of a message and of an attribute.
const ALIGNED: usize = 4;
/// The header of a message (struct nlmsghdr).
const HEADER: usize = 16;
/// The header of an attribute (struct nlattr).
const ATTRIBUTE: usize = 4;
/// The attribute holds attributes (NLA_F_NESTED).
const NESTED: u16 = 0x8000;
/// Flags in an attribute's kind (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
const KIND: u16 = 0x3fff;

/// A message to the kernel that is being written.
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// A message of that kind, with the flags of linux/netlink.h, and what its kind puts first.
    pub fn new(kind: u16, flags: u16, sequence: u32, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(fixed);
        pad(&mut bytes);
        Message { bytes }
    }

    /// Adds attributes that were written apart.
    pub fn raw(mut self, attributes: &[u8]) -> Message {
        self.bytes.extend(attributes);
        self
    }

    /// The bytes, their length in front.
    pub fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        if let Some(front) = self.bytes.first_chunk_mut() {
            *front = length.to_ne_bytes();
        }
        self.bytes
    }
}

/// Attributes that stand in another.
#[derive(Default)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// None yet.
    pub fn new() -> Attributes {
        Attributes::default()
    }

    /// Adds one.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Attributes {
        write(&mut self.bytes, kind, value);
        self
    }

    /// Adds a number, which nf_tables reads big-endian.
    pub fn number(self, kind: u16, value: u32) -> Attributes {
        self.with(kind, &value.to_be_bytes())
    }

    /// Adds text, which ends with a zero.
    pub fn text(self, kind: u16, value: &str) -> Attributes {
        self.with(kind, &text(value))
    }

    /// Adds one that holds these.
    pub fn nested(self, kind: u16, inside: Attributes) -> Attributes {
        self.with(kind | NESTED, &inside.bytes)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Text as the kernel takes it: it ends with a zero.
pub fn text(value: &str) -> Vec<u8> {
    [value.as_bytes(), &[0]].concat()
}

/// A value that does not fit a length of 16 bits gets the longest there is, which no kernel takes:
/// ours are all shorter than a rule.
fn write(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(bytes);
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGNED), 0);
}

/// An answer that is none: shorter than it says, or than it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer is cut short")]
pub struct Cut;

/// One message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What it is.
    pub kind: u16,
    /// The flags of linux/netlink.h.
    pub flags: u16,
    /// That of the message it answers.
    pub sequence: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

/// The messages of what one read gave.
pub fn answers(mut bytes: &[u8]) -> Result<Vec<Answer<'_>>, Cut> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (one, rest) = first(bytes)?;
        found.push(one);
        bytes = rest;
    }
    Ok(found)
}

fn first(bytes: &[u8]) -> Result<(Answer<'_>, &[u8]), Cut> {
    let length = usize::try_from(u32_at(bytes, 0)?).map_err(|_| Cut)?;
    if length < HEADER {
        return Err(Cut);
    }
    let one = Answer {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..length).ok_or(Cut)?,
    };
    Ok((one, beyond(bytes, length)))
}

/// The attributes of a body behind the `fixed` bytes that its kind puts first.
pub fn attributes(body: &[u8], fixed: usize) -> Result<Vec<(u16, &[u8])>, Cut> {
    let mut bytes = body.get(fixed.next_multiple_of(ALIGNED)..).ok_or(Cut)?;
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::from(u16_at(bytes, 0)?);
        if length < ATTRIBUTE {
            return Err(Cut);
        }
        let value = bytes.get(ATTRIBUTE..length).ok_or(Cut)?;
        found.push((u16_at(bytes, 2)? & KIND, value));
        bytes = beyond(bytes, length);
    }
    Ok(found)
}

/// The last of several may end without its padding.
fn beyond(bytes: &[u8], length: usize) -> &[u8] {
    bytes
        .get(length.next_multiple_of(ALIGNED)..)
        .unwrap_or_default()
}

/// The value of one attribute.
pub fn value<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    let mut found = attributes.iter().filter(|(one, _)| *one == kind);
    found.next().map(|(_, value)| *value)
}

/// A big-endian number of 32 bits.
pub fn number(attributes: &[(u16, &[u8])], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(
        value(attributes, kind)?.try_into().ok()?,
    ))
}

/// Text up to its zero.
pub fn string(attributes: &[(u16, &[u8])], kind: u16) -> Option<String> {
    let bytes = value(attributes, kind)?;
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// A number of 32 bits in this machine's order.
pub fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Cut> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map(u32::from_ne_bytes).ok_or(Cut)
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Cut> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.copied().map(u16::from_ne_bytes).ok_or(Cut)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_message_says_its_length_and_is_padded_to_four() {
        let bytes = Message::new(7, 5, 9, &[1, 2, 3])
            .raw(Attributes::new().with(2, b"ab").bytes())
            .finish();
        let mut expected = 28_u32.to_ne_bytes().to_vec();
        expected.extend(7_u16.to_ne_bytes());
        expected.extend(5_u16.to_ne_bytes());
        expected.extend(9_u32.to_ne_bytes());
        expected.extend([0; 4]);
        expected.extend([1, 2, 3, 0]);
        expected.extend(6_u16.to_ne_bytes());
        expected.extend(2_u16.to_ne_bytes());
        expected.extend([b'a', b'b', 0, 0]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_was_written_is_read_again() {
        let inside = Attributes::new().number(1, 1337).text(2, "sortie");
        let outside = Attributes::new().nested(3, inside);
        let one = Message::new(7, 0, 9, &[0; 4]).raw(outside.bytes()).finish();
        let both = [one.clone(), one].concat();
        let found = answers(&both).unwrap();
        assert_eq!(found.len(), 2);
        let outer = attributes(found[1].body, 4).unwrap();
        let inner = attributes(value(&outer, 3).unwrap(), 0).unwrap();
        assert_eq!(number(&inner, 1), Some(1337));
        assert_eq!(string(&inner, 2).as_deref(), Some("sortie"));
        assert_eq!(value(&inner, 4), None);
    }

    #[test]
    fn a_length_beyond_the_answer_or_within_its_own_header_is_refused() {
        let mut long = Message::new(7, 0, 9, &[]).finish();
        long[0] = 200;
        assert_eq!(answers(&long), Err(Cut));
        long[0] = 15;
        assert_eq!(answers(&long), Err(Cut));
        assert_eq!(attributes(&[3, 0, 1, 0], 0), Err(Cut));
        assert_eq!(attributes(&[9, 0, 1, 0, 0], 0), Err(Cut));
        assert_eq!(attributes(&[0; 2], 4), Err(Cut));
    }

    proptest! {
        #[test]
        fn no_answer_makes_the_reader_panic_or_go_on_for_ever(bytes: Vec<u8>, fixed in 0_usize..64) {
            if let Ok(found) = answers(&bytes) {
                prop_assert!(found.len() <= bytes.len() / HEADER + 1);
            }
            if let Ok(found) = attributes(&bytes, fixed) {
                prop_assert!(found.len() <= bytes.len() / ATTRIBUTE + 1);
            }
        }
    }
}
