//! Where a redirect points (ISTIO.md V15).
//!
//! Owns: compiled redirects.
//! Never: writes an answer (that is `proxy::forward`).
//! Called by: `table` (compiles), `proxy::forward` (asks for the location).
//!
//! Why the location is always absolute: a relative one that begins with `//` names another host.

use std::fmt::Write;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, StatusCode, Uri};

use super::matcher::Matched;
use super::rewrite::{NewAuthority, RewriteError, RewriteSpecError, check_path};
use crate::model::{Destination, Redirect, RedirectPath, RedirectPort};

/// A redirect, ready to answer with (ISTIO.md V15).
#[derive(Debug)]
pub struct CompiledRedirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    scheme: Option<Scheme>,
    authority: Option<(Authority, Option<u16>)>,
    path: Option<NewPath>,
    port: Option<RedirectPort>,
}

#[derive(Debug)]
enum NewPath {
    /// Perhaps with a query.
    Whole(Box<str>),
    Prefix(Box<str>),
}

/// The two schemes that a proxy for HTTP can be asked for or point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Default port 80.
    Http,
    /// Default port 443.
    Https,
}

impl Scheme {
    /// Reads `http` or `https` in any case (RFC 3986 section 3.1).
    pub fn parse(text: &str) -> Option<Scheme> {
        if text.eq_ignore_ascii_case("http") {
            Some(Scheme::Http)
        } else if text.eq_ignore_ascii_case("https") {
            Some(Scheme::Https)
        } else {
            None
        }
    }

