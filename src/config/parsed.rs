//! What one file holds as YAML, and where its mistakes stand.
//!
//! Owns: [`Parsed`], [`Mistake`], and places in the words of the parser.
//! Never: parses text.
//! Called by: yaml (makes it), load (reads it).

use saphyr_parser::Marker;

use super::diagnostic::Code;
use super::left::Left;
use super::node::{Mark, Node};

/// A mistake of the YAML itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where.
    pub at: Mark,
    /// What kind.
    pub code: Code,
    /// The path to it, as in a diagnostic; empty where there is none.
    pub field: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub advice: &'static str,
}

/// What one file holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The documents that are not empty; all that came before a syntax error.
    pub documents: Vec<Node>,
    /// Of each document the lines that its list of routes lacks; see [`super::yaml::parse_shared`].
    pub left: Vec<Vec<Left>>,
    /// Empty where the file is sound.
    pub mistakes: Vec<Mistake>,
}

/// Where the parser stands.
pub(super) fn mark(marker: &Marker) -> Mark {
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Mark {
        line: small(marker.line()),
        column: small(marker.col() + 1),
    }
}

/// The tab that indents the line of the error, or the line before it; where the parser itself
/// speaks of a tab it may be the line after it.
pub(super) fn indented_by_tab(text: &str, at: Mark, info: &str) -> Option<Mark> {
    let line = (at.line as usize).max(1) - 1;
    let after = info.contains("tab").then_some(line + 1);
    let candidates = [Some(line), line.checked_sub(1), after];
    candidates.into_iter().flatten().find_map(|n| {
        let line = text.lines().nth(n)?;
        let blank = line.len() - line.trim_start_matches([' ', '\t']).len();
        let tab = line.get(..blank)?.find('\t')?;
        Some(Mark {
            line: u32::try_from(n + 1).unwrap_or(u32::MAX),
            column: u32::try_from(tab + 1).unwrap_or(u32::MAX),
        })
    })
}
