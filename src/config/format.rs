//! The kinds of text that values are made of, each with its check and its words.
//!
//! Owns: [`Format`]: hosts, addresses, paths, headers, names, regular expressions.
//! Never: compares two values with each other (that is each part's lowering).
//! Called by: shape, validate, schema.

use std::net::SocketAddr;

use regex::{Regex, RegexBuilder};

use crate::model::{Destination, Host, HostError, HostPattern, REGEX_SIZE_LIMIT};

use super::diagnostic::Code;

/// Bytes of one pattern.
const MAX_REGEX: usize = 4096;
/// Room for what anchors a pattern, once compiled.
const REGEX_FRAME: usize = 64 * 1024;
/// Bytes of one path, header value or file name.
const MAX_TEXT: usize = 8192;
/// Bytes of a body (model::Respond).
const MAX_BODY: usize = 1024 * 1024;

/// What a text must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The name of an upstream or of a rule: it stands in logs and metrics.
    Name,
    /// `name`, `*.suffix` or `*`.
    HostPattern,
    /// A host name or IP address.
    Host,
    /// Host, or host and port.
    Authority,
    /// Host and port.
    Endpoint,
    /// IP address and port.
    SocketAddr,
    /// What a path is compared with.
    Path,
    /// What a path becomes.
    NewPath,
    /// An RE2-like regular expression.
    Regex,
    /// What a match of a regular expression becomes.
    Substitution,
    /// A header that a condition may look at.
    HeaderMatched,
    /// A header that a rule may change.
    HeaderChanged,
    /// A header's value.
    HeaderValue,
    /// What a header's value is compared with.
    Comparand,
    /// An HTTP method.
    Method,
    /// A file.
    File,
    /// A subject alternative name.
    San,
    /// The body of an answer.
    Body,
}

/// What is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What kind of mistake.
    pub code: Code,
    /// What is wrong.
    pub problem: String,
    /// What to write instead; empty: what the format expects.
    pub advice: String,
}

impl Wrong {
    fn new(problem: String, advice: &str) -> Wrong {
        Wrong {
            code: Code::Malformed,
            problem,
            advice: advice.to_owned(),
        }
    }

    fn with(mut self, code: Code) -> Wrong {
        self.code = code;
        self
    }
}

type Check = Result<(), Wrong>;