    /// As it is written in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// The port that it means where none is named (RFC 9110 sections 4.2.1 and 4.2.2).
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl CompiledRedirect {
    pub(super) fn compile(spec: &Redirect) -> Result<CompiledRedirect, RewriteSpecError> {
        let status = match (spec.status, StatusCode::from_u16(spec.status)) {
            (301 | 302 | 303 | 307 | 308, Ok(status)) => status,
            _ => return Err(RewriteSpecError::Status(spec.status)),
        };
        let scheme = match &spec.scheme {
            None => None,
            Some(text) => match Scheme::parse(text) {
                Some(scheme) => Some(scheme),
                None => return Err(RewriteSpecError::Scheme(text.clone())),
            },
        };
        let authority = spec.authority.as_deref().map(NewAuthority::parse);
        let path = match &spec.path {
            None => None,
            // A query may be written here; it then takes the place of the request's.
            Some(RedirectPath::Whole(path)) => {
                check_path(&path.replacen('?', "", 1))?;
                if !path.starts_with('/') {
                    return Err(RewriteSpecError::RelativePath(path.clone()));
                }
                Some(NewPath::Whole(path.as_str().into()))
            }
            Some(RedirectPath::Prefix(path)) => {
                check_path(path)?;
                Some(NewPath::Prefix(path.as_str().into()))
            }
        };
        Ok(CompiledRedirect {
            status,
            scheme,
            authority: authority.transpose()?.map(|new| (new.authority, new.port)),
            path,
            port: spec.port,
        })
    }

    /// The port to write; `None`: the default of the new scheme.
    ///
    /// `http://a:80` means `https://a` and not `https://a:80`, so where the scheme changes the old
    /// one's default is left out as well, unless the rule names the port or the authority.
    fn port(&self, old: Scheme, new: Scheme, asked: u16) -> Option<u16> {
        let port = match (self.port, &self.authority) {
            (Some(RedirectPort::OfScheme), _) => None,
            (Some(RedirectPort::Number(port)), _) => Some(port),
            (Some(RedirectPort::OfRequest), _) => Some(asked),
            (None, Some((_, port))) => *port,
            (None, None) => Some(asked).filter(|port| new == old || *port != old.default_port()),
        };
        port.filter(|port| *port != new.default_port())
    }
}

/// The `Location` of a redirect of a request for `destination` and `uri` that came by `scheme`.
///
/// Always an absolute URI. The query stays unless the rule's path brings one. A default port is
/// left out.
pub fn location(
    redirect: &CompiledRedirect,
    scheme: Scheme,
    destination: &Destination<'_>,
    matched: Matched,
    uri: &Uri,
) -> Result<HeaderValue, RewriteError> {
    let new_scheme = redirect.scheme.unwrap_or(scheme);
    let mut text = String::with_capacity(64);
    text.push_str(new_scheme.as_str());
    text.push_str("://");
    match &redirect.authority {
        Some((authority, _)) => text.push_str(authority.host()),
        None if destination.host.contains(':') => {
            text.push('[');
            text.push_str(&destination.host);
            text.push(']');
        }
        None => text.push_str(&destination.host),
    }
    if let Some(port) = redirect.port(scheme, new_scheme, destination.port) {
        // Writing to a string cannot fail.
        let _ = write!(text, ":{port}");
    }
    if !push_path(redirect, matched, uri, &mut text)? {
        return Err(RewriteError::NoPath);
    }
    // Parsed once more, so that nothing but a URI can leave here.
    let bytes = Bytes::from(text);
    Uri::from_maybe_shared(bytes.clone())?;
    Ok(HeaderValue::from_maybe_shared(bytes)?)
}

/// Adds the new path and query; false where the request has no path that could be kept.
fn push_path(
    redirect: &CompiledRedirect,
    matched: Matched,
    uri: &Uri,
    text: &mut String,
) -> Result<bool, RewriteError> {
    let old = uri.path();
    let begin = text.len();
    match &redirect.path {
        None => text.push_str(old),
        Some(NewPath::Whole(path)) => text.push_str(path),
        Some(NewPath::Prefix(_)) if !old.starts_with('/') => return Ok(false),
        Some(NewPath::Prefix(new)) => {
            text.push_str(new);
            let rest = matched.prefix.and_then(|length| old.get(length..));
            text.push_str(rest.unwrap_or_default());
            if text.len() == begin {
                // RFC 9110 section 4.2.3: an empty path is the same as "/".
                text.push('/');
            }
        }
    }
    let path = text.get(begin..).unwrap_or_default();
    if !path.starts_with('/') {
        return match redirect.path {
            // What follows the prefix would become a part of the host.
            Some(NewPath::Prefix(_)) => Err(RewriteError::Path(path.to_owned())),
            _ => Ok(false),
        };
    }
    let has_query = path.contains('?');
    if let Some(query) = uri.query().filter(|_| !has_query) {
        text.push('?');
        text.push_str(query);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redirect(scheme: Option<&str>, authority: Option<&str>, path: Option<&str>) -> Redirect {
        Redirect {
            status: 301,
            scheme: scheme.map(Into::into),
            authority: authority.map(Into::into),
            path: path.map(|path| RedirectPath::Whole(path.into())),
            port: None,
        }
    }

    fn to(spec: &Redirect, authority: &str, uri: &str) -> Result<String, RewriteError> {
        let compiled = CompiledRedirect::compile(spec).unwrap();
        let destination = Destination::parse(authority, 80).unwrap();
        let uri = uri.parse().unwrap();
        let matched = Matched { prefix: Some(4) };
        let got = location(&compiled, Scheme::Http, &destination, matched, &uri)?;
        Ok(got.to_str().unwrap().to_owned())
    }

    #[test]
    fn v15_a_prefix_takes_the_place_of_the_prefix_that_matched() {
        let prefix = |path: &str| Redirect {
            path: Some(RedirectPath::Prefix(path.into())),
            ..redirect(None, Some("b"), None)
        };
        assert_eq!(
            to(&prefix("/new"), "a", "/old/x?q=1").unwrap(),
            "http://b/new/x?q=1"
        );
        assert_eq!(to(&prefix(""), "a", "/old/x").unwrap(), "http://b/x");
        assert_eq!(to(&prefix(""), "a", "/old").unwrap(), "http://b/");
        let compiled = CompiledRedirect::compile(&prefix("/new")).unwrap();
        let destination = Destination::parse("a", 80).unwrap();
        let uri = "/old/x?q".parse().unwrap();
        let whole = Matched { prefix: None };
        let got = location(&compiled, Scheme::Http, &destination, whole, &uri).unwrap();
        assert_eq!(got, "http://b/new?q");
    }

    #[test]
    fn v15_a_prefix_never_makes_what_follows_it_a_part_of_the_host() {
        let cut = Redirect {
            path: Some(RedirectPath::Prefix(String::new())),
            ..redirect(None, Some("b"), None)
        };
        let got = to(&cut, "a", "/old.evil.example/");
        assert!(matches!(got, Err(RewriteError::Path(_))), "{got:?}");
        assert!(matches!(to(&cut, "a", "*"), Err(RewriteError::NoPath)));
        let query = Redirect {
            path: Some(RedirectPath::Prefix("/a?b".into())),
            ..cut
        };
        assert!(CompiledRedirect::compile(&query).is_err());
    }

    #[test]
    fn v15_the_port_is_a_number_or_that_of_the_scheme_or_of_the_request() {
        let port = |scheme, authority, port| Redirect {
            port: Some(port),
            ..redirect(scheme, authority, None)
        };
        for (spec, asked, location) in [
            (
                port(None, None, RedirectPort::Number(8443)),
                "a:81",
                "http://a:8443/",
            ),
            (
                port(Some("https"), Some("b:1"), RedirectPort::Number(443)),
                "a",
                "https://b/",
            ),
            (
                port(Some("https"), None, RedirectPort::Number(80)),
                "a",
                "https://a:80/",
            ),
            (
                port(None, None, RedirectPort::Number(80)),
                "a:81",
                "http://a/",
            ),
            (
                port(Some("https"), None, RedirectPort::OfScheme),
                "a:8080",
                "https://a/",
            ),
            (
                port(None, Some("b:1"), RedirectPort::OfScheme),
                "a",
                "http://b/",
            ),
            (
                port(None, Some("b"), RedirectPort::OfRequest),
                "a:8080",
                "http://b:8080/",
            ),
            (
                port(None, Some("b:1"), RedirectPort::OfRequest),
                "a:80",
                "http://b/",
            ),
            (
                port(None, None, RedirectPort::OfRequest),
                "[::1]:8080",
                "http://[::1]:8080/",
            ),
        ] {
            assert_eq!(to(&spec, asked, "/").unwrap(), location, "{spec:?}");
        }
    }

    #[test]
    fn v15_what_is_not_named_stays_as_the_request_has_it() {
        let https = redirect(Some("https"), None, None);
        assert_eq!(
            to(&https, "a.example", "/x?y=1").unwrap(),
            "https://a.example/x?y=1"
        );
        let host = redirect(None, Some("b.example:8080"), None);
        assert_eq!(
            to(&host, "a.example", "/x?y").unwrap(),
            "http://b.example:8080/x?y"
        );
        assert_eq!(
            to(&host, "a", "http://a/x").unwrap(),
            "http://b.example:8080/x"
        );
    }

    #[test]
    fn v15_a_path_takes_the_place_of_the_whole_path_and_the_query_stays() {
        let path = redirect(None, None, Some("/new"));
        assert_eq!(to(&path, "a", "/old/deep?q=1").unwrap(), "http://a/new?q=1");
        let path = redirect(None, None, Some("/new?own=1"));
        assert_eq!(to(&path, "a", "/old?q=1").unwrap(), "http://a/new?own=1");
    }

    #[test]
    fn v15_default_ports_are_left_out() {
        let same = redirect(None, None, Some("/"));
        assert_eq!(to(&same, "a:80", "/").unwrap(), "http://a/");
        let https = redirect(Some("https"), None, None);
        assert_eq!(to(&https, "a:80", "/").unwrap(), "https://a/");
        assert_eq!(to(&https, "[::1]:443", "/").unwrap(), "https://[::1]/");
        let both = redirect(Some("https"), Some("b:443"), None);
        assert_eq!(to(&both, "a", "/").unwrap(), "https://b/");
    }

    #[test]
    fn v15_other_ports_are_kept() {
        let https = redirect(Some("https"), None, None);
        assert_eq!(to(&https, "a:8080", "/").unwrap(), "https://a:8080/");
        let written = redirect(Some("https"), Some("b:80"), None);
        assert_eq!(to(&written, "a", "/").unwrap(), "https://b:80/");
        let same = redirect(None, Some("b:443"), None);
        assert_eq!(to(&same, "a", "/").unwrap(), "http://b:443/");
    }

    #[test]
    fn a_location_never_names_another_host_by_its_path() {
        let https = redirect(Some("https"), None, None);
        assert_eq!(
            to(&https, "a", "//evil.example/x").unwrap(),
            "https://a//evil.example/x"
        );
    }

    #[test]
    fn a_redirect_of_a_request_without_a_path_is_refused() {
        let https = redirect(Some("https"), None, None);
        assert!(matches!(to(&https, "a", "*"), Err(RewriteError::NoPath)));
        assert!(matches!(
            to(&https, "a", "b:443"),
            Err(RewriteError::NoPath)
        ));
    }

    #[test]
    fn x8_a_redirect_that_is_none_is_refused_when_compiled() {
        for status in [200, 300, 304, 305, 400, 99, 3010] {
            let spec = Redirect {
                status,
                ..redirect(None, Some("b"), None)
            };
            let error = CompiledRedirect::compile(&spec).unwrap_err();
            assert!(matches!(error, RewriteSpecError::Status(_)), "{status}");
        }
        let bad = [
            redirect(Some("ftp"), None, None),
            redirect(None, Some("a b"), None),
            redirect(None, None, Some("relative")),
            redirect(None, None, Some("/a#b")),
            redirect(None, None, Some("/a b")),
            redirect(None, None, Some("/a\r\nX: y")),
        ];
        for spec in bad {
            assert!(CompiledRedirect::compile(&spec).is_err(), "{spec:?}");
        }
    }
}
