//! What is wrong in the documents, where, and what to write instead.
//!
//! Owns: [`Diagnostic`], [`Diagnostics`] (all of them, not the first) and the one table of codes.
//! Never: decides what is wrong.
//! Called by: every file of this room (collects), publish (logs), cli (prints), admin (shows).
//!
//! Why the count is bounded: one wrong template makes the same mistake 100,000 times, and nobody
//! reads the 1001st line.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeStruct;

/// Kept of one load; what is over it is only counted.
pub const MAX_DIAGNOSTICS: usize = 1000;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The documents work, but perhaps not as meant.
    Warning,
    /// The documents are refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        })
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $family:ident $number:literal, $severity:ident;)*) => {
        /// What kind of mistake it is: stable, so that people can search for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The number, as in `SRT0101`.
            pub fn number(self) -> u16 {
                match self { $(Code::$name => $number,)* }
            }

            /// `SRT` for our own, `IST` where the meaning is that of Istio's analyzer (B13).
            pub fn family(self) -> &'static str {
                match self { $(Code::$name => stringify!($family),)* }
            }

            /// One sentence on what the code means.
            pub fn meaning(self) -> &'static str {
                match self { $(Code::$name => concat!($($doc),+).trim_ascii(),)* }
            }

            /// How bad it is, where nothing else is said.
            pub fn severity(self) -> Severity {
                match self { $(Code::$name => Severity::$severity,)* }
            }
        }
    };
}