impl Format {
    /// What may be written, for messages and the schema.
    pub fn expected(self) -> &'static str {
        match self {
            Format::Name => "a name of letters, digits, \"-\", \"_\" and \".\"",
            Format::HostPattern => "a host name, \"*.suffix\" or \"*\"",
            Format::Host => "a host name or IP address",
            Format::Authority => "a host, or host:port",
            Format::Endpoint => "host:port, the host a name or an IP address",
            Format::SocketAddr => "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080",
            Format::Path => "a path that begins with \"/\"",
            Format::NewPath => "a path that begins with \"/\", without query",
            Format::Regex => "a regular expression",
            Format::Substitution => "a text; \\1 is the first group",
            Format::HeaderMatched | Format::HeaderChanged => "a header name",
            Format::HeaderValue => "a header value",
            Format::Comparand => "a text",
            Format::Method => "a method in capitals, such as GET",
            Format::File => "a file name; relative ones start at this file's folder",
            Format::San => {
                "a DNS name, a URI such as spiffe://td/ns/x/sa/y, an IP or e-mail address"
            }
            Format::Body => "a text of at most 1 MiB",
        }
    }

    /// Whether the empty text is one.
    pub fn may_be_empty(self) -> bool {
        matches!(
            self,
            Format::Body | Format::Substitution | Format::HeaderValue
        )
    }

    /// A pattern for the schema that every valid text matches, where one is simple.
    pub fn pattern(self) -> Option<&'static str> {
        match self {
            Format::Name => Some("^[A-Za-z0-9._-]{1,253}$"),
            Format::Path | Format::NewPath => Some("^/[!-~]*$"),
            Format::Endpoint | Format::SocketAddr => Some(":[0-9]{1,5}$"),
            Format::HeaderMatched | Format::HeaderChanged => Some("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
            Format::Method => Some("^[!#$%&'*+.^_`|~0-9A-Z-]+$"),
            Format::HostPattern
            | Format::Host
            | Format::Authority
            | Format::Regex
            | Format::Substitution
            | Format::HeaderValue
            | Format::Comparand
            | Format::File
            | Format::San
            | Format::Body => None,
        }
    }

    /// Checks a text.
    ///
    /// # Errors
    /// What is wrong, without the text where it could be a secret.
    pub fn check(self, text: &str) -> Check {
        let most = match self {
            Format::Body => MAX_BODY,
            Format::Regex => MAX_REGEX,
            _ => MAX_TEXT,
        };
        if text.len() > most {
            let problem = format!("it has {} bytes, more than {most}", text.len());
            return Err(Wrong::new(problem, "shorten it").with(Code::OutOfBounds));
        }
        if text.is_empty() && !self.may_be_empty() {
            let advice = format!("write {}, or leave the key out", self.expected());
            return Err(Wrong::new("the text is empty".to_owned(), &advice));
        }
        match self {
            Format::Name => name(text),
            Format::HostPattern => {
                HostPattern::parse(text).map_or_else(|e| host(text, &e), |_| Ok(()))
            }
            Format::Host => Host::parse(text).map_or_else(|e| host(text, &e), |_| Ok(())),
            Format::Authority => authority(text),
            Format::Endpoint => endpoint(text),
            Format::SocketAddr => socket_addr(text),
            Format::Path | Format::NewPath => path(text),
            Format::Regex => compile(text).map(|_| ()),
            Format::Substitution => visible(text),
            Format::HeaderMatched => header_matched(text),
            Format::HeaderChanged => header_changed(text),
            Format::HeaderValue | Format::Comparand => header_value(text),
            Format::Method => method(text),
            Format::File => file(text),
            Format::San => san(text),
            Format::Body => Ok(()),
        }
    }
}

