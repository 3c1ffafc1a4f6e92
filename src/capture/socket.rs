//! A netlink socket: what is sent to the kernel, and what it answers.
//!
//! Owns: the socket, the room for large batches, and the bounds of an answer.
//! Never: knows what a message is about.
//! Called by: `wire`, `routing`.

use rustix::io::Errno;
use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::attr::{Answer, Cut, answers, u32_at};

/// This message is for the kernel (NLM_F_REQUEST).
pub const REQUEST: u16 = 1;
/// Answer it even where all is well (NLM_F_ACK).
pub const ACKNOWLEDGE: u16 = 4;
/// Tell all (NLM_F_DUMP).
pub const DUMP: u16 = 0x300;
/// Only where there is none yet (NLM_F_EXCL).
pub const EXCLUSIVE: u16 = 0x200;
/// Make it (NLM_F_CREATE).
pub const CREATE: u16 = 0x400;
/// Behind those that there are (NLM_F_APPEND).
pub const APPEND: u16 = 0x800;

/// An answer or an error (NLMSG_ERROR), and the end of several (NLMSG_DONE).
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// The list changed while it was told (NLM_F_DUMP_INTR).
const INTERRUPTED: u16 = 0x10;
/// A kernel writes at most 32 KiB at once; so much is asked for.
const READ: usize = 64 * 1024;
/// Of one list: far more than the rules of a pod.
const MOST: usize = 16 * 1024 * 1024;
/// Beyond the kernel's usual bound for one send: 10 lists of 1024 rules are 4 MiB.
const BATCH: usize = 8 * 1024 * 1024;

/// Why the kernel did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// It refused the message with that number.
    #[error("{errno}")]
    Refused {
        /// Which message.
        sequence: u32,
        /// Why.
        errno: Errno,
    },
    /// No socket, or nothing goes through it.
    #[error("netlink: {0}")]
    Io(Errno),
    /// An answer that makes no sense.
    #[error(transparent)]
    Cut(#[from] Cut),
    /// No answer, though one was due.
    #[error("the kernel gave no answer")]
    Silent,
    /// More than is believed.
    #[error("the kernel's answer is longer than {MOST} bytes")]
    TooLong,
    /// It changed under our hands.
    #[error("the rules changed while they were read; try again")]
    Changed,
}

/// A connection to one part of the kernel.
pub struct Socket {
    fd: rustix::fd::OwnedFd,
}

impl Socket {
    /// To the packet filter.
    ///
    /// # Errors
    /// Where there is none, or no socket can be had.
    pub fn netfilter() -> Result<Socket, SocketError> {
        Socket::open(Some(netlink::NETFILTER))
    }

    /// To addresses, routes and routing rules.
    ///
    /// # Errors
    /// Where no socket can be had.
    pub fn route() -> Result<Socket, SocketError> {
        // NETLINK_ROUTE is 0, which is "no protocol".
        Socket::open(None)
    }

