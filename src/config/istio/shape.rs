//! What the messages of Istio's documents may hold, as tables (ISTIO.md 1.2, 1.3).
//!
//! Owns: [`Table`], [`Field`], [`Kind`], [`Class`].
//! Never: reads a document.
//! Called by: tables (state them), reading (checks documents against them).
//!
//! Why not the tables of the native format: every field has a class here, that says what it means
//! that sortie does not follow it; and these keys come in two spellings.

/// A message with known fields.
pub struct Table {
    /// Its fields, by their names in JSON.
    pub fields: &'static [Field],
    /// Of each group at most one may be there.
    pub exclusive: &'static [&'static [&'static str]],
    /// Fields that are not listed are none of our business: Kubernetes' own kinds.
    pub open: bool,
}

/// One field of a message.
pub struct Field {
    /// Its name in JSON: `caCertificates`.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What becomes of it.
    pub class: Class,
}

/// What becomes of a field that is there.
#[derive(Clone, Copy)]
pub enum Class {
    /// It is followed.
    Followed,
    /// It says nothing that a proxy acts on.
    Silent,
    /// U2: known and not followed, and nothing is weaker for it. Holds what to do about it.
    Warned(&'static str),
    /// U3: known and not followed, and without it access would be wider, encryption lost or
    /// requests misrouted. Holds what to do about it.
    Refused(&'static str),
}

/// Words of an enumeration, with their numbers.
pub type Words = &'static [(&'static str, u64)];

/// What a value may be.
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number, as number or as text.
    Whole(u64, u64),
    /// A TCP port.
    Port,
    /// A number from 0 to 100.
    Percent,
    /// A number.
    Number,
    /// A duration of whole milliseconds, at least one.
    Duration,
    /// The same, or 0.
    DurationOrZero,
    /// One of these, by name or by number.
    Enum(Words),
    /// A message.
    Object(&'static Table),
    /// A message that says something by being there, even without a value.
    Presence(&'static Table),
    /// A list.
    List(&'static Kind),
    /// A mapping with free keys.
    Map(&'static Kind),
    /// Anything: nobody looks at it.
    Any,
}

/// Any 32-bit count.
pub const COUNT: Kind = Kind::Whole(0, i32::MAX as u64);
/// A list of texts.
pub const TEXTS: Kind = Kind::List(&Kind::Text);
/// Labels.
pub const LABELS: Kind = Kind::Map(&Kind::Text);

impl Table {
    /// A message.
    pub const fn new(fields: &'static [Field]) -> Table {
        Table {
            fields,
            exclusive: &[],
            open: false,
        }
    }

    /// A message of which only these fields are looked at.
    pub const fn open(fields: &'static [Field]) -> Table {
        Table {
            fields,
            exclusive: &[],
            open: true,
        }
    }

    /// Of each group at most one may be there.
    pub const fn exclusive(mut self, groups: &'static [&'static [&'static str]]) -> Table {
        self.exclusive = groups;
        self
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// A field that is followed.
pub const fn yes(name: &'static str, kind: Kind) -> Field {
    field(name, kind, Class::Followed)
}

/// A field that says nothing that a proxy acts on.
pub const fn silent(name: &'static str, kind: Kind) -> Field {
    field(name, kind, Class::Silent)
}

/// A field without effect (U2).
pub const fn warned(name: &'static str, kind: Kind, advice: &'static str) -> Field {
    field(name, kind, Class::Warned(advice))
}

/// A field that is refused (U3).
pub const fn refused(name: &'static str, kind: Kind, advice: &'static str) -> Field {
    field(name, kind, Class::Refused(advice))
}

const fn field(name: &'static str, kind: Kind, class: Class) -> Field {
    Field { name, kind, class }
}

impl Kind {
    /// What may be written, for messages.
    pub fn expected(&self) -> String {
        match self {
            Kind::Text => "a text".to_owned(),
            Kind::Bool => "true or false".to_owned(),
            Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Port => "a port from 1 to 65535".to_owned(),
            Kind::Percent => "a number from 0 to 100".to_owned(),
            Kind::Number => "a number".to_owned(),
            Kind::Duration => "a duration such as 250ms, 1.5s or 1m, at least 1ms".to_owned(),
            Kind::DurationOrZero => "a duration such as 250ms, 1.5s or 1m, or 0s".to_owned(),
            Kind::Enum(words) => {
                let all: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                format!("one of {}", all.join(", "))
            }
            Kind::Object(table) | Kind::Presence(table) => {
                let all: Vec<_> = table.fields.iter().map(|field| field.name).collect();
                format!("a mapping with the fields {}", all.join(", "))
            }
            Kind::List(of) => format!("a list, of which each item is {}", of.expected()),
            Kind::Map(of) => format!("a mapping from names to {}", of.expected()),
            Kind::Any => "a value".to_owned(),
        }
    }
}
