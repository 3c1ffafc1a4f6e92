//! What injection comes to: changes, a reason to change nothing, or a refusal.
//!
//! Owns: [`Outcome`], [`Plan`], [`Warning`], [`LeftAlone`], [`Refusal`].
//! Never: decides which of them it is.
//! Called by: the rest of this room, cli, webhook.

use std::fmt;

use super::{Op, Path};

/// What becomes of one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// These changes make it a pod with a sidecar.
    Inject(Plan),
    /// It stays as it is.
    LeftAlone(LeftAlone),
}

/// The changes, in order, and what their reader should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Relative to the template, `{metadata, spec}`; never empty.
    pub ops: Vec<Op>,
    /// What will not be as somebody may think.
    pub warnings: Vec<Warning>,
}

/// Something that is allowed and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where, relative to the template.
    pub path: Path,
    /// What is the matter and what to do, in a sentence without its full stop.
    pub message: String,
    /// Istio's code for the same finding (ISTIO.md B13), where it has one.
    pub code: Option<&'static str>,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "[{code}] {}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// Why a pod stays as it is (ISTIO.md I1). Displayed, it ends the sentence "left alone: …".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeftAlone {
    /// The sidecar that would be put in is in it already.
    Same,
    /// It uses the node's network, whose traffic is not the pod's to capture.
    HostNetwork,
    /// Its namespace holds the cluster itself.
    SystemNamespace(String),
    /// Its namespace says no.
    NamespaceSaysNo(String),
    /// Nobody asked: neither the pod nor its namespace.
    NotAsked(String),
    /// The pod says no: `label` or `annotation`, its key, its value.
    PodSaysNo(&'static str, &'static str, String),
    /// It has Istio's sidecar.
    Istio,
    /// Its nodes run Windows.
    Windows,
}

impl fmt::Display for LeftAlone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LeftAlone::Same => f.write_str("the sidecar is in it already, and is up to date"),
            LeftAlone::HostNetwork => {
                f.write_str("it has hostNetwork: true, and the node's traffic cannot be captured")
            }
            LeftAlone::SystemNamespace(name) => {
                write!(f, "the namespace {name} holds the cluster itself")
            }
            LeftAlone::NamespaceSaysNo(name) => {
                write!(f, "the namespace {name} has istio-injection=disabled")
            }
            LeftAlone::NotAsked(name) => write!(
                f,
                "neither the pod has the label sidecar.istio.io/inject=true nor the namespace \
                 {name} istio-injection=enabled"
            ),
            LeftAlone::PodSaysNo(what, key, value) => {
                write!(f, "its {what} {key} is \"{value}\"")
            }
            LeftAlone::Istio => f.write_str("it has Istio's sidecar, the container istio-proxy"),
            LeftAlone::Windows => f.write_str("its nodes run Windows, and sortie is for Linux"),
        }
    }
}

/// Why a pod that asks for a sidecar cannot have one: somebody has to change it first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {problem}; {advice}", place(path))]
pub struct Refusal {
    /// Where, relative to the template; of an annotation with its name.
    pub path: Path,
    /// What came, and why it cannot be.
    pub problem: String,
    /// What was expected, or what to do.
    pub advice: String,
}

/// The path in words.
fn place(path: &Path) -> String {
    match path.0.is_empty() {
        true => "the pod".to_owned(),
        false => path.to_string(),
    }
}

impl Refusal {
    /// At `path`.
    pub(super) fn new(path: Path, problem: impl Into<String>, advice: impl Into<String>) -> Self {
        Refusal {
            path,
            problem: problem.into(),
            advice: advice.into(),
        }
    }
}

impl Warning {
    /// At `path`, without a code.
    pub(super) fn new(path: Path, message: impl Into<String>) -> Self {
        Warning {
            path,
            message: message.into(),
            code: None,
        }
    }

    /// The same with Istio's code.
    pub(super) fn coded(self, code: &'static str) -> Self {
        Warning {
            code: Some(code),
            ..self
        }
    }
}
