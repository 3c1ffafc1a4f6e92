//! What a route changes of host and path (ISTIO.md V11).
//!
//! Owns: compiled rewrites, and why one cannot be compiled or applied.
//! Never: touches a header or a request in place; it says what the new value is.
//! Called by: `table` (compiles), `proxy::forward` (applies).
//!
//! Why a path is checked again after it was rewritten: a rule's words and a client's path meet only
//! there, and `http::Uri` would cut a `#` off or take a `?` for the query without a word.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use http::header::InvalidHeaderValue;
use http::uri::{Authority, InvalidUri, PathAndQuery};
use http::{HeaderValue, Uri};
use regex::bytes::{Captures, Regex};

use super::matcher::Matched;
use super::text::{RegexError, Regexes};
use crate::model::{AuthorityError, Destination, Host, PathRewrite, Rewrite};

/// The longest path and query, in bytes, that `http::Uri` can hold.
const MAX_PATH: usize = (u16::MAX - 1) as usize;

/// A host and path rewrite, ready to apply.
#[derive(Debug, Default)]
pub struct CompiledRewrite {
    authority: Option<NewAuthority>,
    path: Option<NewPath>,
}

/// The authority that a request goes on with instead of its own.
#[derive(Debug)]
pub struct NewAuthority {
    /// As written in the configuration: for `:authority`.
    pub authority: Authority,
    /// The same for the `Host` field.
    pub header: HeaderValue,
    /// The host alone, in normal form: what SNI and the name check use (ISTIO.md T6).
    pub host: Host,
    /// The port, where one is written.
    pub port: Option<u16>,
}

#[derive(Debug)]
enum NewPath {
    Replace(Box<str>),
    Regex {
        regex: Arc<Regex>,
        pieces: Box<[Piece]>,
    },
}

/// A part of a substitution.
#[derive(Debug)]
enum Piece {
    Text(Box<[u8]>),
    Group(usize),
}

/// What changes for one request; `None`: stays as the client wrote it.
#[derive(Debug)]
pub struct Applied<'r> {
    /// The new authority.
    pub authority: Option<&'r NewAuthority>,
    /// The new path with the old query.
    pub path: Option<PathAndQuery>,
}

/// Why a rewrite or redirect gives nothing that may be sent.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The result has no leading slash, or a character that a path cannot have.
    #[error("the path after rewriting, {0:?}, is not a path")]
    Path(String),
    /// The same, as the URI parser sees it.
    #[error("the result is not a URI")]
    Uri(#[from] InvalidUri),
    /// The result is longer than a URI can be.
    #[error("the path after rewriting has more than {MAX_PATH} bytes")]
    TooLong,
    /// There is no path to point to: `CONNECT` and `OPTIONS *` have none.
    #[error("the request has no path that a redirect could keep")]
    NoPath,
    /// The authority is not a host, or a host and a port.
    #[error("the authority cannot be read")]
    Authority(#[from] AuthorityError),
    /// The result cannot stand in a header.
    #[error("the result cannot stand in a header")]
    Header(#[from] InvalidHeaderValue),
}

/// Why a rewrite or redirect cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RewriteSpecError {
    /// The new authority is not a host, or a host and a port.
    #[error("{text:?} is not a host, or a host and a port")]
    Authority {
        /// As written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: Box<RewriteError>,
    },
    /// A space, a control character, `?` or `#` in a path.
    #[error("the path {text:?} has the character {character:?}, which cannot stand in a path")]
    PathCharacter {
        /// As written.
        text: String,
        /// The first one that cannot be there.
        character: char,
    },
    /// A path that must be absolute.
    #[error("the path {0:?} must begin with \"/\"")]
    RelativePath(String),
    /// The expression.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// `\` is followed by something other than a digit or another `\`.
    #[error("in the substitution {0:?} a \"\\\" must be followed by a digit or another \"\\\"")]
    Escape(String),
    /// `\n` names a group that the expression does not have.
    #[error("the substitution names group {group}, and the expression has {groups}")]
    Group {
        /// As written.
        group: usize,
        /// How many there are.
        groups: usize,
    },
    /// A status that is no redirect (ISTIO.md X8).
    #[error("{0} is not one of the redirect statuses 301, 302, 303, 307 and 308")]
    Status(u16),
    /// A scheme other than http and https.
    #[error("the scheme {0:?} is neither http nor https")]
    Scheme(String),
}

impl CompiledRewrite {
    pub(super) fn compile(
        spec: &Rewrite,
        regexes: &mut Regexes,
    ) -> Result<CompiledRewrite, RewriteSpecError> {
        let authority = spec.host.as_deref().map(NewAuthority::parse).transpose()?;
        let path = match &spec.path {
            None => None,
            Some(PathRewrite::Replace(text)) => {
                check_path(text)?;
                Some(NewPath::Replace(text.as_str().into()))
            }
            Some(PathRewrite::Regex {
                pattern,
                substitution,
            }) => {
                let regex = regexes.within(pattern)?;
                let pieces = pieces(substitution, regex.captures_len().saturating_sub(1))?;
                for piece in &pieces {
                    if let Piece::Text(text) = piece {
                        check_path(&String::from_utf8_lossy(text))?;
                    }
                }
                Some(NewPath::Regex { regex, pieces })
            }
        };
        Ok(CompiledRewrite { authority, path })
    }

    /// True where it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.authority.is_none() && self.path.is_none()
    }

    /// The authority that requests go on with, where it is not their own.
    pub fn authority(&self) -> Option<&NewAuthority> {
        self.authority.as_ref()
    }
}

