//! The tree of a document, which remembers where everything stands.
//!
//! Owns: [`Node`], and which kind YAML gives a plain word.
//! Never: parses text.
//! Called by: yaml (makes it), the rest of this room (reads it).
//!
//! Why a tree of our own: serde keeps no place for a value inside a document, hides duplicate
//! keys, and cannot tell `80` from `"80"`; a message must name line and column, always.

/// Line and column, both from 1, the column in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// From 1.
    pub line: u32,
    /// From 1.
    pub column: u32,
}

impl Mark {
    fn is_below(self, other: Mark, lines: u32) -> bool {
        self.column == other.column && self.line.checked_sub(other.line) == Some(lines)
    }
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins; a value that is not there stands where its key does.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// The three kinds of YAML values.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One word or text.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order in which it was written. No key stands twice.
    Map(Vec<Entry>),
}

/// One line of a mapping.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, always text.
    pub key: Box<str>,
    /// Where the key begins.
    pub key_at: Mark,
    /// What it maps to.
    pub value: Node,
}

/// A text, and whether it was written without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scalar {
    /// Quotes and escapes removed.
    pub text: Box<str>,
    /// Written without quotes and block style, so that YAML's core schema gives it a kind.
    pub plain: bool,
}

/// What YAML 1.2's core schema takes a scalar for (section 10.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScalarKind {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// Anything that looks like a number.
    Number,
    /// Everything else, and all that is quoted.
    Text,
}

impl Scalar {
    /// The kind that YAML gives it.
    pub fn kind(&self) -> ScalarKind {
        match self.plain {
            true => kind_of_plain(&self.text),
            false => ScalarKind::Text,
        }
    }
}

/// The kind of a plain scalar.
pub fn kind_of_plain(text: &str) -> ScalarKind {
    // No other word begins with any other letter.
    let special = |byte: u8| !byte.is_ascii_alphabetic() || b"nNtTfF".contains(&byte);
    if text.bytes().next().is_some_and(|byte| !special(byte)) {
        return ScalarKind::Text;
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" => ScalarKind::Bool(true),
        "false" | "False" | "FALSE" => ScalarKind::Bool(false),
        text if is_number(text) => ScalarKind::Number,
        _ => ScalarKind::Text,
    }
}

fn is_number(text: &str) -> bool {
    let body = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return !octal.is_empty() && octal.bytes().all(|b| matches!(b, b'0'..=b'7'));
    }
    let starts =
        body.starts_with(|c: char| c.is_ascii_digit()) || (body.starts_with('.') && body.len() > 1);
    let allowed = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    starts && body.bytes().all(allowed) && body.parse::<f64>().is_ok()
}

impl Node {
    /// True where nothing was written.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(s) if s.kind() == ScalarKind::Null)
    }

    /// True where it says what `other` says, `lines` lines further down in the same columns.
    pub fn is_below(&self, other: &Node, lines: u32) -> bool {
        if !self.at.is_below(other.at, lines) {
            return false;
        }
        match (&self.value, &other.value) {
            (Value::Scalar(own), Value::Scalar(other)) => own == other,
            (Value::List(own), Value::List(other)) => {
                let mut pairs = own.iter().zip(other);
                own.len() == other.len() && pairs.all(|(own, other)| own.is_below(other, lines))
            }
            (Value::Map(own), Value::Map(other)) => {
                let mut pairs = own.iter().zip(other);
                own.len() == other.len()
                    && pairs.all(|(own, other)| {
                        own.key == other.key
                            && own.key_at.is_below(other.key_at, lines)
                            && own.value.is_below(&other.value, lines)
                    })
            }
            _ => false,
        }
    }

    /// The value of a key, where it is a mapping that has it.
    pub fn key(&self, name: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| *entry.key == *name)?;
        Some(&entry.value)
    }

    /// Keys and values in it, itself included.
    pub fn count(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Node::count).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| 1 + e.value.count()).sum::<usize>(),
        }
    }
}

/// Adds `.key` to a path, or `["a key"]` where the key is no plain word.
pub fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.len() <= 64 && key.chars().all(plain) {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    } else {
        let short: String = key.chars().take(64).collect();
        path.push_str(&format!("[{short:?}]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_word_has_the_kind_that_yaml_1_2_gives_it() {
        for (text, number) in [
            ("1", true),
            ("-1.5", true),
            ("0x1f", true),
            ("0o17", true),
            (".5", true),
            (".inf", true),
            (".", false),
            ("1.2.3", false),
            ("10s", false),
            ("1_000", false),
            ("0x", false),
            ("inf", false),
            ("nan", false),
            ("-", false),
        ] {
            assert_eq!(is_number(text), number, "{text}");
        }
    }
}
