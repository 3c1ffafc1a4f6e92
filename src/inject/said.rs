//! Annotations as values, and what is said of one that is none.
//!
//! Owns: [`Said`]: texts, switches, numbers, names.
//! Never: knows an annotation by name.
//! Called by: wishes, and whoever reads an annotation for it.

use super::pod::{Pod, annotation_path};
use super::{Refusal, Warning};

/// Bytes of a value that are repeated in a message.
const SHOWN: usize = 80;

/// The annotations of one pod, and what is to be said about them.
pub(super) struct Said<'a> {
    pub pod: Pod<'a>,
    pub warnings: Vec<Warning>,
}

impl<'a> Said<'a> {
    /// The text, if it is there.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.pod.annotation(key)
    }

    /// A warning about an annotation.
    pub fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.warnings
            .push(Warning::new(annotation_path(key), message));
    }

    /// `"true"` or `"false"`.
    ///
    /// # Errors
    /// It is something else.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Refusal> {
        self.parsed(key, "\"true\" or \"false\"", |text| match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A number within `least` and `most`.
    ///
    /// # Errors
    /// It is something else.
    pub fn number(&self, key: &str, least: u32, most: u32) -> Result<Option<u32>, Refusal> {
        let expected = format!("a number from {least} to {most}");
        self.parsed(key, &expected, |text| {
            let number = text.trim().parse().ok();
            number.filter(|number| (least..=most).contains(number))
        })
    }

    /// The name of a Kubernetes object.
    ///
    /// # Errors
    /// It cannot be one.
    pub fn name(&self, key: &str) -> Result<Option<String>, Refusal> {
        self.parsed(key, NAME, |text| object_name(text.trim()))
    }

    /// Several, with commas between.
    ///
    /// # Errors
    /// One cannot be a name, or there are more than `most`.
    pub fn names(&self, key: &str, most: usize) -> Result<Option<Vec<String>>, Refusal> {
        let expected = format!("at most {most} names with commas between, each {NAME}");
        self.parsed(key, &expected, |text| {
            let words = text
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            let names: Option<Vec<String>> = words.map(object_name).collect();
            names.filter(|names| names.len() <= most)
        })
    }

    /// What `read` makes of it.
    ///
    /// # Errors
    /// `read` makes nothing of it.
    pub fn parsed<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(key) else {
            return Ok(None);
        };
        match read(text) {
            Some(value) => Ok(Some(value)),
            None => Err(refused(key, text, expected)),
        }
    }
}

const NAME: &str = "the name of an object: at most 253 of a-z, 0-9, - and .";

fn object_name(text: &str) -> Option<String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let sound = bytes.len() <= 253 && bytes.iter().all(|b| fits(*b));
    (sound && edge(bytes.first()) && edge(bytes.last())).then(|| text.to_owned())
}

/// An annotation whose value is not what it should be.
pub(super) fn refused(key: &str, value: &str, expected: &str) -> Refusal {
    let shown = match value.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}..", value.get(..end).unwrap_or_default()),
        None => format!("{value:?}"),
    };
    let problem = format!("{shown} is not what it takes");
    Refusal::new(
        annotation_path(key),
        problem,
        format!("expected {expected}"),
    )
}
