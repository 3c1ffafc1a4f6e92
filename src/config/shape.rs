//! What the native format may hold, as tables: the one description of it.
//!
//! Owns: [`Table`], [`Field`], [`Shape`].
//! Never: reads a document.
//! Called by: the parts (state their tables), validate (checks documents against them),
//! schema (prints them).
//!
//! Why tables: the parser, the schema and "did you mean" then cannot disagree.

use std::time::Duration;

use super::diagnostic::Code;
use super::format::Format;
use super::units;

/// A mapping with known keys.
pub struct Table {
    /// Its name in the schema's `$defs`.
    pub name: &'static str,
    /// What it is.
    pub doc: &'static str,
    /// Its keys, in the order in which they are documented.
    pub fields: &'static [Field],
    /// Of each group exactly one key must be there.
    pub one_of: &'static [&'static [&'static str]],
    /// At least one of these keys must be there; empty: none need be.
    pub any_of: &'static [&'static str],
}

/// One key of a [`Table`].
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// What it is, in a sentence or two.
    pub doc: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// Must be there.
    pub required: bool,
    /// What silence means, as it would be written; `None`: nothing, or it depends.
    pub default: Option<&'static str>,
    /// What is said where a required key is missing; `None`: the usual words.
    pub missing: Option<&'static Missing>,
}

/// Words of its own for a key that is missing.
pub struct Missing {
    /// What kind of mistake that is.
    pub code: Code,
    /// What is wrong.
    pub problem: &'static str,
    /// What to write.
    pub advice: &'static str,
}

/// What a value may be.
pub enum Shape {
    /// Text.
    Text(Format),
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Whole {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A number and `ms`, `s`, `m` or `h`.
    Duration {
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
    /// A number of bytes, or a number and `KiB` or `MiB`.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// 0 to 100, with or without `%`.
    Percent,
    /// One of these words.
    Choice(&'static [Choice]),
    /// A mapping with known keys.
    Object(&'static Table),
    /// A list with at least one item.
    List(&'static Shape),
    /// One, or a list with at least one item.
    Many(&'static Shape),
    /// A mapping with free keys, at least one.
    Map(Format, &'static Shape),
    /// The first one whose kind of value is the one that came.
    Either(&'static [Shape]),
}

/// One word of a [`Shape::Choice`].
pub struct Choice {
    /// As it is written.
    pub word: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// Durations: a millisecond to a day.
pub const DURATION: Shape = Shape::Duration {
    min: Duration::from_millis(1),
    max: Duration::from_secs(24 * 3600),
};
/// A TCP port.
pub const PORT: Shape = Shape::Whole {
    min: 1,
    max: 65_535,
};

impl Field {
    /// A key that must be there.
    pub const fn required(name: &'static str, doc: &'static str, shape: Shape) -> Field {
        Field {
            name,
            doc,
            shape,
            required: true,
            default: None,
            missing: None,
        }
    }

    /// A key that may be left out.
    pub const fn optional(name: &'static str, doc: &'static str, shape: Shape) -> Field {
        Field {
            name,
            doc,
            shape,
            required: false,
            default: None,
            missing: None,
        }
    }

    /// What is said where it is missing.
    pub const fn missing(mut self, words: &'static Missing) -> Field {
        self.missing = Some(words);
        self
    }

    /// What silence means.
    pub const fn default(mut self, text: &'static str) -> Field {
        self.default = Some(text);
        self
    }
}

impl Table {
    /// A mapping whose keys have no ties to each other.
    pub const fn new(name: &'static str, doc: &'static str, fields: &'static [Field]) -> Table {
        Table {
            name,
            doc,
            fields,
            one_of: &[],
            any_of: &[],
        }
    }

    /// Of each group exactly one key must be there.
    pub const fn one_of(mut self, groups: &'static [&'static [&'static str]]) -> Table {
        self.one_of = groups;
        self
    }

    /// At least one of these keys must be there.
    pub const fn any_of(mut self, keys: &'static [&'static str]) -> Table {
        self.any_of = keys;
        self
    }

    /// The key of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

impl Shape {
    /// What may be written, for messages: "a number from 1 to 65535".
    pub fn expected(&self) -> String {
        match self {
            Shape::Text(format) => format.expected().to_owned(),
            Shape::Bool => "true or false".to_owned(),
            Shape::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Shape::Duration { min, max } => format!(
                "a duration from {} to {}, such as 250ms, 1.5s, 10s, 2m or 1h",
                units::show_duration(*min),
                units::show_duration(*max)
            ),
            Shape::Size { min, max } => format!(
                "a size from {} to {}, such as 64KiB",
                units::show_size(*min),
                units::show_size(*max)
            ),
            Shape::Percent => "a percentage from 0 to 100, such as 20 or 20%".to_owned(),
            Shape::Choice([only]) => only.word.to_owned(),
            Shape::Choice(choices) => {
                let words: Vec<_> = choices.iter().map(|choice| choice.word).collect();
                format!("one of {}", words.join(", "))
            }
            Shape::Object(table) => {
                let keys: Vec<_> = table.fields.iter().map(|field| field.name).collect();
                format!("a mapping with the keys {}", keys.join(", "))
            }
            Shape::List(of) => format!("a list, of which each item is {}", of.expected()),
            Shape::Many(of) => format!("{}, or a list of such", of.expected()),
            Shape::Map(key, of) => {
                format!("a mapping from {} to {}", key.expected(), of.expected())
            }
            Shape::Either(shapes) => {
                let all: Vec<_> = shapes.iter().map(Shape::expected).collect();
                all.join(", or ")
            }
        }
    }
}
