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
                check_path(substitution.replace('\\', "").as_str())?;
                let regex = regexes.within(pattern)?;
                let pieces = pieces(substitution, regex.captures_len().saturating_sub(1))?;
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
pub(super) fn read_authority(text: &str) -> Result<(Authority, Option<u16>), RewriteError> {
    // No authority can name port 0, so it stands for "none named".
    let port = Destination::parse(text, 0)?.port;
    Ok((text.parse()?, (port != 0).then_some(port)))
}

/// A path as a rule may write it: no query, no fragment, nothing that must be escaped.
pub(super) fn check_path(text: &str) -> Result<(), RewriteSpecError> {
    let bad = |c: &char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#');
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
    let bad = |byte: &u8| *byte <= b' ' || *byte == 0x7f || matches!(byte, b'?' | b'#');
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
