//! The host and port that a request asks for.
//!
//! Owns: reading an authority (RFC 3986 section 3.2, RFC 9110 section 7.2).
//! Never: decides where the request goes (that is `route`).
//! Called by: `proxy::forward`.

use std::borrow::Cow;
use std::fmt;

use super::host::{Host, HostError};

/// Host and port as the request states them, in normal form.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Destination<'a> {
    /// Normal form, see [`Host::normalise`].
    pub host: Cow<'a, str>,
    /// The port that the authority names, or the default that the caller gave.
    pub port: u16,
}

/// Why an authority cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// The host part.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The port part: not a number from 1 to 65535.
    #[error("the port \"{0}\" is not a number from 1 to 65535")]
    Port(String),
    /// `user@host`: RFC 9110 section 4.2.4 has a recipient treat it as an error.
    #[error("user information before the host is not allowed")]
    UserInfo,
}

impl<'a> Destination<'a> {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; `default_port` where none is named.
    pub fn parse(authority: &'a str, default_port: u16) -> Result<Self, AuthorityError> {
        if Host::is_plain(authority.as_bytes()) {
            return Ok(Destination {
                host: Cow::Borrowed(authority),
                port: default_port,
            });
        }
        if authority.contains('@') {
            return Err(AuthorityError::UserInfo);
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => default_port,
            Some(text) => read_port(text)?,
        };
        Ok(Destination {
            host: Host::normalise(host)?,
            port,
        })
    }

    /// The same, owning its host.
    pub fn into_owned(self) -> Destination<'static> {
        Destination {
            host: Cow::Owned(self.host.into_owned()),
            port: self.port,
        }
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rfind(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some(colon) if !authority.ends_with(']') => {
            let (host, rest) = authority.split_at(colon);
            (host, rest.strip_prefix(':'))
        }
        _ => (authority, None),
    }
}

fn read_port(text: &str) -> Result<u16, AuthorityError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(AuthorityError::Port(text.to_owned())),
    }
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_without_a_port_means_the_default() {
        let got = Destination::parse("Bank.Example", 80).unwrap();
        assert_eq!((got.host.as_ref(), got.port), ("bank.example", 80));
    }

    #[test]
    fn an_authority_with_a_port_means_that_port() {
        let got = Destination::parse("[2001:DB8::1]:8443", 80).unwrap();
        assert_eq!((got.host.as_ref(), got.port), ("2001:db8::1", 8443));
        assert_eq!(got.to_string(), "[2001:db8::1]:8443");
    }

    #[test]
    fn an_authority_that_could_be_read_two_ways_is_refused() {
        for text in [
            "a@b", "a:", "a:0", "a:65536", "a:+1", "a:1:2", "::1", "a b", "",
        ] {
            assert!(Destination::parse(text, 80).is_err(), "{text:?}");
        }
    }
}
