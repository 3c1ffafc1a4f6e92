//! The decision, step by step, for people and for programs.
//!
//! Owns: [`Explanation`]: the JSON of `/explain`, which `sortie explain` reads back.
//! Never: holds a key.
//! Called by: the rest of this room (fills it), cli (prints it).

use serde::{Deserialize, Serialize};

use crate::model::Place;

/// Every step, and what comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// As asked, with its scheme.
    pub url: String,
    /// `GET`; for connections that carry no plain HTTP `TLS` or `TCP`.
    pub method: String,
    /// Up to the choice of a destination.
    pub steps: Vec<Step>,
    /// Where it may go; more than one where a rule has shares.
    pub destinations: Vec<Branch>,
    /// What the client would see.
    pub outcome: Outcome,
}

/// One step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// `listener`, `virtual host`, `rule`, ...
    pub what: String,
    /// What was decided, in words.
    pub how: String,
    /// The object that decided it: `DestinationRule ns/name`.
    pub object: Option<String>,
    /// The file that it stands in.
    pub file: Option<String>,
    /// The line, from 1.
    pub line: Option<u32>,
}

/// One destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// The upstream's name.
    pub upstream: String,
    /// Of how many requests: `100%`.
    pub share: String,
    /// How it is spoken to.
    pub steps: Vec<Step>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// False where the request would fail here, whatever the server is like.
    pub served: bool,
    /// The status of sortie's own answer; `None` where the upstream answers, or the connection is
    /// closed.
    pub status: Option<u16>,
    /// Envoy's flag: `NR`, `NC`, `UH` (ISTIO.md B8).
    pub flag: Option<String>,
    /// In words.
    pub words: String,
}

impl Step {
    pub(super) fn new(what: &str, how: impl Into<String>) -> Step {
        Step {
            what: what.to_owned(),
            how: how.into(),
            ..Step::default()
        }
    }

    /// With the document that decided it. A flag has no line and is said as it is.
    pub(super) fn by(mut self, object: Option<&str>, place: Option<&Place>) -> Step {
        self.object = object
            .filter(|object| !object.is_empty())
            .map(str::to_owned);
        if let Some(place) = place {
            self.file = Some(place.file.as_ref().to_owned());
            self.line = (place.line > 0).then_some(place.line);
        }
        self
    }

    /// `file:line`, or `None` for what nobody wrote.
    pub fn place(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        Some(match self.line {
            Some(line) => format!("{file}:{line}"),
            None => file.clone(),
        })
    }
}

impl Outcome {
    /// The upstream answers.
    pub(super) fn served(words: impl Into<String>) -> Outcome {
        Outcome {
            served: true,
            words: words.into(),
            ..Outcome::default()
        }
    }

    /// sortie answers, because a rule says so.
    pub(super) fn answered(status: u16, words: impl Into<String>) -> Outcome {
        Outcome {
            status: Some(status),
            ..Outcome::served(words)
        }
    }

    /// sortie answers, because it cannot serve.
    pub(super) fn failed(status: u16, flag: &str, words: impl Into<String>) -> Outcome {
        Outcome {
            served: false,
            status: Some(status),
            flag: (!flag.is_empty() && flag != "-").then(|| flag.to_owned()),
            words: words.into(),
        }
    }

    /// The connection is closed without an answer.
    pub(super) fn closed(flag: &str, words: impl Into<String>) -> Outcome {
        Outcome {
            status: None,
            ..Outcome::failed(0, flag, words)
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, &self.flag) {
            (Some(status), Some(flag)) => write!(f, "{status} {flag}: {}", self.words),
            (Some(status), None) => write!(f, "{status}: {}", self.words),
            (None, Some(flag)) => write!(f, "closed, {flag}: {}", self.words),
            (None, None) if !self.served => write!(f, "closed: {}", self.words),
            (None, None) => f.write_str(&self.words),
        }
    }
}