impl NewAuthority {
    pub(super) fn parse(text: &str) -> Result<NewAuthority, RewriteSpecError> {
        let read = || {
            let (authority, port) = read_authority(text)?;
            Ok(NewAuthority {
                header: HeaderValue::from_str(authority.as_str())?,
                host: Host::parse(authority.host()).map_err(AuthorityError::Host)?,
                authority,
                port,
            })
        };
        read().map_err(|source| RewriteSpecError::Authority {
            text: text.to_owned(),
            source: Box::new(source),
        })
    }
}

/// Reads an authority strictly, and the port that it names.
fn read_authority(text: &str) -> Result<(Authority, Option<u16>), RewriteError> {
    // No authority can name port 0, so it stands for "none named".
    let port = Destination::parse(text, 0)?.port;
    Ok((text.parse()?, (port != 0).then_some(port)))
}

/// A path as a rule may write it: no query, no fragment, no space, and no backslash, which some
/// take for a slash.
pub(super) fn check_path(text: &str) -> Result<(), RewriteSpecError> {
    let bad = |c: &char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '\\');
    match text.chars().find(bad) {
        Some(character) => Err(RewriteSpecError::PathCharacter {
            text: text.to_owned(),
            character,
        }),
        None => Ok(()),
    }
}

/// Reads `\0` to `\9` and `\\` as RE2 does; `groups` is how many the expression has.
fn pieces(substitution: &str, groups: usize) -> Result<Box<[Piece]>, RewriteSpecError> {
    let mut pieces = Vec::new();
    let mut text = Vec::new();
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            text.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => text.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group > groups {
                    return Err(RewriteSpecError::Group { group, groups });
                }
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text).into()));
                }
                pieces.push(Piece::Group(group));
            }
            _ => return Err(RewriteSpecError::Escape(substitution.to_owned())),
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    Ok(pieces.into())
}

/// What `rewrite` makes of a request for `uri`. Requests without a path (`CONNECT`, `OPTIONS *`)
/// keep what they have in its place.
pub fn apply<'r>(
    rewrite: &'r CompiledRewrite,
    matched: Matched,
    uri: &Uri,
) -> Result<Applied<'r>, RewriteError> {
    let path = match &rewrite.path {
        Some(path) if uri.path().starts_with('/') => Some(new_path(path, matched, uri)?),
        _ => None,
    };
    Ok(Applied {
        authority: rewrite.authority.as_ref(),
        path,
    })
}

