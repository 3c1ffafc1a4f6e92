//! `--set KEY=VALUE`: a table of keys for each kind of installation.
//!
//! Owns: [`Key`], [`fill`], "did you mean".
//! Never: knows what a key is for.
//! Called by: `cli::install`, and the tables of this room.
//!
//! Why defaults are texts that go the same way as what people write: the table that `--set list`
//! prints cannot then say anything else than what happens.

/// How alike two keys must be for one to be proposed for the other, from 0 to 1.
const ALIKE: f64 = 0.75;

/// One key of `--set`.
pub struct Key<T: 'static> {
    /// What is written before `=`.
    pub name: &'static str,
    /// What is set where nobody says anything; empty: nothing is.
    pub default: &'static str,
    /// In a few words, for the table.
    pub meaning: &'static str,
    /// Takes the text behind `=`, or says what was expected.
    pub set: fn(&mut T, &str) -> Result<(), String>,
}

/// A table of keys, each `NAME [DEFAULT] MEANING => |all, text| all.field, taken(text);`.
macro_rules! keys {
    ($($name:literal [$default:expr] $meaning:literal
        => |$all:ident, $text:ident| $field:expr, $taken:expr;)*) => {
        &[$(Key {
            name: $name,
            default: $default,
            meaning: $meaning,
            set: |$all, $text| {
                $field = $taken?;
                Ok(())
            },
        }),*]
    };
}
pub(super) use keys;

/// Every default, and then what is set, in order: the last one counts.
///
/// # Errors
/// Every mistake, each in words with its key.
pub fn fill<T: Default>(table: &[Key<T>], sets: &[String]) -> Result<T, Vec<String>> {
    let mut value = T::default();
    let mut mistakes = Vec::new();
    let mut take = |key: &Key<T>, text: &str| {
        if let Err(problem) = (key.set)(&mut value, text) {
            mistakes.push(format!("--set {}={}: {problem}", key.name, shown(text)));
        }
    };
    for key in table.iter().filter(|key| !key.default.is_empty()) {
        take(key, key.default);
    }
    let mut unknown = Vec::new();
    for set in sets {
        match set.split_once('=') {
            None => unknown.push(format!("--set {set}: expected KEY=VALUE, or list alone")),
            Some((name, text)) => match table.iter().find(|key| key.name == name.trim()) {
                Some(key) => take(key, text),
                None => unknown.push(format!("--set {set}: {}", not_known(table, name.trim()))),
            },
        }
    }
    mistakes.append(&mut unknown);
    match mistakes.is_empty() {
        true => Ok(value),
        false => Err(mistakes),
    }
}

/// The beginning of a long value: what came from a file need not be repeated.
fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(60) {
        None if line == text => line.to_owned(),
        None => format!("{line}.."),
        Some((end, _)) => format!("{}..", line.get(..end).unwrap_or_default()),
    }
}

fn not_known<T>(table: &[Key<T>], name: &str) -> String {
    let likeness = |key: &&Key<T>| strsim::jaro_winkler(key.name, name);
    let nearest = table
        .iter()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|key| likeness(key) >= ALIKE);
    let advice = match nearest {
        Some(key) => format!("did you mean {}?", key.name),
        None => "--set list prints all of them".to_owned(),
    };
    format!("there is no key \"{name}\"; {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Tea {
        cups: u32,
        sort: String,
    }

    const TABLE: &[Key<Tea>] = &[
        Key {
            name: "cups",
            default: "2",
            meaning: "how many",
            set: |tea, text| {
                tea.cups = text.parse().map_err(|_| "expected a number".to_owned())?;
                Ok(())
            },
        },
        Key {
            name: "sort.name",
            default: "",
            meaning: "which",
            set: |tea, text| {
                tea.sort = text.to_owned();
                Ok(())
            },
        },
    ];

    fn mistakes(sets: &[&str]) -> Vec<String> {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        fill(TABLE, &sets).unwrap_err()
    }

    #[test]
    fn the_default_holds_until_somebody_says_otherwise_and_the_last_word_counts() {
        assert_eq!(fill(TABLE, &[]).unwrap().cups, 2);
        let sets = [
            "cups=3".to_owned(),
            "cups=4".to_owned(),
            "sort.name=a=b".to_owned(),
        ];
        let tea = fill(TABLE, &sets).unwrap();
        assert_eq!((tea.cups, tea.sort.as_str()), (4, "a=b"));
    }

    #[test]
    fn every_mistake_is_told_at_once_with_its_key() {
        assert_eq!(
            mistakes(&["cups=two", "sortname=x", "quite.another=1", "cups"]),
            [
                "--set cups=two: expected a number",
                "--set sortname=x: there is no key \"sortname\"; did you mean sort.name?",
                "--set quite.another=1: there is no key \"quite.another\"; --set list prints all \
                 of them",
                "--set cups: expected KEY=VALUE, or list alone",
            ]
        );
    }
}