/// A text in quotes, cut short, with control characters made visible.
pub fn quote(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

fn name(text: &str) -> Check {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match text.chars().find(|c| !allowed(*c)) {
        Some(c) => Err(Wrong::new(
            format!("{c:?} cannot stand in the name {}", quote(text)),
            "",
        )),
        None if text.len() > 253 => {
            let problem = format!("the name has {} characters", text.len());
            Err(Wrong::new(problem, "write at most 253").with(Code::OutOfBounds))
        }
        None => Ok(()),
    }
}

fn host(text: &str, error: &HostError) -> Check {
    let advice = match error {
        _ if text.contains("://") => "write the host alone, without scheme and path",
        HostError::Character(':') => "write the host alone; a port has its own key",
        HostError::Character('/') => "write the host alone, without scheme and path",
        HostError::Character(c) if !c.is_ascii() => "write it in Punycode (xn--...)",
        HostError::Empty
        | HostError::TooLong(_)
        | HostError::Label(_)
        | HostError::Character(_)
        | HostError::Star => "",
    };
    Err(Wrong::new(
        format!("{} is not a host: {error}", quote(text)),
        advice,
    ))
}

fn authority(text: &str) -> Check {
    match Destination::parse(text, 80) {
        Ok(_) => Ok(()),
        Err(error) => {
            let problem = format!("{} is not host or host:port: {error}", quote(text));
            Err(Wrong::new(
                problem,
                "write a host, or host:port, without scheme and path",
            ))
        }
    }
}

fn endpoint(text: &str) -> Check {
    // Port 0 cannot be written, so it shows that none was.
    match Destination::parse(text, 0) {
        Ok(destination) if destination.port > 0 => Ok(()),
        Ok(_) => {
            let problem = format!("{} names no port", quote(text));
            let advice = format!("write {text}:443 or whichever port it listens on");
            Err(Wrong::new(problem, &advice))
        }
        Err(error) => {
            let advice = match text.contains("://") {
                true => "write host:port, without scheme and path",
                false => "",
            };
            Err(Wrong::new(
                format!("{} is not host:port: {error}", quote(text)),
                advice,
            ))
        }
    }
}

fn socket_addr(text: &str) -> Check {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let problem = format!("{} is not an IP address and a port", quote(text));
    let advice = match text.rsplit_once(':') {
        Some(("", port)) => format!("write 127.0.0.1:{port}, or 0.0.0.0:{port} for every address"),
        Some(("localhost", port)) => format!("write 127.0.0.1:{port}"),
        Some((ip, port)) if ip.parse::<std::net::Ipv6Addr>().is_ok() => {
            format!("write [{ip}]:{port}")
        }
        _ => String::new(),
    };
    Err(Wrong::new(problem, &advice))
}

fn path(text: &str) -> Check {
    if !text.starts_with('/') {
        let problem = format!("the path {} does not begin with \"/\"", quote(text));
        return Err(Wrong::new(
            problem,
            &format!("write \"/{}\"", quote(text).trim_matches('"')),
        ));
    }
    match text
        .chars()
        .find(|c| matches!(c, '?' | '#') || !c.is_ascii_graphic())
    {
        None => Ok(()),
        Some('?' | '#') => Err(Wrong::new(
            format!("the path {} has a query or fragment", quote(text)),
            "write the path alone: the request's query stays as it is",
        )),
        Some(c) => Err(Wrong::new(
            format!("{c:?} cannot stand in the path {}", quote(text)),
            "write it percent-encoded, such as %20",
        )),
    }
}

/// Compiles a pattern within the bounds that hold when serving.
///
/// # Errors
/// In the words of the regex crate, on one line.
pub fn compile(pattern: &str) -> Result<Regex, Wrong> {
    let compiled = RegexBuilder::new(pattern)
        // Less than when serving, where a frame is put around it that anchors it.
        .size_limit(REGEX_SIZE_LIMIT - REGEX_FRAME)
        .build();
    compiled.map_err(|error| {
        let (problem, advice) = match error {
            regex::Error::CompiledTooBig(limit) => (
                format!("the regular expression needs more than {limit} bytes once compiled"),
                "repeat less: {1000} makes a thousand copies",
            ),
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default();
                let reason = last.strip_prefix("error: ").unwrap_or(last);
                (
                    format!("{} is not a regular expression: {reason}", quote(pattern)),
                    "write RE2 syntax: no look-around, no back-references",
                )
            }
        };
        Wrong::new(problem, advice).with(Code::BadRegex)
    })
}

fn visible(text: &str) -> Check {
    match text
        .chars()
        .find(|c| matches!(c, '?' | '#') || !c.is_ascii_graphic())
    {
        Some(c) => Err(Wrong::new(
            format!("{c:?} cannot stand in a path"),
            "write it percent-encoded, such as %20; the request's query stays as it is",
        )),
        None => Ok(()),
    }
}

fn header_name(text: &str) -> Check {
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => {
            let problem = format!("{} is not a header name", quote(text));
            Err(Wrong::new(
                problem,
                "write letters, digits and \"-\", such as x-version",
            ))
        }
    }
}

fn header_matched(text: &str) -> Check {
    let advice = match text.to_ascii_lowercase().as_str() {
        "host" | ":authority" => "write the host under \"host\" of the route",
        ":path" => "write the path under \"path\" of the match",
        ":method" => "write the method under \"method\" of the match",
        lower if lower.starts_with(':') => "leave it out",
        _ => return header_name(text),
    };
    let problem = format!("{} is not an ordinary header", quote(text));
    Err(Wrong::new(problem, advice).with(Code::ForbiddenHeader))
}

