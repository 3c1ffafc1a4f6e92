//! Whether the proxy beside us is ready, asked until it is or time is up.
//!
//! Owns: whom to ask, how often, and the words where the answer is no.
//! Never: needs a runtime: a probe that starts every second must be quick.
//! Called by: `cli::wait`, `cli::exec`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::client::{self, Ask};

/// Where Istio has readiness (ISTIO.md C1).
const STATUS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15021);
/// Where the admin port is unless somebody says otherwise.
pub(super) const ADMIN: &str = "127.0.0.1:15000";
/// One look takes at most so long.
const LOOK: Duration = Duration::from_secs(1);
/// First and longest pause between looks.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(250));
/// Reasons that are shown.
const MOST_REASONS: usize = 20;

/// One address and path that tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `HOST:PORT`.
    address: String,
    path: String,
}

impl Place {
    /// The admin port at `HOST:PORT`.
    pub(super) fn admin(address: &str) -> Place {
        Place {
            address: address.to_owned(),
            path: "/ready".to_owned(),
        }
    }

    /// A status port, as `--status` has it: one on every address is asked on loopback.
    pub(super) fn status(address: SocketAddr) -> Place {
        let ip = match address.ip() {
            // One socket for both families.
            ip if ip == Ipv6Addr::UNSPECIFIED || ip == Ipv4Addr::UNSPECIFIED => {
                Ipv4Addr::LOCALHOST.into()
            }
            ip => ip,
        };
        Place {
            address: SocketAddr::new(ip, address.port()).to_string(),
            path: "/healthz/ready".to_owned(),
        }
    }

    /// `http://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// In words.
    pub(super) fn url(text: &str) -> Result<Place, String> {
        let wrong = |why: &str| {
            format!(
                "\"{text}\" {why}; write http://HOST:PORT/PATH, such as http://127.0.0.1:15021/healthz/ready"
            )
        };
        let rest = text
            .strip_prefix("http://")
            .ok_or_else(|| wrong("does not begin with http://"))?;
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || rest.starts_with(['/', ':', '?']) || rest.is_empty() {
            return Err(wrong("is no URL"));
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/healthz/ready"),
        };
        let bare = authority.rsplit(']').next().unwrap_or(authority);
        let address = match bare.contains(':') {
            true => authority.to_owned(),
            false => format!("{authority}:80"),
        };
        Ok(Place {
            address,
            path: path.to_owned(),
        })
    }

    /// Whom to ask where nobody says: the status ports, then the admin port.
    pub(super) fn usual(status: &[SocketAddr]) -> Vec<Place> {
        let status = match status {
            [] => &[STATUS],
            some => some,
        };
        let mut places: Vec<Place> = status.iter().copied().map(Place::status).collect();
        places.push(Place::admin(ADMIN));
        places
    }
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Ready,
    /// By whom, and why it is not ready.
    NotReady(String, Vec<String>),
    /// Nobody answered: why, one line for each place.
    Nothing(Vec<String>),
}

impl Heard {
    /// The reasons, indented, one a line.
    pub(super) fn told(&self) -> String {
        let (first, lines) = match self {
            Heard::Ready => return "ready\n".to_owned(),
            Heard::NotReady(by, lines) => (format!("{by} says:\n"), lines),
            Heard::Nothing(lines) => ("nobody answers:\n".to_owned(), lines),
        };
        let more = lines.len().saturating_sub(MOST_REASONS);
        let mut told = first;
        for line in lines.iter().take(MOST_REASONS) {
            told.push_str(&format!("  {line}\n"));
        }
        if more > 0 {
            told.push_str(&format!("  and {more} more\n"));
        }
        told
    }

    /// The first reason, for a line of progress.
    pub(super) fn first(&self) -> &str {
        match self {
            Heard::Ready => "ready",
            Heard::NotReady(_, lines) | Heard::Nothing(lines) => {
                lines.first().map_or("", String::as_str)
            }
        }
    }
}

/// Asks each place until one answers.
pub(super) fn look(places: &[Place]) -> Heard {
    let mut silent = Vec::new();
    for place in places {
        let ask = Ask {
            method: "GET",
            address: &place.address,
            path: &place.path,
        };
        match client::ask(&ask, LOOK) {
            Ok(reply) if reply.status == 200 => return Heard::Ready,
            Ok(reply) => {
                let mut lines: Vec<String> = reply.body.lines().map(str::to_owned).collect();
                if lines.is_empty() || reply.status != 503 {
                    lines.insert(0, format!("HTTP status {}", reply.status));
                }
                return Heard::NotReady(format!("{}{}", place.address, place.path), lines);
            }
            Err(error) => silent.push(brief(place, error)),
        }
    }
    Heard::Nothing(silent)
}

fn brief(place: &Place, error: client::ClientError) -> String {
    match error {
        client::ClientError::Unreachable { address, source } => format!("{address}: {source}"),
        client::ClientError::NotSortie { .. } => {
            format!("{}: what answers there is not sortie", place.address)
        }
        other => other.to_string(),
    }
}

/// Looks until it is ready, or `timeout` is over: then what was heard last. With no time at all
/// there is one look. `between` is told what each look heard, and waits as long as it is asked to;
/// it ends the waiting by saying false.
pub(super) fn until_ready(
    places: &[Place],
    timeout: Duration,
    mut between: impl FnMut(&Heard, Duration) -> bool,
) -> Heard {
    let deadline = Instant::now() + timeout;
    let mut pause = PAUSE.0;
    loop {
        let heard = look(places);
        let left = deadline.saturating_duration_since(Instant::now());
        if heard == Heard::Ready || left.is_zero() || !between(&heard, pause.min(left)) {
            return heard;
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_to_ask_and_what_is_none_is_refused() {
        for (text, address, path) in [
            (
                "http://127.0.0.1:15021/healthz/ready",
                "127.0.0.1:15021",
                "/healthz/ready",
            ),
            ("http://proxy:15021", "proxy:15021", "/healthz/ready"),
            ("http://[::1]/ready", "[::1]:80", "/ready"),
            ("http://[::1]:9/ready", "[::1]:9", "/ready"),
        ] {
            let place = Place::url(text).unwrap();
            assert_eq!(
                (place.address.as_str(), place.path.as_str()),
                (address, path)
            );
        }
        for text in [
            "https://a/",
            "127.0.0.1:15021",
            "http://",
            "http:///ready",
            "http://a b/",
        ] {
            let error = Place::url(text).unwrap_err();
            assert!(error.contains("write http://HOST:PORT/PATH"), "{error}");
        }
    }

    #[test]
    fn a_status_port_on_every_address_is_asked_on_loopback() {
        for (given, asked) in [
            ("[::]:15021", "127.0.0.1:15021"),
            ("0.0.0.0:1", "127.0.0.1:1"),
            ("[::1]:2", "[::1]:2"),
            ("10.0.0.1:3", "10.0.0.1:3"),
        ] {
            assert_eq!(Place::status(given.parse().unwrap()).address, asked);
        }
        let usual = Place::usual(&[]);
        let addresses: Vec<_> = usual.iter().map(|place| place.address.as_str()).collect();
        assert_eq!(addresses, ["127.0.0.1:15021", "127.0.0.1:15000"]);
    }

    #[test]
    fn many_reasons_are_cut_short_and_counted() {
        let lines: Vec<String> = (0..25).map(|nth| format!("reason {nth}")).collect();
        let told = Heard::NotReady("a".to_owned(), lines).told();
        assert!(told.contains("  reason 19\n  and 5 more\n"), "{told}");
    }
}
