//! What is redirected into the proxy, and what is not (ISTIO.md C2 to C4, I10).
//!
//! Owns: [`CaptureSpec`], the lists that flags and annotations write alike, and the same spec as
//! flags of `sortie capture`.
//! Never: writes a rule (that is `capture`).
//! Called by: cli (reads flags), inject (reads annotations, writes flags), capture (makes rules).

use std::fmt::Display;
use std::str::FromStr;

use ipnet::IpNet;

/// Ports of one list: more is a mistake, and rules are looked at for every connection.
const MAX_LISTED: usize = 1024;
/// The proxy's user and group (C2).
pub const PROXY_ID: u32 = 1337;
/// HBONE, which is never captured (C2).
pub const TUNNEL_PORT: u16 = 15008;
/// Ports of the proxy itself that others may call: metrics, readiness, probes (C1, C2).
pub const LOCAL_PORTS: [u16; 3] = [15090, 15021, 15020];

/// Every one, or those that are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chosen<T> {
    /// `*`.
    All,
    /// These alone; an empty list is none.
    Only(Vec<T>),
}

/// How connections to the application reach the proxy (C2, C4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interception {
    /// REDIRECT in the nat table: the application sees 127.0.0.6 as its client.
    #[default]
    Redirect,
    /// TPROXY in the mangle table: the application sees the client's own address. The proxy needs
    /// user 0 and CAP_NET_ADMIN.
    Tproxy,
    /// Nothing is captured (C9).
    Off,
}

/// What is redirected where. The default is Istio's (C2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureSpec {
    /// Where what the application opens goes to.
    pub outbound_port: u16,
    /// Where what others open to the application goes to.
    pub inbound_port: u16,
    /// Users whose own traffic is let go: the proxy's.
    pub uids: Vec<u32>,
    /// Groups, likewise.
    pub gids: Vec<u32>,
    /// How inbound connections are captured.
    pub interception: Interception,
    /// Destinations that are captured.
    pub outbound_ranges: Chosen<IpNet>,
    /// Destinations that are not; they win.
    pub exclude_outbound_ranges: Vec<IpNet>,
    /// Ports that are captured whatever their address.
    pub outbound_ports: Vec<u16>,
    /// Ports that are not; they win.
    pub exclude_outbound_ports: Vec<u16>,
    /// Ports of the application that are captured.
    pub inbound_ports: Chosen<u16>,
    /// Ports that are not, beside the proxy's own [`LOCAL_PORTS`]; they win.
    pub exclude_inbound_ports: Vec<u16>,
    /// Interfaces whose traffic is not looked at.
    pub exclude_interfaces: Vec<String>,
    /// Interfaces of virtual machines, whose traffic comes in and counts as outbound.
    pub virtual_interfaces: Vec<String>,
}

impl Default for CaptureSpec {
    fn default() -> Self {
        CaptureSpec {
            outbound_port: 15001,
            inbound_port: 15006,
            uids: vec![PROXY_ID],
            gids: vec![PROXY_ID],
            interception: Interception::Redirect,
            outbound_ranges: Chosen::All,
            exclude_outbound_ranges: Vec::new(),
            outbound_ports: Vec::new(),
            exclude_outbound_ports: Vec::new(),
            inbound_ports: Chosen::All,
            exclude_inbound_ports: Vec::new(),
            exclude_interfaces: Vec::new(),
            virtual_interfaces: Vec::new(),
        }
    }
}

/// A list that is none: which word, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// One word of it.
    #[error("\"{0}\" is not {1}")]
    Word(String, &'static str),
    /// `*` beside other words.
    #[error("\"*\" stands for all; it cannot stand beside others")]
    AllAndMore,
    /// More than 1,024.
    #[error("{0} entries are more than {MAX_LISTED}")]
    TooMany(usize),
}

/// One word of a list.
pub trait Listed: Sized {
    /// What it is, for a message: `a port, 1 to 65535`.
    const IS: &'static str;
    /// Parses one word.
    fn listed(text: &str) -> Option<Self>;
}

impl Listed for u16 {
    const IS: &'static str = "a port, 1 to 65535";
    fn listed(text: &str) -> Option<Self> {
        text.parse().ok().filter(|port| *port > 0)
    }
}

impl Listed for u32 {
    const IS: &'static str = "a numeric user or group";
    fn listed(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Listed for IpNet {
    const IS: &'static str = "a range such as 10.0.0.0/8, or an address";
    fn listed(text: &str) -> Option<Self> {
        let network = IpNet::from_str(text).ok();
        let network = network.or_else(|| text.parse().ok().map(|ip: std::net::IpAddr| ip.into()));
        network.map(|network| network.trunc())
    }
}

impl Listed for String {
    const IS: &'static str = "the name of an interface: at most 15 of A-Z, a-z, 0-9 and . _ : @ -, or the beginning of some \
         and a +";
    fn listed(text: &str) -> Option<Self> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:@-".contains(&b);
        // What ends with a plus is a beginning, to iptables; a plus alone would be every one.
        let name = text.strip_suffix('+').unwrap_or(text);
        let sound = (1..=15).contains(&text.len()) && !name.is_empty() && name.bytes().all(fits);
        // A name that begins like a flag would be taken for one by iptables.
        (sound && !text.starts_with('-')).then(|| text.to_owned())
    }
}

/// Reads `80,443`; empty is none, and spaces around words do not count.
///
/// # Errors
/// The first word that does not fit.
pub fn list<T: Listed>(text: &str) -> Result<Vec<T>, ListError> {
    let words = text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    if words.len() > MAX_LISTED {
        return Err(ListError::TooMany(words.len()));
    }
    words
        .into_iter()
        .map(|word| T::listed(word).ok_or_else(|| ListError::Word(word.to_owned(), T::IS)))
        .collect()
}

impl<T: Listed> FromStr for Chosen<T> {
    type Err = ListError;