fn header_changed(text: &str) -> Check {
    let (why, advice) = match text.to_ascii_lowercase().as_str() {
        "host" | ":authority" => (
            "decides where the request goes and which name is checked",
            "write rewrite: {host: ...}",
        ),
        ":path" => ("is part of the request line", "write rewrite: {path: ...}"),
        lower if lower.starts_with(':') => ("is part of the request line", "leave it out"),
        "content-length" | "transfer-encoding" => (
            "says where the body ends; a rule that changes it lets requests be smuggled",
            "leave it out",
        ),
        "connection" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "upgrade"
        | "http2-settings" => (
            "belongs to one connection and is never passed on (RFC 9110 section 7.6.1)",
            "leave it out",
        ),
        _ => return header_name(text),
    };
    let problem = format!("a rule may not change {}: it {why}", quote(text));
    Err(Wrong::new(problem, advice).with(Code::ForbiddenHeader))
}

/// The value never appears in the message: it may be a secret.
fn header_value(text: &str) -> Check {
    let edge = |c: Option<char>| c.is_some_and(|c| c == ' ' || c == '\t');
    if text
        .bytes()
        .any(|b| !(b' '..=b'~').contains(&b) && b != b'\t')
    {
        let problem = "the value has a line break, control or non-ASCII character".to_owned();
        return Err(Wrong::new(
            problem,
            "write visible ASCII characters and spaces",
        ));
    }
    if edge(text.chars().next()) || edge(text.chars().last()) {
        let problem = "the value begins or ends with a blank".to_owned();
        return Err(Wrong::new(
            problem,
            "remove it: HTTP would not carry it over",
        ));
    }
    Ok(())
}

fn method(text: &str) -> Check {
    if http::Method::from_bytes(text.as_bytes()).is_err() {
        return Err(Wrong::new(format!("{} is not a method", quote(text)), ""));
    }
    let capitals = text.to_ascii_uppercase();
    if capitals != text {
        let problem = format!(
            "{} is not {capitals}: methods are case-sensitive",
            quote(text)
        );
        return Err(Wrong::new(problem, &format!("write {capitals}")));
    }
    Ok(())
}

fn file(text: &str) -> Check {
    if text.contains('\0') {
        let problem = "a file name cannot hold a zero byte".to_owned();
        return Err(Wrong::new(problem, ""));
    }
    if text.starts_with("-----BEGIN") {
        let problem = "this is PEM text, and a file name is expected".to_owned();
        return Err(Wrong::new(
            problem,
            "put it into a file and write the file's name",
        ));
    }
    Ok(())
}

