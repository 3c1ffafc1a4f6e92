//! The request that is asked about.
//!
//! Owns: reading it from a command line or a query, and writing the query.
//! Never: sends anything.
//! Called by: cli (both ways), admin (from the query).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Request, Uri};

use crate::message::RequestHead;
use crate::model::{Destination, OriginalDst};

/// The question as it was typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `http://host/path`, `https://host`, `tcp://host:port`; without a scheme: `http`.
    pub url: String,
    /// Empty: GET.
    pub method: String,
    /// `Name: value` each.
    pub headers: Vec<String>,
    /// `IP` or `IP:PORT`: the connection was captured on its way there.
    pub captured: Option<String>,
    /// The client's IP address; `None`: this machine's own.
    pub from: Option<String>,
    /// `NUMBER`: it comes to this port of a Gateway (`port.number`).
    pub gateway: Option<String>,
    /// `PORT`: it comes to this port of the application beside sortie.
    pub inbound: Option<String>,
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Plain HTTP.
    Http,
    /// TLS of its own.
    Tls,
    /// Bytes of any other kind.
    Tcp,
}

/// Which listener it comes to, where that is not the mesh's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// A Gateway's `port.number`.
    Gateway(u16),
    /// A port of the application beside us.
    Inbound(u16),
}

/// A question that makes sense.
#[derive(Debug)]
pub struct Question {
    /// As it is shown.
    pub(super) url: String,
    pub(super) speaks: Speaks,
    /// The request as a client of the proxy sends it: a path, and Host.
    pub(super) parts: RequestHead,
    /// The host of the URL, in normal form.
    pub(super) host: String,
    /// The port of the URL, or of its scheme.
    pub(super) port: u16,
    pub(super) original_dst: Option<OriginalDst>,
    pub(super) from: IpAddr,
    pub(super) door: Option<Door>,
}

