//! A request's path in the form in which rules and servers compare it (ISTIO.md G12: BASE).
//!
//! Owns: what is changed: escapes of letters, digits, `-`, `.`, `_` and `~` are undone, a backslash
//! is a slash, what may not stand in a path is escaped, dot segments are followed (RFC 3986 sections
//! 5.2.4 and 6.2.2).
//! Never: touches the query, `%2F`, or slashes that follow each other; allocates for a path that is
//! in that form already.
//! Called by: `proxy::entering`.
//!
//! Why `..` at the root stays there and is not refused: so it does in Envoy and in RFC 3986.
//! Why an escape that is none is refused though Envoy lets it be: in `%%32e` it would become one
//! behind the back of whoever looked for dots.

use std::fmt::Write;

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// A percent sign without two hexadecimal digits.
    #[error("the path has a % that begins no escape")]
    Escape,
    /// `%00`, which ends the path for some servers.
    #[error("the path has a %00")]
    Null,
}

/// The normal form of `path`, which is without its query; `None` where it has that form already, and
/// for what is no path (`*`).
///
/// # Errors
/// See [`PathError`].
pub(super) fn normal(path: &str) -> Result<Option<String>, PathError> {
    let Some(inner) = path.strip_prefix('/') else {
        return Ok(None);
    };
    if is_normal(inner.as_bytes())? {
        return Ok(None);
    }
    let mut out = String::with_capacity(path.len() + 16);
    let mut segments = inner
        .as_bytes()
        .split(|byte| is_separator(*byte))
        .peekable();
    while let Some(segment) = segments.next() {
        let before = out.len();
        out.push('/');
        write_segment(segment, &mut out);
        let last = segments.peek().is_none();
        match out.get(before..) {
            Some("/.") => out.truncate(before),
            Some("/..") => {
                out.truncate(before);
                let parent = out.rfind('/').unwrap_or_default();
                out.truncate(parent);
            }
            _ => continue,
        }
        if last {
            out.push('/');
        }
    }
    Ok(Some(out))
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

/// True where nothing has to be changed.
fn is_normal(path: &[u8]) -> Result<bool, PathError> {
    let mut normal = !path
        .split(|byte| *byte == b'/')
        .any(|segment| matches!(segment, b"." | b".."));
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let (escaped, after) = unescape(after).ok_or(PathError::Escape)?;
            if escaped == 0 {
                return Err(PathError::Null);
            }
            normal &= !is_unreserved(escaped);
            rest = after;
        } else {
            normal &= *byte != b'\\' && is_allowed(*byte);
        }
    }
    Ok(normal)
}

/// Writes what stands between two slashes. Its escapes are known to be whole.
fn write_segment(segment: &[u8], out: &mut String) {
    let mut rest = segment;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (*byte, unescape(after)) {
            (b'%', Some((escaped, after))) if is_unreserved(escaped) => {
                out.push(char::from(escaped));
                rest = after;
            }
            // As it was written: a server may tell `%af` from `%AF`.
            (b'%', _) => out.push('%'),
            (byte, _) if is_allowed(byte) => out.push(char::from(byte)),
            // Writing to a string cannot fail.
            (byte, _) => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn unescape(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (two, rest) = digits.split_at_checked(2)?;
    let [high, low] = two else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(*high)? * 16 + digit(*low)?;
    Some((u8::try_from(value).ok()?, rest))
}

/// RFC 3986 section 2.3: an escape of these means what they mean.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path unescaped, as Envoy has it.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_graphic()
        && !matches!(
            byte,
            b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(path: &str) -> String {
        normal(path)
            .unwrap()
            .unwrap_or_else(|| panic!("{path} is unchanged"))
    }

    #[test]
    fn g12_a_path_in_its_normal_form_is_left_alone() {
        for path in [
            "/",
            "/xyz",
            "/x/y/z/",
            "/A/B/C",
            "//a//b",
            "/a%2Fb",
            "/a%2fb/%c0%af",
            "/%5c%25",
            "/a;b=c/.../..d/e.",
            "/a@b:c,d+e!$&'()*=~_-[]",
            "*",
        ] {
            assert_eq!(normal(path), Ok(None), "{path}");
        }
    }

    #[test]
    fn g12_a_path_is_changed_as_envoy_changes_it() {
        for (path, expected) in [
            ("/a/b/../c", "/a/c"),
            ("/a/b/./c", "/a/b/c"),
            ("/a/..\\c", "/c"),
            ("/a\\b", "/a/b"),
            ("/a/b/%2E%2E/c", "/a/c"),
            ("/a/b/%2E./c", "/a/c"),
            ("/a/b/%2e/c", "/a/b/c"),
            ("/./a/b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/.", "/"),
            ("/a//../b", "/a/b"),
            ("/%61dmin/%7Eme", "/admin/~me"),
            ("/a%2F%2e%2e", "/a%2F.."),
            ("/a{b}|\"^", "/a%7Bb%7D%7C%22%5E"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(changed(path), expected, "{path}");
        }
    }

    #[test]
    fn g12_dots_do_not_lead_out_of_the_root() {
        for (path, expected) in [
            ("/..", "/"),
            ("/../a/b", "/a/b"),
            ("/a/b/../../../../c", "/c"),
            ("/%2e%2E\\..\\etc", "/etc"),
        ] {
            assert_eq!(changed(path), expected, "{path}");
        }
    }

    #[test]
    fn g12_an_escape_that_is_none_is_refused() {
        for path in ["/a%", "/a%2", "/%zz", "/%%32%65", "/%2g/..", "/a/%+1"] {
            assert_eq!(normal(path), Err(PathError::Escape), "{path}");
        }
    }

    #[test]
    fn g12_a_null_is_refused() {
        for path in ["/xyz/.%00../abc", "/xyz/%00.%00./abc", "/%00"] {
            assert_eq!(normal(path), Err(PathError::Null), "{path}");
        }
    }

    proptest! {
        #[test]
        fn g12_what_is_normal_stays_so_and_has_no_dots(
            path in "/([a-c./\\\\ {]|%2[eEfF]|%61|%25){0,24}",
        ) {
            let once = normal(&path).unwrap().unwrap_or(path);
            prop_assert_eq!(normal(&once), Ok(None));
            prop_assert!(once.starts_with('/'));
            prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
        }
    }
}