codes! {
    /// A file or folder cannot be read.
    Unreadable = SRT 1, Error;
    /// A file is larger than 16 MiB.
    TooLarge = SRT 2, Error;
    /// A file is not UTF-8.
    NotUtf8 = SRT 3, Error;
    /// A file is not YAML.
    Syntax = SRT 4, Error;
    /// A key stands twice in one mapping (ISTIO.md X1).
    DuplicateKey = SRT 5, Error;
    /// A file is nested too deeply, or has too many values.
    TooComplex = SRT 6, Error;
    /// A part of YAML that sortie does not read: tags, keys that are not text, merge keys.
    YamlFeature = SRT 7, Error;
    /// There is no document in any of the files.
    Nothing = SRT 8, Error;
    /// A folder without a single configuration file.
    EmptyFolder = SRT 10, Warning;
    /// A key that sortie does not know.
    UnknownKey = SRT 101, Error;
    /// A key that must be there is not.
    MissingKey = SRT 102, Error;
    /// The value is of another kind: a list where text is expected, no value at all, ...
    WrongKind = SRT 103, Error;
    /// The value is none of the words that are allowed.
    NotAChoice = SRT 104, Error;
    /// A number, size, duration or length outside its bounds.
    OutOfBounds = SRT 105, Error;
    /// Text that cannot be read as what it should be: a host, an address, a duration, ...
    Malformed = SRT 106, Error;
    /// A regular expression that does not compile.
    BadRegex = SRT 107, Error;
    /// A header that a rule may not name.
    ForbiddenHeader = SRT 108, Error;
    /// The same name, address or entry twice.
    Twice = SRT 201, Error;
    /// An upstream is named that does not exist (Istio's analyzer: IST0101).
    UnknownUpstream = SRT 202, Error;
    /// Two keys that exclude each other, or a key that another one makes senseless.
    Conflict = SRT 203, Error;
    /// An upstream does not say whether TLS is spoken to it.
    TlsMissing = SRT 204, Error;
    /// The keys of a `tls` block do not fit its mode (ISTIO.md T2, T3).
    TlsMode = SRT 205, Error;
    /// The same host and port are routed twice (Istio's analyzer: IST0109).
    HostTwice = SRT 206, Error;
    /// A setting that exists once is set twice, differently.
    SetTwice = SRT 207, Error;
    /// The weights of a split add up to 0.
    NoWeight = SRT 208, Error;
    /// A rule that says nothing to do, or a block that says nothing.
    SaysNothing = SRT 209, Error;
    /// A rule that cannot be compiled.
    BadRule = SRT 210, Error;
    /// A rule or condition that is never reached (Istio's analyzer: IST0130).
    Unreachable = SRT 301, Warning;
    /// An upstream that no rule uses.
    Unused = SRT 302, Warning;
    /// Checks of the server's certificate are switched off.
    Unverified = SRT 303, Warning;
    /// Plaintext to a port that is meant for TLS.
    PlainToTlsPort = SRT 304, Warning;
    /// No route at all.
    NoRoutes = SRT 305, Warning;
    /// A certificate, key, CA or CRL file is not there (ISTIO.md X11).
    FileMissing = SRT 401, Warning;
    /// Certificate files that cannot be used: the upstream answers 503 until they can.
    BadCredential = SRT 402, Error;
    /// Certificate files that are odd, but not refused (ISTIO.md R11).
    OddCredential = SRT 403, Warning;
    /// A DestinationRule's `sni` is set, and so Istio checks no name (ISTIO.md T7 d).
    NameUnchecked = SRT 501, Warning;
    /// A name with a dot that looks like a Service and a namespace is not expanded (H3).
    DottedShortName = SRT 502, Warning;
    /// A port-level entry drops the `tls` of the level above (D5, X3).
    PortLevelDropsTls = SRT 503, Error;
    /// `credentialName` on a sidecar: Istio would ignore it and send plaintext; sortie honours it (T4).
    CredentialOnSidecar = SRT 504, Warning;
    /// The application's own TLS would be wrapped in TLS once more (D8).
    TlsInTls = SRT 505, Warning;
    /// Plaintext to a port that is named or declared for TLS.
    PlainToHttpsPort = SRT 506, Warning;
    /// A field that sortie understands and does not follow; nothing is weaker for it (U2).
    FieldWithoutEffect = SRT 507, Warning;
    /// A field or kind that sortie does not follow, and whose loss would widen access, drop
    /// encryption or misroute (U3).
    Unsupported = SRT 508, Error;
    /// Which of several owners has a host (H6).
    SeveralOwners = SRT 509, Warning;
    /// Documents of kinds that mean nothing to sortie (U4).
    IgnoredKind = SRT 510, Warning;
    /// A ServiceEntry without resolution, used without captured connections (E2).
    ResolvedByHost = SRT 511, Warning;
    /// A mesh identity is needed and none was given (T16).
    NoMeshIdentity = SRT 512, Warning;
    /// A DestinationRule asks for TLS and does not apply to this proxy or port: plaintext (D1 to D4).
    TlsNotApplied = SRT 513, Warning;
    /// A named targetPort that no document gives a number: what is said of it is lost inbound (E8).
    TargetPortUnknown = SRT 514, Warning;
    /// A server that speaks first, on a port where the client's first bytes are waited for (P11).
    SpeaksFirst = SRT 515, Warning;
    /// Two policies of one level: the older one counts (P1).
    PoliciesOverlap = SRT 516, Warning;
    /// A pod cannot have its sidecar as it is written.
    NotInjectable = SRT 601, Error;
    /// A pod with its sidecar may not behave as was meant.
    InjectedWithDoubt = SRT 602, Warning;
    /// What an object refers to is not there: host, subset, gateway or secret.
    ReferenceNotFound = IST 101, Error;
    /// An object breaks its schema: unknown field, wrong type, value out of bounds.
    SchemaError = IST 106, Error;
    /// An annotation stands where it has no effect.
    MisplacedAnnotation = IST 107, Warning;
    /// An annotation that is not known.
    UnknownAnnotation = IST 108, Warning;
    /// Two VirtualServices claim one host on the same gateway.
    HostClaimedTwice = IST 109, Error;
    /// Several Sidecars select one workload.
    SidecarsOverlap = IST 110, Warning;
    /// Several Sidecars without a selector in one namespace.
    SeveralDefaultSidecars = IST 111, Error;
    /// A destination must say which of its service's ports it means.
    DestinationNeedsPort = IST 112, Error;
    /// A Service's port name says nothing of the protocol.
    PortNameWithoutProtocol = IST 118, Warning;
    /// An annotation has a value that it cannot have.
    BadAnnotation = IST 125, Warning;
    /// A selector matches no workload.
    SelectsNoWorkload = IST 127, Warning;
    /// TLS without a CA at the level of the host: the operating system's store is used.
    NoCa = IST 128, Warning;
    /// TLS without a CA at the level of a port: the operating system's store is used.
    NoCaOnPort = IST 129, Warning;
    /// A rule that is never reached.
    UnreachableRule = IST 130, Warning;
    /// A match that has no effect.
    MatchWithoutEffect = IST 131, Warning;
    /// A VirtualService's host is not among its Gateway's.
    HostNotInGateway = IST 132, Warning;
    /// An object is allowed, and odd.
    SchemaWarning = IST 133, Warning;
    /// A TCP ServiceEntry without addresses captures the whole port.
    TcpWithoutAddresses = IST 134, Warning;
    /// Gateway servers of different hosts show one certificate: an HTTP/2 client may ask one of them
    /// for the hosts of the other.
    DuplicateCertificate = IST 138, Warning;
    /// Two Gateways that contradict each other.
    GatewaysConflict = IST 145, Error;
    /// A Gateway's credential lacks what its mode needs.
    BadGatewayCredential = IST 161, Warning;
    /// A Gateway's port is none of the gateway's Service.
    PortNotOnService = IST 162, Warning;
    /// A subset selects no endpoint.
    SubsetSelectsNothing = IST 173, Warning;
    /// A DestinationRule for a host that nobody knows.
    RuleForUnknownHost = IST 174, Warning;
    /// ServiceEntries declare one port with protocols that contradict each other.
    ProtocolsConflict = IST 177, Warning;
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:04}", self.family(), self.number())
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One mistake.
///
/// Displayed as `FILE:LINE:COL: error[SRT0101] FIELD: problem; advice`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file as the user named it; a folder's file with the folder before it.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// From 1; 0 where it is about the whole file.
    pub line: u32,
    /// In characters, from 1; 0 where it is about the whole line or file.
    pub column: u32,
    /// Such as `routes[0].rules[1].match.path`; empty where it is about the whole document.
    pub field: String,
    /// The one object that it is about, `DestinationRule ns/name`: an error refuses that object and
    /// no other (ISTIO.md X1). `None`: an error refuses all that was loaded.
    #[serde(serialize_with = "as_optional_text")]
    pub object: Option<Arc<str>>,
    /// What kind of mistake it is.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong: what came.
    pub problem: String,
    /// What to write instead; may be empty.
    pub advice: String,
}

