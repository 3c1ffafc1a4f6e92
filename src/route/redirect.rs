//! Where a redirect points (ISTIO.md V15).
//!
//! Owns: compiled redirects.
//! Never: writes an answer (that is `proxy::forward`).
//! Called by: `table` (compiles), `proxy::forward` (asks for the location).
//!
//! Why the location is always absolute: a relative one that begins with `//` names another host.

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderValue, StatusCode, Uri};

use super::rewrite::{NewAuthority, RewriteError, RewriteSpecError, check_path, read_authority};
use crate::model::{Redirect, RedirectPath};

/// A redirect, ready to answer with (ISTIO.md V15).
#[derive(Debug)]
pub struct CompiledRedirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<Box<str>>,
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
        if let Some(RedirectPath::Whole(path) | RedirectPath::Prefix(path)) = &spec.path {
            // A query may be written here; it then takes the place of the request's.
            check_path(&path.replacen('?', "", 1))?;
            if !path.starts_with('/') {
                return Err(RewriteSpecError::RelativePath(path.clone()));
            }
        }
        Ok(CompiledRedirect {
            status,
            scheme,
            authority: authority.transpose()?.map(|new| new.authority),
            path: match &spec.path {
                Some(RedirectPath::Whole(path) | RedirectPath::Prefix(path)) => {
                    Some(path.as_str().into())
                }
                None => None,
            },
        })
    }
}

/// The `Location` of a redirect of a request for `authority` and `uri` that came by `scheme`.
///
/// Always an absolute URI. The query stays unless the rule's path brings one. A default port is
/// left out: that of the new scheme, and that of the old one where the scheme changes, because
/// `http://a:80` means `https://a` and not `https://a:80`.
pub fn location(
    redirect: &CompiledRedirect,
    scheme: Scheme,
    authority: &str,
    uri: &Uri,
) -> Result<HeaderValue, RewriteError> {
    let new_scheme = redirect.scheme.unwrap_or(scheme);
    let kept = redirect.authority.is_none();
    let authority = redirect
        .authority
        .as_ref()
        .map_or(authority, Authority::as_str);
    let (parsed, port) = read_authority(authority)?;
    let default = |port: u16| {
        port == new_scheme.default_port()
            || (kept && new_scheme != scheme && port == scheme.default_port())
    };
    let mut text = String::with_capacity(64);
    text.push_str(new_scheme.as_str());
    text.push_str("://");
    match port {
        Some(port) if default(port) => text.push_str(parsed.host()),
        _ => text.push_str(parsed.as_str()),
    }
    let path = redirect.path.as_deref().unwrap_or_else(|| uri.path());
    if !path.starts_with('/') {
        return Err(RewriteError::NoPath);
    }
    text.push_str(path);
    match uri.query() {
        Some(query) if !path.contains('?') => {
            text.push('?');
            text.push_str(query);
        }
        _ => {}
    }
    // Parsed once more, so that nothing but a URI can leave here.
    let bytes = Bytes::from(text);
    Uri::from_maybe_shared(bytes.clone())?;
    Ok(HeaderValue::from_maybe_shared(bytes)?)
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
        let got = location(&compiled, Scheme::Http, authority, &uri.parse().unwrap())?;
        Ok(got.to_str().unwrap().to_owned())
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
    fn a_redirect_of_a_request_without_path_or_host_is_refused() {
        let https = redirect(Some("https"), None, None);
        assert!(matches!(to(&https, "a", "*"), Err(RewriteError::NoPath)));
        assert!(matches!(
            to(&https, "a", "b:443"),
            Err(RewriteError::NoPath)
        ));
        assert!(matches!(
            to(&https, "u@a", "/"),
            Err(RewriteError::Authority(_))
        ));
        assert!(matches!(
            to(&https, "", "/"),
            Err(RewriteError::Authority(_))
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
