//! Envoy's short reasons for how a request ended (ISTIO.md B8).
//!
//! Owns: the words and the order in which several are written.
//! Never: decides which one applies (that is `proxy::error`).
//! Called by: proxy (sets them), access log and metrics (write them).

use std::fmt;

/// A set of flags. `Display` is `UF,URX`, in Envoy's order, and `-` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Flags = Flags(1 << $bit);)*

            /// Every flag and its word, in Envoy's order.
            const WORDS: &'static [(Flags, &'static str)] =
                &[$((Flags::$name, stringify!($name)),)*];
        }
    };
}

flags! {
    /// No healthy upstream, or no credential for it: 503.
    UH = 0;
    /// The response deadline passed: 504.
    UT = 1;
    /// The upstream reset the stream: 503.
    UR = 2;
    /// TCP connect or TLS handshake with the upstream failed: 503.
    UF = 3;
    /// The upstream closed the connection: 503.
    UC = 4;
    /// A limit was reached: 503.
    UO = 5;
    /// No route: 404.
    NR = 6;
    /// The request was delayed on purpose (ISTIO.md V16).
    DI = 13;
    /// The request was aborted on purpose (ISTIO.md V16).
    FI = 14;
    /// The client went away: code 0.
    DC = 7;
    /// All retries were used up; the code is the last try's.
    URX = 8;
    /// No byte moved for too long: 408 or 504.
    SI = 9;
    /// The client broke the protocol: 400.
    DPE = 10;
    /// The upstream broke the protocol: 502.
    UPE = 11;
    /// The route names an upstream that is not there: 503.
    NC = 12;
}

impl Flags {
    /// No flag.
    pub const NONE: Flags = Flags(0);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// True where every flag of `other` is set.
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// True where none is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.with(other)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        *self = self.with(other);
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let set = Flags::WORDS.iter().filter(|(flag, _)| self.contains(*flag));
        for (place, (_, word)) in set.enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_flags_are_joined_by_commas_in_envoys_order() {
        assert_eq!((Flags::URX | Flags::UF).to_string(), "UF,URX");
        assert_eq!((Flags::DC | Flags::FI | Flags::DI).to_string(), "DI,FI,DC");
        assert_eq!(Flags::DPE.to_string(), "DPE");
    }

    #[test]
    fn b8_no_flag_is_a_dash() {
        assert_eq!(Flags::NONE.to_string(), "-");
        assert!(!Flags::UF.contains(Flags::UF | Flags::URX));
    }
}