fn as_optional_text<S: serde::Serializer>(
    text: &Option<Arc<str>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => serializer.serialize_some(text.as_ref()),
        None => serializer.serialize_none(),
    }
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl Diagnostic {
    /// About a file as a whole; `file` may be what stands in a file's place, such as `-`.
    pub fn whole(file: Arc<str>, code: Code, problem: String, advice: &str) -> Diagnostic {
        Diagnostic {
            file,
            line: 0,
            column: 0,
            field: String::new(),
            object: None,
            code,
            severity: code.severity(),
            problem,
            advice: advice.to_owned(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        write!(f, ": {}[{}] ", self.severity, self.code)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        // Between quotes it is the key alone, and not the way to it.
        let quoted = format!("{:?}", self.field);
        let named = self.problem.contains(&self.field) && !self.problem.contains(&quoted);
        if !self.field.is_empty() && !named {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.problem)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// All mistakes of all files, at most [`MAX_DIAGNOSTICS`] of them in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
    /// Of the errors, those that are about more than one object.
    fatal: usize,
    warnings: usize,
}

impl Diagnostics {
    /// Nothing wrong so far.
    pub fn new() -> Self {
        Diagnostics::default()
    }

    /// One more. An error takes the place of a warning when the list is full.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        let severity = diagnostic.severity;
        match severity {
            Severity::Error => {
                self.errors += 1;
                self.fatal += usize::from(diagnostic.object.is_none());
            }
            Severity::Warning => self.warnings += 1,
        }
        if self.list.len() < MAX_DIAGNOSTICS {
            self.list.push(diagnostic);
        } else if severity == Severity::Error {
            let warning = |kept: &Diagnostic| kept.severity == Severity::Warning;
            if let Some(slot) = self.list.iter().rposition(warning) {
                self.list.remove(slot);
                self.list.push(diagnostic);
            }
        }
    }

    /// All of another.
    pub fn append(&mut self, other: Diagnostics) {
        let fatal = self.fatal + other.fatal;
        let dropped = other.dropped();
        let kept_errors = other.errors().count();
        let (errors, warnings) = (other.errors, other.warnings);
        let kept_warnings = other.list.len() - kept_errors;
        for diagnostic in other.list {
            self.push(diagnostic);
        }
        if dropped > 0 {
            self.errors += errors - kept_errors;
            self.warnings += warnings - kept_warnings;
        }
        self.fatal = fatal;
    }

    /// True where an error is about more than a single object of Istio's or Kubernetes': nothing of
    /// what was loaded may be served (ISTIO.md X1).
    pub fn is_fatal(&self) -> bool {
        self.fatal > 0
    }

    /// True where something is wrong.
    pub fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// True where there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.errors == 0 && self.warnings == 0
    }

    /// How many errors, those that were not kept included.
    pub fn error_count(&self) -> usize {
        self.errors
    }

    /// How many warnings, those that were not kept included.
    pub fn warning_count(&self) -> usize {
        self.warnings
    }

    /// How many were counted but not kept.
    pub fn dropped(&self) -> usize {
        self.errors + self.warnings - self.list.len()
    }

    /// Those that were kept, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// The errors among those that were kept.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.iter().filter(|d| d.severity == Severity::Error)
    }

    /// Every warning becomes an error (`check --strict`), but for kinds that are none of sortie's
    /// business: a Role beside the routes is no mistake (ISTIO.md U4).
    pub fn raise(&mut self) {
        let mut left = 0;
        for diagnostic in &mut self.list {
            match diagnostic.code {
                Code::IgnoredKind => left += 1,
                _ => diagnostic.severity = Severity::Error,
            }
        }
        self.errors += self.warnings.saturating_sub(left);
        self.warnings = left;
    }

    /// By line and column within each file; files stay in the order in which they came.
    pub(super) fn sort(&mut self, files: &[Arc<str>]) {
        let order: std::collections::HashMap<&Arc<str>, usize> = files
            .iter()
            .enumerate()
            .map(|(n, file)| (file, n))
            .collect();
        self.list.sort_by_key(|d| {
            let file = order.get(&d.file).copied().unwrap_or(usize::MAX);
            (file, d.line, d.column, d.code)
        });
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<Diagnostic> for Diagnostics {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: T) {
        for diagnostic in diagnostics {
            self.push(diagnostic);
        }
    }
}

impl FromIterator<Diagnostic> for Diagnostics {
    fn from_iter<T: IntoIterator<Item = Diagnostic>>(diagnostics: T) -> Self {
        let mut all = Diagnostics::new();
        all.extend(diagnostics);
        all
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, diagnostic) in self.list.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        match self.dropped() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Diagnostics", 3)?;
        object.serialize_field("errors", &self.errors)?;
        object.serialize_field("warnings", &self.warnings)?;
        object.serialize_field("diagnostics", &self.list)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: u32, code: Code) -> Diagnostic {
        Diagnostic {
            file: "a.yaml".into(),
            line,
            column: 9,
            field: "routes[0].host".to_owned(),
            object: None,
            code,
            severity: code.severity(),
            problem: "it is wrong".to_owned(),
            advice: "write it right".to_owned(),
        }
    }

    #[test]
    fn a_diagnostic_reads_as_one_line_that_an_editor_can_jump_to() {
        assert_eq!(
            one(12, Code::UnknownKey).to_string(),
            "a.yaml:12:9: error[SRT0101] routes[0].host: it is wrong; write it right"
        );
    }

    #[test]
    fn a_diagnostic_without_a_place_does_not_invent_one() {
        let whole = Diagnostic {
            field: String::new(),
            advice: String::new(),
            ..one(0, Code::Nothing)
        };
        assert_eq!(whole.to_string(), "a.yaml: error[SRT0008] it is wrong");
    }

    #[test]
    fn every_code_has_its_own_number_and_a_meaning() {
        let numbers: std::collections::BTreeSet<_> =
            Code::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
        let order = |code: &Code| (std::cmp::Reverse(code.family()), code.number());
        assert!(Code::ALL.iter().is_sorted_by_key(order));
    }

    #[test]
    fn the_list_is_bounded_and_the_rest_is_counted() {
        let many = |code| std::iter::repeat_n(one(1, code), MAX_DIAGNOSTICS);
        let mut all: Diagnostics = many(Code::Unused).collect();
        all.push(one(2, Code::UnknownKey));
        assert_eq!((all.iter().len(), all.dropped()), (MAX_DIAGNOSTICS, 1));
        assert_eq!(all.errors().count(), 1, "an error displaces a warning");
        assert!(all.to_string().ends_with("\nand 1 more"));
        let mut twice = all.clone();
        twice.append(all);
        assert_eq!((twice.error_count(), twice.warning_count()), (2, 2000));
    }

    #[test]
    fn the_json_form_has_the_same_facts() {
        let all: Diagnostics = [one(12, Code::UnknownKey)].into_iter().collect();
        assert_eq!(
            serde_json::to_value(&all).unwrap(),
            serde_json::json!({"errors": 1, "warnings": 0, "diagnostics": [{
                "file": "a.yaml", "line": 12, "column": 9, "field": "routes[0].host",
                "object": null, "code": "SRT0101", "severity": "error",
                "problem": "it is wrong", "advice": "write it right"}]})
        );
    }
}