impl Asked {
    /// Reads the query of the admin page.
    pub fn from_query(query: &str) -> Asked {
        let mut asked = Asked::default();
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = decoded(value);
            match key {
                "url" => asked.url = value,
                "method" => asked.method = value,
                "header" => asked.headers.push(value),
                "captured" => asked.captured = Some(value),
                "from" => asked.from = Some(value),
                "gateway" => asked.gateway = Some(value),
                "inbound" => asked.inbound = Some(value),
                _ => {}
            }
        }
        asked
    }

    /// The query that says the same.
    pub fn to_query(&self) -> String {
        let mut pairs = vec![("url", self.url.as_str())];
        if !self.method.is_empty() {
            pairs.push(("method", &self.method));
        }
        pairs.extend(
            self.headers
                .iter()
                .map(|header| ("header", header.as_str())),
        );
        pairs.extend(self.captured.iter().map(|to| ("captured", to.as_str())));
        pairs.extend(self.from.iter().map(|from| ("from", from.as_str())));
        pairs.extend(self.gateway.iter().map(|at| ("gateway", at.as_str())));
        pairs.extend(self.inbound.iter().map(|at| ("inbound", at.as_str())));
        let pairs = pairs
            .iter()
            .map(|(key, value)| format!("{key}={}", encode(value)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

impl Question {
    /// Makes sense of what was typed.
    ///
    /// # Errors
    /// What cannot be understood, and what to write instead.
    pub fn parse(asked: &Asked) -> Result<Question, String> {
        let url = match asked.url.contains("://") {
            true => asked.url.clone(),
            false => format!("http://{}", asked.url),
        };
        let wrong = |why: &str| {
            format!(
                "\"{}\": {why}; write a URL such as http://bank.example/",
                asked.url
            )
        };
        let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
        let (speaks, default) = match uri.scheme_str() {
            Some("http") => (Speaks::Http, Some(80)),
            Some("https" | "tls") => (Speaks::Tls, Some(443)),
            Some("tcp") => (Speaks::Tcp, None),
            _ => return Err(wrong("the scheme is none of http, https and tcp")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("there is no host"))?;
        // 0 stands for a scheme that has no port of its own; it cannot be written.
        let named = Destination::parse(authority.as_str(), default.unwrap_or(0));
        let named = named.map_err(|error| wrong(&error.to_string()))?;
        if named.port == 0 {
            return Err(wrong("tcp has no port of its own: name one"));
        }
        let (host, port) = (named.host.into_owned(), named.port);
        Ok(Question {
            speaks,
            parts: parts(asked, &uri, authority.as_str())?,
            host,
            port,
            original_dst: original_dst(asked.captured.as_deref(), port)?,
            from: from(asked.from.as_deref())?,
            door: door(asked)?,
            url,
        })
    }
}

fn original_dst(text: Option<&str>, port: u16) -> Result<Option<OriginalDst>, String> {
    let Some(text) = text else {
        return Ok(None);
    };
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    match alone.or_else(|_| text.parse::<SocketAddr>()) {
        Ok(address) => Ok(Some(OriginalDst(address))),
        Err(_) => Err(format!(
            "captured: \"{text}\" is neither an IP address nor one with a port"
        )),
    }
}

fn door(asked: &Asked) -> Result<Option<Door>, String> {
    let port = |what: &str, text: &str| {
        let number = text.parse::<u16>().ok().filter(|port| *port > 0);
        number.ok_or_else(|| format!("{what}: \"{text}\" is no port, 1 to 65535"))
    };
    match (&asked.gateway, &asked.inbound) {
        (None, None) => Ok(None),
        (Some(text), None) => Ok(Some(Door::Gateway(port("gateway", text)?))),
        (None, Some(text)) => Ok(Some(Door::Inbound(port("inbound", text)?))),
        (Some(_), Some(_)) => {
            Err("it comes to a gateway or to the application, not to both".into())
        }
    }
}

fn from(text: Option<&str>) -> Result<IpAddr, String> {
    match text.map(str::parse) {
        None => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(Ok(address)) => Ok(address),
        Some(Err(_)) => {
            let text = text.unwrap_or_default();
            Err(format!("from: \"{text}\" is no IP address"))
        }
    }
}

fn parts(asked: &Asked, uri: &Uri, authority: &str) -> Result<RequestHead, String> {
    let method = match asked.method.as_str() {
        "" => Method::GET,
        text => Method::from_bytes(text.as_bytes())
            .map_err(|_| format!("method: \"{text}\" is not a method of HTTP"))?,
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder().method(method).uri(path);
    let request = request.header(HOST, authority);
    let request = request.body(()).map_err(|error| error.to_string())?;
    let mut parts = RequestHead::from(request.into_parts().0);
    let mut host_given = false;
    for header in &asked.headers {
        let wrong = || format!("header: \"{header}\" is not \"Name: value\"");
        let (name, value) = header.split_once(':').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        // As with curl, a Host that is given takes the place of the URL's.
        if name == HOST && !host_given {
            host_given = true;
            parts.headers.insert(name, value);
        } else {
            parts.headers.append(name, value);
        }
    }
    Ok(parts)
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The text of a query, percent-decoded (RFC 3986 section 2.1); what is no code stands for itself.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(url: &str) -> Asked {
        Asked {
            url: url.to_owned(),
            ..Asked::default()
        }
    }

    fn parse(url: &str) -> Result<Question, String> {
        Question::parse(&ask(url))
    }

    #[test]
    fn a_url_gives_host_port_path_and_how_the_client_speaks() {
        for (url, speaks, host, port, path) in [
            (
                "http://Bank.Example/a?b=c",
                Speaks::Http,
                "bank.example",
                80,
                "/a?b=c",
            ),
            ("bank.example", Speaks::Http, "bank.example", 80, "/"),
            (
                "http://bank.example:8080",
                Speaks::Http,
                "bank.example",
                8080,
                "/",
            ),
            (
                "https://bank.example",
                Speaks::Tls,
                "bank.example",
                443,
                "/",
            ),
            (
                "tcp://[2001:db8::1]:3306",
                Speaks::Tcp,
                "2001:db8::1",
                3306,
                "/",
            ),
        ] {
            let got = parse(url).unwrap();
            assert_eq!(
                (
                    got.speaks,
                    got.host.as_str(),
                    got.port,
                    got.parts.uri.to_string()
                ),
                (speaks, host, port, path.to_owned()),
                "{url}"
            );
        }
    }

    #[test]
    fn a_url_that_means_nothing_here_is_refused_with_words() {
        for (url, words) in [
            ("ftp://bank.example", "none of http, https and tcp"),
            ("tcp://bank.example", "name one"),
            ("http://bank.example:0", "1 to 65535"),
            ("http://bank.example:99999", "1 to 65535"),
            ("http://bank.example:", "1 to 65535"),
            ("http://user@bank.example", "user information"),
            ("http://ba nk", "ba nk"),
            ("http://a!b/", "'!'"),
            ("", "such as http://bank.example/"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(words), "{url}: {error}");
        }
    }

    #[test]
    fn a_host_header_takes_the_place_of_the_urls_and_others_are_added() {
        let asked = Asked {
            method: "PUT".to_owned(),
            headers: vec![
                "host: inner".to_owned(),
                "X-A: 1".to_owned(),
                "x-a:2".to_owned(),
            ],
            ..ask("http://bank.example:81/")
        };
        let got = Question::parse(&asked).unwrap();
        assert_eq!(
            (
                got.parts.headers.get(&HOST).unwrap().as_bytes(),
                &got.parts.method
            ),
            (&b"inner"[..], &Method::PUT)
        );
        let all: Vec<_> = got.parts.headers.get_all("x-a").collect();
        assert_eq!(all, ["1", "2"]);
        let bad = Asked {
            headers: vec!["x-a".to_owned()],
            ..ask("http://a")
        };
        assert!(Question::parse(&bad).unwrap_err().contains("Name: value"));
    }

    #[test]
    fn a_captured_connection_has_the_port_of_the_url_unless_it_says_another() {
        let captured = |text: &str| {
            let asked = Asked {
                captured: Some(text.to_owned()),
                ..ask("http://bank.example:8080/")
            };
            Question::parse(&asked).map(|got| got.original_dst.unwrap().to_string())
        };
        assert_eq!(captured("10.0.0.1").unwrap(), "10.0.0.1:8080");
        assert_eq!(captured("10.0.0.1:9").unwrap(), "10.0.0.1:9");
        assert!(
            captured("bank")
                .unwrap_err()
                .contains("neither an IP address")
        );
    }

    #[test]
    fn a_query_says_what_the_command_line_said() {
        let asked = Asked {
            url: "http://bank.example/a?b=c&d#e%".to_owned(),
            method: "POST".to_owned(),
            headers: vec!["X-A: ü & =".to_owned(), "x-b:".to_owned()],
            captured: Some("[::1]:80".to_owned()),
            gateway: Some("443".into()),
            inbound: None,
            from: Some("2001:db8::1".to_owned()),
        };
        assert_eq!(Asked::from_query(&asked.to_query()), asked);
        assert!(asked.to_query().is_ascii() && !asked.to_query().contains(' '));
    }
}
