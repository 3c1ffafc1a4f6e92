//! One word or text as YAML that every reader takes for the same.
//!
//! Owns: when a word needs quotes, and which.
//! Never: breaks a line.
//! Called by: write.
//!
//! Why so many words are quoted: kubectl and Helm read YAML 1.1, in which `yes`, `on`, `12:30:00`
//! and `0777` are no text, and 1.2 has others (`0o7`). A quoted word is text for all of them.

use serde_json::Number;

/// Where a word will stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a line of its own, or after a key.
    Block,
    /// In braces or brackets.
    Flow,
    /// In braces or brackets of JSON.
    Json,
}

/// Words of YAML 1.1 and 1.2 that are no text, in lower case.
const TAKEN: &[&str] = &[
    "null", "~", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf",
];

/// Letters of numbers and points in time: a word that begins as a number is text for sure if it
/// has another one.
const OF_NUMBERS: &str = "abcdefxotzn_";

/// `text` at `place`, quoted where a reader could take it for something else.
pub(super) fn text(text: &str, place: Place) -> String {
    if place != Place::Json {
        if is_plain(text, place) {
            return text.to_owned();
        }
        let printable = |c: char| (' '..='~').contains(&c);
        if text.contains(['"', '\\']) && text.chars().all(printable) {
            return format!("'{}'", text.replace('\'', "''"));
        }
    }
    double_quoted(text)
}

/// A number that YAML 1.1 takes for the same: its exponents need a point and a sign.
pub(super) fn number(number: &Number) -> String {
    let text = number.to_string();
    let Some((digits, exponent)) = text.split_once(['e', 'E']) else {
        return text;
    };
    let point = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.starts_with(['-', '+']) {
        ""
    } else {
        "+"
    };
    format!("{digits}{point}e{sign}{exponent}")
}

fn is_plain(text: &str, place: Place) -> bool {
    let mut chars = text.chars();
    let (Some(first), Some(last)) = (chars.next(), text.chars().last()) else {
        return false;
    };
    let second = chars.next();
    let begins = match first {
        '-' => second.is_some_and(|c| c == '-' || c.is_ascii_alphabetic()),
        '.' => second.is_some_and(|c| matches!(c, '.' | '/')),
        _ => first.is_ascii_alphanumeric() || matches!(first, '/' | '_' | '$' | '('),
    };
    let inside = |c: char| match place {
        Place::Block => c.is_ascii_alphanumeric() || " -_./:@%+=()$^~*&!<>?;,[]{}|".contains(c),
        Place::Flow | Place::Json => c.is_ascii_alphanumeric() || " -_./@%+=()$".contains(c),
    };
    begins
        && !matches!(last, ' ' | ':')
        && text.chars().all(inside)
        && !text.contains(": ")
        && !matches!(text, "---" | "...")
        && !text.starts_with("--- ")
        && !text.starts_with("... ")
        && !is_taken(text)
}

/// True for what a reader may take for a number, a truth, nothing or a point in time.
fn is_taken(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    if TAKEN.contains(&lower.as_str()) {
        return true;
    }
    let starts = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+');
    lower.starts_with(starts)
        && !lower
            .chars()
            .any(|c| c.is_ascii_alphabetic() && !OF_NUMBERS.contains(c))
}

/// In double quotes, as JSON and YAML both read them.
fn double_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if unprintable(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// What YAML does not allow in a text, takes for a line break, or nobody sees.
fn unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_of_yaml_1_1_or_1_2_takes_for_something_else_is_quoted() {
        for word in [
            "",
            "~",
            "null",
            "NULL",
            "true",
            "True",
            "yes",
            "No",
            "on",
            "OFF",
            "y",
            "N",
            "1",
            "-1",
            "+1",
            "1e3",
            "1E5",
            "0x1",
            "0o7",
            "0b1",
            "0777",
            "1_000",
            "12:30:00",
            "2001-01-01",
            "2001-01-01T00:00:00Z",
            ".5",
            ".inf",
            "-.inf",
            ".nan",
            "1.",
            "a: b",
            "a:",
            "a #b",
            "#",
            "- a",
            "-",
            "---",
            " a",
            "a ",
            "[a]",
            "{a}",
            "*a",
            "&a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a`",
            "? a",
            "=",
            "<<",
            "'a",
            "\"a\"",
            "é",
            "a\tb",
            "a\nb",
            "\u{2028}",
            "\u{85}",
        ] {
            let written = text(word, Place::Block);
            assert!(
                written.starts_with(['"', '\'']),
                "{word:?} is written {written}"
            );
        }
    }

    #[test]
    fn what_is_text_for_every_reader_is_not_quoted() {
        for word in [
            "sortie",
            "100m",
            "128Mi",
            "1Gi",
            "10s",
            "sortie:0.1.0",
            "--capture=[::]:15001",
            "/etc/sortie/pod",
            "metadata.labels",
            "sidecar.istio.io/status",
            "NET_ADMIN",
            "$(POD_NAMESPACE).svc",
            "run",
            "-p",
            "a b",
        ] {
            assert_eq!(text(word, Place::Block), word);
        }
    }

    #[test]
    fn in_braces_more_is_quoted_and_in_json_all_is() {
        assert_eq!(text("a,b", Place::Block), "a,b");
        assert_eq!(text("a,b", Place::Flow), "\"a,b\"");
        assert_eq!(text("[::]:1", Place::Flow), "\"[::]:1\"");
        assert_eq!(text("a", Place::Flow), "a");
        assert_eq!(text("a", Place::Json), "\"a\"");
    }

    #[test]
    fn json_in_a_text_stands_in_single_quotes_and_stays_readable() {
        assert_eq!(text(r#"{"a":"it's"}"#, Place::Block), r#"'{"a":"it''s"}'"#);
        assert_eq!(
            text("{\"a\":\"é\"}", Place::Block),
            "\"{\\\"a\\\":\\\"é\\\"}\""
        );
    }

    #[test]
    fn a_number_has_the_form_that_yaml_1_1_knows() {
        let written = |n: f64| number(&Number::from_f64(n).unwrap());
        assert_eq!(written(1e30), "1.0e+30");
        assert_eq!(written(1.5e-9), "1.5e-9");
        assert_eq!(written(0.5), "0.5");
        assert_eq!(number(&80.into()), "80");
    }
}