    /// `*` for all, else as [`list`].
    fn from_str(text: &str) -> Result<Self, ListError> {
        let mut words = text.split(',').map(str::trim);
        match (text.trim(), words.any(|word| word == "*")) {
            ("*", _) => Ok(Chosen::All),
            (_, true) => Err(ListError::AllAndMore),
            _ => list(text).map(Chosen::Only),
        }
    }
}

impl<T: Display> Display for Chosen<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Chosen::All => f.write_str("*"),
            Chosen::Only(words) => f.write_str(&joined(words)),
        }
    }
}

fn joined<T: Display>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(T::to_string).collect();
    words.join(",")
}

impl Display for Interception {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Interception::Redirect => "REDIRECT",
            Interception::Tproxy => "TPROXY",
            Interception::Off => "NONE",
        })
    }
}

impl FromStr for Interception {
    type Err = ListError;

    fn from_str(text: &str) -> Result<Self, ListError> {
        match text.to_ascii_uppercase().as_str() {
            "REDIRECT" => Ok(Interception::Redirect),
            "TPROXY" => Ok(Interception::Tproxy),
            "NONE" => Ok(Interception::Off),
            _ => Err(ListError::Word(text.to_owned(), "REDIRECT, TPROXY or NONE")),
        }
    }
}

impl CaptureSpec {
    /// The flags of `sortie capture` that say this, in istio-iptables' order; what is the default is
    /// left out. `--flag=value`, so that an empty value stays one.
    pub fn to_args(&self) -> Vec<String> {
        let default = CaptureSpec::default();
        let flags = [
            (
                "outbound-port",
                self.outbound_port.to_string(),
                default.outbound_port.to_string(),
            ),
            (
                "inbound-port",
                self.inbound_port.to_string(),
                default.inbound_port.to_string(),
            ),
            ("uid", joined(&self.uids), joined(&default.uids)),
            ("gid", joined(&self.gids), joined(&default.gids)),
            (
                "interception",
                self.interception.to_string(),
                default.interception.to_string(),
            ),
            (
                "outbound-ranges",
                self.outbound_ranges.to_string(),
                default.outbound_ranges.to_string(),
            ),
            (
                "exclude-outbound-ranges",
                joined(&self.exclude_outbound_ranges),
                String::new(),
            ),
            (
                "outbound-ports",
                joined(&self.outbound_ports),
                String::new(),
            ),
            (
                "exclude-outbound-ports",
                joined(&self.exclude_outbound_ports),
                String::new(),
            ),
            (
                "inbound-ports",
                self.inbound_ports.to_string(),
                default.inbound_ports.to_string(),
            ),
            (
                "exclude-inbound-ports",
                joined(&self.exclude_inbound_ports),
                String::new(),
            ),
            (
                "exclude-interfaces",
                joined(&self.exclude_interfaces),
                String::new(),
            ),
            (
                "virtual-interfaces",
                joined(&self.virtual_interfaces),
                String::new(),
            ),
        ];
        let said = flags
            .into_iter()
            .filter(|(_, value, default)| value != default);
        said.map(|(flag, value, _)| format!("--{flag}={value}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i10_a_star_is_all_and_an_empty_list_is_none() {
        assert_eq!("*".parse(), Ok(Chosen::<u16>::All));
        assert_eq!("".parse(), Ok(Chosen::<u16>::Only(vec![])));
        assert_eq!(" 80, 443".parse(), Ok(Chosen::Only(vec![80_u16, 443])));
        assert_eq!("80,*".parse::<Chosen<u16>>(), Err(ListError::AllAndMore));
    }

    #[test]
    fn i10_a_word_that_does_not_fit_is_named() {
        let error = list::<u16>("80,0").unwrap_err().to_string();
        assert_eq!(error, "\"0\" is not a port, 1 to 65535");
        let error = list::<IpNet>("10.0.0.0/33").unwrap_err().to_string();
        assert!(
            error.starts_with("\"10.0.0.0/33\" is not a range"),
            "{error}"
        );
        for name in [
            "-j",
            "eth 0",
            "+",
            "e+h",
            "eth++",
            "an-interface-of-a-long-name",
        ] {
            assert!(list::<String>(name).is_err(), "{name}");
        }
        assert!(matches!(
            list::<u16>(&"1,".repeat(5000)),
            Err(ListError::TooMany(5000))
        ));
    }

    #[test]
    fn c2_a_range_is_written_without_the_bits_of_its_hosts() {
        let ranges = list::<IpNet>("10.1.2.3/8,192.0.2.7").unwrap();
        assert_eq!(joined(&ranges), "10.0.0.0/8,192.0.2.7/32");
    }

    #[test]
    fn i3_what_is_the_default_is_not_said() {
        assert_eq!(CaptureSpec::default().to_args(), Vec::<String>::new());
        let spec = CaptureSpec {
            inbound_ports: Chosen::Only(vec![]),
            exclude_outbound_ports: vec![3306, 5432],
            ..CaptureSpec::default()
        };
        assert_eq!(
            spec.to_args(),
            ["--exclude-outbound-ports=3306,5432", "--inbound-ports="]
        );
    }
}