    fn open(protocol: Option<net::Protocol>) -> Result<Socket, SocketError> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let fd = net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol)
            .map_err(SocketError::Io)?;
        // Connected to port 0, the kernel: another process' messages do not reach us.
        net::connect(&fd, &SocketAddrNetlink::new(0, 0)).map_err(SocketError::Io)?;
        // Without the capability the usual bound stays, and so does the refusal that follows.
        let _ = sockopt::set_socket_send_buffer_size_force(&fd, BATCH);
        let _ = sockopt::set_socket_recv_buffer_size_force(&fd, BATCH);
        Ok(Socket { fd })
    }

    /// Sends messages, the last of which, `last`, asks for an acknowledgement. One refusal stands
    /// for all: the first.
    ///
    /// # Errors
    /// The refusal, or no answer.
    pub fn acknowledged(&self, messages: &[u8], last: u32) -> Result<(), SocketError> {
        self.send(messages)?;
        let mut refused = None;
        loop {
            let read = match self.read() {
                Ok(read) => read,
                // The answer was given while we sent: what is not there will not come.
                Err(SocketError::Io(Errno::AGAIN)) => {
                    return Err(refused.unwrap_or(SocketError::Silent));
                }
                // So many refusals that there was no room for them.
                Err(error) => return Err(refused.unwrap_or(error)),
            };
            for one in answers(&read)? {
                match error_of(&one)? {
                    Some(errno) if refused.is_none() => {
                        refused = Some(SocketError::Refused {
                            sequence: one.sequence,
                            errno,
                        });
                    }
                    Some(_) => {}
                    None if one.sequence == last => return refused.map_or(Ok(()), Err),
                    None => {}
                }
            }
        }
    }

    /// Sends a message that asks for a list, and gives `each` every entry's body.
    ///
    /// # Errors
    /// The refusal; or an answer that is cut short, endless, or of two states.
    pub fn list(
        &self,
        message: &[u8],
        mut each: impl FnMut(Answer<'_>) -> Result<(), Cut>,
    ) -> Result<(), SocketError> {
        self.send(message)?;
        let mut taken = 0;
        loop {
            let read = self.read()?;
            taken += read.len();
            if taken > MOST {
                return Err(SocketError::TooLong);
            }
            for one in answers(&read)? {
                if one.flags & INTERRUPTED != 0 {
                    return Err(SocketError::Changed);
                }
                if let Some(errno) = error_of(&one)? {
                    let sequence = one.sequence;
                    return Err(SocketError::Refused { sequence, errno });
                }
                match one.kind {
                    DONE => return Ok(()),
                    ERROR => return Err(SocketError::Silent),
                    _ => each(one)?,
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), SocketError> {
        let sent = net::send(&self.fd, bytes, SendFlags::empty()).map_err(SocketError::Io)?;
        match sent == bytes.len() {
            true => Ok(()),
            false => Err(SocketError::Silent),
        }
    }

    /// One datagram. Never waits: the kernel answers while it is asked.
    fn read(&self) -> Result<Vec<u8>, SocketError> {
        let mut buffer = vec![0; READ];
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        let (_, length) =
            net::recv(&self.fd, buffer.as_mut_slice(), flags).map_err(SocketError::Io)?;
        if length == 0 || length > READ {
            return Err(SocketError::Cut(Cut));
        }
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// What an answer refuses, if it does: negative, in the first four bytes.
fn error_of(one: &Answer<'_>) -> Result<Option<Errno>, Cut> {
    let code = match (one.kind, one.body.len()) {
        (ERROR, _) => u32_at(one.body, 0)?,
        // The end of a list may carry an error, in older kernels nothing.
        (DONE, 4..) => u32_at(one.body, 0)?,
        _ => 0,
    };
    let code = i32::from_ne_bytes(code.to_ne_bytes());
    Ok((code < 0).then(|| Errno::from_raw_os_error(code.saturating_neg())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, body: &[u8]) -> Answer<'_> {
        Answer {
            kind,
            flags: 0,
            sequence: 1,
            body,
        }
    }

    #[test]
    fn a_refusal_is_a_negative_number_and_an_acknowledgement_is_zero() {
        let refused = (-1_i32).to_ne_bytes();
        assert_eq!(error_of(&answer(ERROR, &refused)), Ok(Some(Errno::PERM)));
        assert_eq!(error_of(&answer(ERROR, &[0; 4])), Ok(None));
        assert_eq!(error_of(&answer(DONE, &refused)), Ok(Some(Errno::PERM)));
        assert_eq!(error_of(&answer(DONE, &[])), Ok(None));
        assert_eq!(error_of(&answer(99, &refused)), Ok(None));
        assert_eq!(error_of(&answer(ERROR, &[0; 3])), Err(Cut));
    }

    #[test]
    fn routes_are_listed_without_any_capability() {
        let socket = Socket::route().unwrap();
        let mut front = vec![2];
        front.resize(12, 0);
        let message = super::super::attr::Message::new(26, REQUEST | DUMP, 1, &front).finish();
        let mut count = 0;
        let listed = socket.list(&message, |_| {
            count += 1;
            Ok(())
        });
        assert_eq!(listed, Ok(()));
        assert!(count > 0, "the loopback has a route at least");
    }
}