fn san(text: &str) -> Check {
    let (what, advice) = match text {
        _ if text.chars().any(|c| !c.is_ascii_graphic()) => {
            ("has a blank or unusual character", "")
        }
        _ if text.len() > 512 => ("has more than 512 characters", ""),
        _ if text.starts_with("DNS:") || text.starts_with("URI:") || text.starts_with("IP:") => {
            ("begins with its kind", "write the name alone")
        }
        _ => return Ok(()),
    };
    Err(Wrong::new(
        format!("the name {} {what}", quote(text)),
        advice,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(format: Format, texts: &[&str]) {
        for text in texts {
            assert_eq!(format.check(text), Ok(()), "{format:?} {text:?}");
        }
    }

    fn refuses(format: Format, texts: &[&str]) {
        for text in texts {
            let wrong = format.check(text);
            assert!(
                wrong.is_err_and(|w| !w.problem.is_empty()),
                "{format:?} {text:?}"
            );
        }
    }

    #[test]
    fn what_is_well_formed_is_taken() {
        takes(Format::Name, &["bank", "a.b-c_d", "9"]);
        takes(
            Format::HostPattern,
            &["*", "*.a.example", "A.example", "10.0.0.1", "[::1]"],
        );
        takes(Format::Authority, &["a", "a:80", "[::1]:80", "10.0.0.1"]);
        takes(Format::Endpoint, &["a:1", "10.0.0.1:65535", "[::1]:443"]);
        takes(Format::SocketAddr, &["0.0.0.0:0", "[::]:80"]);
        takes(Format::Path, &["/", "/a/b%20c", "/a;b=c,d"]);
        takes(Format::Regex, &["/v[0-9]+", "(?i)a|b"]);
        takes(Format::Substitution, &["", r"/\1/x"]);
        takes(
            Format::HeaderChanged,
            &["x-a", "Authorization", "set-cookie"],
        );
        takes(Format::HeaderMatched, &["content-length", "upgrade"]);
        takes(Format::HeaderValue, &["", "a b", "text/html; q=1"]);
        takes(Format::Method, &["GET", "PROPFIND", "M-SEARCH"]);
        takes(Format::File, &["a.crt", "../x y/ä.pem"]);
        takes(
            Format::San,
            &[
                "a.example",
                "*.a.example",
                "spiffe://td/ns/a/sa/b",
                "10.0.0.1",
                "a@b",
            ],
        );
        takes(Format::Body, &["", "any\nthing"]);
    }

    #[test]
    fn what_is_malformed_is_refused_with_words() {
        refuses(Format::Name, &["", "a b", "a/b", "ä", &"a".repeat(254)]);
        refuses(
            Format::HostPattern,
            &[
                "",
                "a:80",
                "http://a",
                "a/b",
                "*a",
                "a.*",
                "ä.example",
                "a..b",
            ],
        );
        refuses(
            Format::Authority,
            &["", "a:", "a:0", "u@a", "http://a", "a/b"],
        );
        refuses(
            Format::Endpoint,
            &["a", "a:0", "a:65536", "https://a:1", ":1", "::1"],
        );
        refuses(
            Format::SocketAddr,
            &["a:80", ":80", "80", "::1:80", "127.0.0.1"],
        );
        refuses(Format::Path, &["a", "/a?b", "/a#b", "/a b", "/ä", ""]);
        refuses(
            Format::Regex,
            &["(", "a(?=b)", r"(a)\1", "", "((a{100}){100}){100}"],
        );
        refuses(Format::Substitution, &["/a b", "/a?b"]);
        refuses(
            Format::HeaderChanged,
            &["Host", "host", ":path", ":x", "Content-Length", "TE", "a b"],
        );
        refuses(Format::HeaderMatched, &["host", ":method", ":x", ""]);
        refuses(Format::HeaderValue, &["a\r\nb: c", "a\0", " a", "a ", "ä"]);
        refuses(Format::Comparand, &[""]);
        refuses(Format::Method, &["get", "G T", ""]);
        refuses(Format::File, &["", "a\0b", "-----BEGIN CERTIFICATE-----"]);
        refuses(Format::San, &["", "a b", "DNS:a", "ä"]);
        refuses(Format::Body, &[&"x".repeat(MAX_BODY + 1)]);
    }

    #[test]
    fn a_header_value_never_stands_in_the_message() {
        let wrong = Format::HeaderValue.check("Bearer s3cret\n").unwrap_err();
        assert!(!format!("{wrong:?}").contains("s3cret"));
    }

    #[test]
    fn the_patterns_of_the_schema_let_valid_texts_through() {
        for (format, texts) in [
            (Format::Name, &["bank", "a.b-c_d"][..]),
            (Format::Path, &["/", "/a/b%20c"]),
            (Format::Endpoint, &["a:1", "[::1]:443"]),
            (Format::SocketAddr, &["127.0.0.1:80"]),
            (Format::HeaderChanged, &["X-A", "x_b"]),
            (Format::Method, &["GET", "M-SEARCH"]),
        ] {
            let pattern = Regex::new(format.pattern().unwrap()).unwrap();
            assert!(
                texts.iter().all(|text| pattern.is_match(text)),
                "{format:?}"
            );
        }
    }
}
