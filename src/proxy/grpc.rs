//! Counts the messages of a gRPC body as its bytes go by (ISTIO.md B1).
//!
//! Owns: the framing of gRPC over HTTP/2 ("Length-Prefixed-Message").
//! Never: looks into a message, or holds a byte of one.
//! Called by: `proxy::body`, only for gRPC.

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: u8 = 5;

/// Where in a body its messages begin.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Bytes of the prefix that were read.
    have: u8,
    /// The length, as far as it was read.
    length: u32,
    /// Bytes of the message that are still to come.
    left: u32,
}

impl Messages {
    /// How many messages begin in `data`: their prefix is whole in it.
    pub(super) fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut count = 0;
        while let Some((byte, rest)) = data.split_first() {
            if self.left > 0 {
                let skip = data
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= u32::try_from(skip).unwrap_or(self.left);
                data = data.get(skip..).unwrap_or_default();
                continue;
            }
            if self.have > 0 {
                self.length = self.length << 8 | u32::from(*byte);
            }
            self.have += 1;
            data = rest;
            if self.have == PREFIX {
                self.left = self.length;
                (self.have, self.length) = (0, 0);
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of these lengths on the wire.
    fn wire(lengths: &[u32]) -> Vec<u8> {
        let message = |length: &u32| {
            let mut bytes = vec![0];
            bytes.extend(length.to_be_bytes());
            bytes.resize(5 + *length as usize, 0xff);
            bytes
        };
        lengths.iter().flat_map(message).collect()
    }

    #[test]
    fn b1_messages_are_counted_however_their_bytes_are_cut() {
        let bytes = wire(&[0, 3, 70_000, 0, 1]);
        for piece in [1, 2, 4, 5, 7, 4096, bytes.len()] {
            let mut messages = Messages::default();
            let count: u64 = bytes.chunks(piece).map(|data| messages.feed(data)).sum();
            assert_eq!(count, 5, "{piece}");
        }
    }

    #[test]
    fn b1_a_message_counts_when_its_length_is_known() {
        let mut messages = Messages::default();
        assert_eq!(messages.feed(&[0, 0, 0, 0]), 0);
        assert_eq!(messages.feed(&[9]), 1);
        assert_eq!(messages.feed(&[1; 8]), 0);
        assert_eq!(messages.feed(&[]), 0);
        // The last byte of the first message, and the prefix of the second.
        assert_eq!(messages.feed(&[1, 0, 0xff, 0xff, 0xff, 0xff]), 1);
        assert_eq!(messages.feed(&[1; 100]), 0);
    }
}