fn new_path(path: &NewPath, matched: Matched, uri: &Uri) -> Result<PathAndQuery, RewriteError> {
    let old = uri.path().as_bytes();
    let mut new = BytesMut::with_capacity(old.len() + 32);
    match path {
        NewPath::Replace(text) => {
            let rest = matched.prefix.and_then(|length| old.get(length..));
            new.put_slice(text.as_bytes());
            new.put_slice(rest.unwrap_or_default());
        }
        NewPath::Regex { regex, pieces } => {
            let mut from = 0;
            for found in regex.captures_iter(old) {
                let Some(whole) = found.get(0) else { continue };
                new.put_slice(old.get(from..whole.start()).unwrap_or_default());
                substitute(pieces, &found, &mut new);
                from = whole.end();
                if new.len() > MAX_PATH {
                    return Err(RewriteError::TooLong);
                }
            }
            new.put_slice(old.get(from..).unwrap_or_default());
        }
    }
    finish_path(new, uri.query())
}

fn substitute(pieces: &[Piece], found: &Captures<'_>, new: &mut BytesMut) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => new.put_slice(text),
            Piece::Group(group) => {
                new.put_slice(found.get(*group).map_or(&[], |group| group.as_bytes()));
            }
        }
    }
}

/// Checks the new path and puts the old query behind it.
fn finish_path(mut new: BytesMut, query: Option<&str>) -> Result<PathAndQuery, RewriteError> {
    if new.is_empty() {
        // RFC 9110 section 4.2.3: an empty path is the same as "/".
        new.put_u8(b'/');
    }
    let bad = |byte: &u8| *byte <= b' ' || matches!(byte, b'?' | b'#' | b'\\' | 0x7f);
    if !new.starts_with(b"/") || new.iter().any(bad) {
        return Err(RewriteError::Path(
            String::from_utf8_lossy(&new).into_owned(),
        ));
    }
    if let Some(query) = query {
        new.put_u8(b'?');
        new.put_slice(query.as_bytes());
    }
    if new.len() > MAX_PATH {
        return Err(RewriteError::TooLong);
    }
    Ok(PathAndQuery::from_maybe_shared(new.freeze())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(spec: &Rewrite) -> Result<CompiledRewrite, RewriteSpecError> {
        CompiledRewrite::compile(spec, &mut Regexes::default())
    }

    fn replace(text: &str) -> Rewrite {
        Rewrite {
            host: None,
            path: Some(PathRewrite::Replace(text.into())),
        }
    }

    fn regex(pattern: &str, substitution: &str) -> Rewrite {
        Rewrite {
            host: None,
            path: Some(PathRewrite::Regex {
                pattern: pattern.into(),
                substitution: substitution.into(),
            }),
        }
    }

    fn host(text: &str) -> Rewrite {
        Rewrite {
            host: Some(text.into()),
            path: None,
        }
    }

    /// The new path of a request for `uri` of which `prefix` bytes matched.
    fn path(spec: &Rewrite, prefix: Option<usize>, uri: &str) -> Result<String, RewriteError> {
        let compiled = compile(spec).unwrap();
        let applied = apply(&compiled, Matched { prefix }, &uri.parse().unwrap())?;
        Ok(applied.path.unwrap().to_string())
    }

    #[test]
    fn v11_the_prefix_that_matched_is_replaced_and_the_query_stays() {
        let spec = replace("/v2");
        assert_eq!(path(&spec, Some(3), "/v1/a?b=c?d").unwrap(), "/v2/a?b=c?d");
        // A prefix is plain text, so what follows it need not begin a segment.
        assert_eq!(path(&spec, Some(3), "/v1a").unwrap(), "/v2a");
        assert_eq!(path(&replace("/"), Some(4), "/foo/a").unwrap(), "//a");
    }

    #[test]
    fn v11_the_whole_path_is_replaced_where_no_prefix_matched() {
        assert_eq!(path(&replace("/new"), None, "/old/a?q").unwrap(), "/new?q");
        assert_eq!(
            path(&replace("/new"), None, "http://h/old").unwrap(),
            "/new"
        );
    }

    #[test]
    fn an_empty_path_means_the_root() {
        assert_eq!(path(&replace(""), Some(4), "/api?q=1").unwrap(), "/?q=1");
        assert_eq!(path(&replace(""), Some(4), "/api/a").unwrap(), "/a");
    }

    #[test]
    fn a_rewrite_that_gives_no_path_is_refused() {
        let relative = path(&replace(""), Some(4), "/apix");
        assert!(matches!(relative, Err(RewriteError::Path(_))));
        let long = path(
            &regex("a", &"b".repeat(1000)),
            None,
            &format!("/{}", "a".repeat(100)),
        );
        assert!(matches!(long, Err(RewriteError::TooLong)));
        let query = format!("/a?{}", "q".repeat(60_000));
        let long = path(&replace(&format!("/{}", "b".repeat(6_000))), None, &query);
        assert!(matches!(long, Err(RewriteError::TooLong)));
    }

    #[test]
    fn v11_every_match_of_an_expression_is_substituted() {
        let spec = regex("/v([0-9]+)", r"/api/\1/\0");
        assert_eq!(
            path(&spec, None, "/v1/a/v22?v3").unwrap(),
            "/api/1//v1/a/api/22//v22?v3"
        );
        assert_eq!(path(&spec, None, "/none?/v1").unwrap(), "/none?/v1");
        let spec = regex("^/a(x)?", r"/b\1");
        assert_eq!(path(&spec, None, "/a/a").unwrap(), "/b/a");
    }

    #[test]
    fn a_request_without_a_path_keeps_its_target() {
        let compiled = compile(&replace("/new")).unwrap();
        for uri in ["*", "bank.example:443"] {
            let applied = apply(&compiled, Matched::default(), &uri.parse().unwrap()).unwrap();
            assert!(applied.path.is_none(), "{uri}");
        }
    }

    #[test]
    fn t6_the_new_authority_gives_the_host_without_its_port() {
        let compiled = compile(&host("Bank.Example:8443")).unwrap();
        let uri = "/a".parse().unwrap();
        let applied = apply(&compiled, Matched::default(), &uri).unwrap();
        let new = applied.authority.unwrap();
        assert_eq!(new.host.as_str(), "bank.example");
        assert_eq!(new.port, Some(8443));
        assert_eq!(new.header, "Bank.Example:8443");
        assert!(applied.path.is_none());
        assert_eq!(
            compile(&host("[2001:db8::1]"))
                .unwrap()
                .authority()
                .unwrap()
                .port,
            None
        );
        assert_eq!(
            compile(&host("a:1")).unwrap().authority().unwrap().port,
            Some(1)
        );
    }

    #[test]
    fn a_rewrite_that_could_never_be_sent_is_refused_when_compiled() {
        for text in ["", "a b", "u@a", "a/b", "a:0", "http://a", "::1", "a\r\nb"] {
            let error = compile(&host(text)).unwrap_err();
            assert!(
                matches!(error, RewriteSpecError::Authority { .. }),
                "{text:?}"
            );
        }
        for text in ["/a b", "/a?b", "/a#b", "/a\r\nX: y", "/\u{7f}"] {
            let error = compile(&replace(text)).unwrap_err();
            assert!(
                matches!(error, RewriteSpecError::PathCharacter { .. }),
                "{text:?}"
            );
        }
        assert!(matches!(
            compile(&regex("(", "/")).unwrap_err(),
            RewriteSpecError::Regex(_)
        ));
        assert!(matches!(
            compile(&regex("(a)", r"/\2")).unwrap_err(),
            RewriteSpecError::Group {
                group: 2,
                groups: 1
            }
        ));
        for text in [r"/\", r"/\x"] {
            let error = compile(&regex("a", text)).unwrap_err();
            assert!(matches!(error, RewriteSpecError::Escape(_)), "{text:?}");
        }
    }

    #[test]
    fn a_backslash_is_no_part_of_a_path() {
        for spec in [regex("a", r"\\"), replace(r"/a\b")] {
            let error = compile(&spec).unwrap_err();
            assert!(
                matches!(error, RewriteSpecError::PathCharacter { .. }),
                "{spec:?}"
            );
        }
        let old = path(&replace("/b"), Some(2), r"/a\c");
        assert!(matches!(old, Err(RewriteError::Path(_))), "{old:?}");
    }
}
