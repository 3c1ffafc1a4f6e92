//! The names of the fields that sortie itself looks for.
//!
//! Owns: [`Known`], how a name's bytes are told, and sets of them.
//! Never: says what is done with a field.
//! Called by: `fields`, and whoever asks for one of them.

use http::header::{self, HeaderName};

macro_rules! known {
    ($($variant:ident $name:expr, $text:literal;)*) => {
        /// A name that is looked for often, told once when its line is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Known {
            /// Any other.
            Other,
            /// One of Envoy's own (`x-envoy-...`).
            Envoy,
            $(
                #[doc = concat!("`", $text, "`")]
                $variant,
            )*
        }

        impl Known {
            /// In lower case; empty for those that are no single name.
            pub const fn text(self) -> &'static str {
                match self {
                    Known::Other | Known::Envoy => "",
                    $(Known::$variant => $text,)*
                }
            }

            /// The name; `None` for those that are no single name.
            pub(super) fn name(self) -> Option<HeaderName> {
                match self {
                    Known::Other | Known::Envoy => None,
                    $(Known::$variant => Some($name),)*
                }
            }
        }

        #[cfg(test)]
        const ALL: &[Known] = &[$(Known::$variant),*];
    };
}

known! {
    Connection header::CONNECTION, "connection";
    ContentLength header::CONTENT_LENGTH, "content-length";
    ContentType header::CONTENT_TYPE, "content-type";
    Cookie header::COOKIE, "cookie";
    Expect header::EXPECT, "expect";
    ForwardedClientCert HeaderName::from_static("x-forwarded-client-cert"), "x-forwarded-client-cert";
    ForwardedFor HeaderName::from_static("x-forwarded-for"), "x-forwarded-for";
    ForwardedProto HeaderName::from_static("x-forwarded-proto"), "x-forwarded-proto";
    GrpcStatus HeaderName::from_static("grpc-status"), "grpc-status";
    Host header::HOST, "host";
    Http2Settings HeaderName::from_static("http2-settings"), "http2-settings";
    KeepAlive HeaderName::from_static("keep-alive"), "keep-alive";
    ProxyAuthenticate header::PROXY_AUTHENTICATE, "proxy-authenticate";
    ProxyAuthorization header::PROXY_AUTHORIZATION, "proxy-authorization";
    ProxyConnection HeaderName::from_static("proxy-connection"), "proxy-connection";
    RequestId HeaderName::from_static("x-request-id"), "x-request-id";
    Server header::SERVER, "server";
    Te header::TE, "te";
    Trailer header::TRAILER, "trailer";
    TransferEncoding header::TRANSFER_ENCODING, "transfer-encoding";
    Upgrade header::UPGRADE, "upgrade";
    UserAgent header::USER_AGENT, "user-agent";
    Via header::VIA, "via";
}

impl Known {
    /// By length first: most names are none of these and cost one look.
    pub fn of(name: &[u8]) -> Known {
        let one = |known: Known| match same(name, known.text().as_bytes()) {
            true => known,
            false => Known::Other,
        };
        let first = name.first().map_or(0, |byte| byte | 0x20);
        match (name.len(), first) {
            (2, b't') => one(Known::Te),
            (3, b'v') => one(Known::Via),
            (4, b'h') => one(Known::Host),
            (6, b'c') => one(Known::Cookie),
            (6, b'e') => one(Known::Expect),
            (6, b's') => one(Known::Server),
            (7, b't') => one(Known::Trailer),
            (7, b'u') => one(Known::Upgrade),
            (10, b'c') => one(Known::Connection),
            (10, b'k') => one(Known::KeepAlive),
            (10, b'u') => one(Known::UserAgent),
            (11, b'g') => one(Known::GrpcStatus),
            (12, b'c') => one(Known::ContentType),
            (14, b'c') => one(Known::ContentLength),
            (14, b'h') => one(Known::Http2Settings),
            (16, b'p') => one(Known::ProxyConnection),
            (17, b't') => one(Known::TransferEncoding),
            (18, b'p') => one(Known::ProxyAuthenticate),
            (19, b'p') => one(Known::ProxyAuthorization),
            (_, b'x') => Known::of_x(name),
            _ => Known::Other,
        }
    }

    fn of_x(name: &[u8]) -> Known {
        let known = match name.len() {
            12 => Known::RequestId,
            15 => Known::ForwardedFor,
            17 => Known::ForwardedProto,
            23 => Known::ForwardedClientCert,
            _ => Known::Other,
        };
        if known != Known::Other && same(name, known.text().as_bytes()) {
            return known;
        }
        match name.split_at_checked(8) {
            Some((prefix, _)) if prefix.eq_ignore_ascii_case(b"x-envoy-") => Known::Envoy,
            _ => Known::Other,
        }
    }
}

/// Two names of equal length, the second in lower case. Without a branch for each byte: of what a
/// name is made of, only capitals have a twin that differs in this bit.
fn same(name: &[u8], text: &[u8]) -> bool {
    let differ = |sum: u8, (a, b): (&u8, &u8)| sum | ((a | 0x20) ^ b);
    name.iter().zip(text).fold(0, differ) == 0
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Set(u32);

impl Set {
    /// Those of a list.
    pub const fn of(mut list: &[Known]) -> Set {
        let mut set = 0;
        while let [first, rest @ ..] = list {
            set |= 1 << *first as u8;
            list = rest;
        }
        Set(set)
    }

    /// True where it is one of them.
    pub const fn contains(self, known: Known) -> bool {
        self.0 & (1 << known as u8) != 0
    }

    /// True where the two have one in common.
    pub const fn meets(self, other: Set) -> bool {
        self.0 & other.0 != 0
    }

    pub(super) fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_told_in_any_case_and_its_neighbours_are_not() {
        for known in ALL {
            let text = known.text();
            assert_eq!(known.name().unwrap().as_str(), text);
            for written in [text.to_owned(), text.to_ascii_uppercase()] {
                assert_eq!(Known::of(written.as_bytes()), *known, "{written}");
            }
            for other in [format!("{text}x"), text[1..].to_owned()] {
                assert_eq!(Known::of(other.as_bytes()), Known::Other, "{other}");
            }
            let mut swapped = text.to_owned().into_bytes();
            *swapped.last_mut().unwrap() = b'_';
            assert_eq!(Known::of(&swapped), Known::Other);
        }
    }

    #[test]
    fn envoys_own_names_are_a_family() {
        assert_eq!(Known::of(b"X-Envoy-Retry-On"), Known::Envoy);
        assert_eq!(Known::of(b"x-envoy-"), Known::Envoy);
        assert_eq!(Known::of(b"x-envoy"), Known::Other);
        assert_eq!(Known::of(b"x-envoyed-by"), Known::Other);
    }

    #[test]
    fn all_fit_in_one_set() {
        assert!(ALL.iter().all(|known| (*known as u8) < 32));
    }
}
