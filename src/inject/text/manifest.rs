//! Manifests in, the same manifests with sidecars out.
//!
//! Owns: [`inject`]: all files of one call or none, and what is said of each object.
//! Never: opens a file, or decides what a sidecar is (that is `plan`).
//! Called by: cli (`sortie inject`).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

use crate::config::{Code, Diagnostic, Diagnostics, yaml_mistakes};

use super::super::known::misplaced;
use super::super::op::Path;
use super::super::outcome::{LeftAlone, Outcome, Warning};
use super::super::plan::plan;
use super::super::settings::{Owner, Settings};
use super::super::who::unmet;
use super::objects::{Object, objects};
use super::stream::{EditError, Stream};

/// A text, and the name under which its messages go.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// `-` for standard input.
    pub file: &'a str,
    /// At most 16 MiB of YAML or JSON.
    pub text: &'a str,
}

/// What came of the manifests.
#[derive(Debug, Default)]
pub struct Injected {
    /// The new text of each source, in their order.
    pub texts: Vec<String>,
    /// Every object, in order.
    pub objects: Vec<Done>,
    /// What will perhaps not be as meant.
    pub warnings: Diagnostics,
}

/// What became of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// The number of its source.
    pub source: usize,
    /// From 1.
    pub line: u32,
    /// `Deployment`, ..
    pub kind: String,
    /// Its name, or the beginning of a generated one and `*`; empty where it has none.
    pub name: String,
    /// Its own, or the one that was given.
    pub namespace: String,
    /// What became of it.
    pub fate: Fate,
}

/// See [`Done`].
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It has the sidecar now.
    Injected,
    /// It has a pod, which stays as it is.
    LeftAlone(LeftAlone),
    /// It has no pod.
    NoPod,
}

/// Puts the sidecar into every pod of `sources` that is to have it. `namespace`: of objects that
/// do not say theirs. A Namespace among the objects says its labels.
///
/// # Errors
/// Everything that is wrong with any of them; nothing is then to be written.
pub fn inject(
    sources: &[Source<'_>],
    settings: &Settings,
    namespace: &str,
) -> Result<Injected, Diagnostics> {
    let mut wrong = Diagnostics::new();
    let mut files: Vec<File<'_>> = sources
        .iter()
        .filter_map(|source| File::read(*source, &mut wrong))
        .collect();
    if wrong.has_errors() {
        return Err(wrong);
    }
    let call = Call {
        settings,
        namespace,
        labels: namespace_labels(&files),
    };
    let mut out = Injected::default();
    for (nth, file) in files.iter_mut().enumerate() {
        for (document, object) in std::mem::take(&mut file.objects) {
            let line = file.stream.place(document, &object.at).0;
            let owner = call.owner(&object);
            let fate = match &object.template {
                None => Ok(Fate::NoPod),
                Some(template) => {
                    let misplaced = file.misplaced(document, &object, template, &owner);
                    misplaced.into_iter().for_each(|one| out.warnings.push(one));
                    file.pod(&call, document, template, &owner, &mut out.warnings)
                }
            };
            match fate {
                Ok(fate) => out.objects.push(Done {
                    source: nth,
                    line,
                    kind: owner.kind,
                    name: owner.name,
                    namespace: owner.namespace,
                    fate,
                }),
                Err(diagnostic) => wrong.push(*diagnostic),
            }
        }
        match file.stream.finish() {
            Ok(text) => out.texts.push(text),
            Err(error) => wrong.push(file.not_edited(&error)),
        }
    }
    match wrong.has_errors() {
        true => Err(wrong),
        false => Ok(out),
    }
}

struct Call<'a> {
    settings: &'a Settings,
    namespace: &'a str,
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Call<'_> {
    fn owner(&self, object: &Object) -> Owner {
        let namespace = match object.namespace.as_str() {
            "" => self.namespace,
            own => own,
        };
        Owner {
            kind: object.kind.clone(),
            name: object.name.clone(),
            namespace: namespace.to_owned(),
            namespace_labels: self.labels.get(namespace).cloned().unwrap_or_default(),
        }
    }
}

/// The labels of every Namespace among the objects.
fn namespace_labels(files: &[File<'_>]) -> HashMap<String, BTreeMap<String, String>> {
    let mut all = HashMap::new();
    for file in files {
        let spaces = file
            .objects
            .iter()
            .filter(|(_, object)| object.kind == "Namespace");
        for (document, object) in spaces {
            let value = file.stream.values().get(*document);
            let labels = value.and_then(|root| object.at.of(root)?.pointer("/metadata/labels"));
            let Some(Value::Object(labels)) = labels else {
                continue;
            };
            let text =
                |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            all.insert(
                object.name.clone(),
                labels.iter().filter_map(text).collect(),
            );
        }
    }
    all
}

/// One source, read.
struct File<'a> {
    name: Arc<str>,
    stream: Stream<'a>,
    /// With the number of their document.
    objects: Vec<(usize, Object)>,
}

impl<'a> File<'a> {
    /// None where something is wrong with it, which is then said.
    fn read(source: Source<'a>, wrong: &mut Diagnostics) -> Option<File<'a>> {
        let name: Arc<str> = source.file.into();
        let mistakes = yaml_mistakes(&name, source.text);
        if mistakes.has_errors() {
            wrong.append(mistakes);
            return None;
        }
        let Some(stream) = Stream::new(source.text) else {
            let problem = "it is read, but cannot be edited as it is written";
            let advice = "write it in plainer YAML: no \"?\" before keys, no tags";
            wrong.push(diagnostic(
                &name,
                (0, 0),
                Code::YamlFeature,
                problem.to_owned(),
                advice,
            ));
            return None;
        };
        let mut file = File {
            name,
            stream,
            objects: Vec::new(),
        };
        let mut sound = true;
        for nth in 0..file.stream.values().len() {
            let Some(value) = file
                .stream
                .values()
                .get(nth)
                .filter(|value| !value.is_null())
            else {
                continue;
            };
            let (found, mistakes) = objects(value);
            for one in &mistakes {
                let mut said = diagnostic(
                    &file.name,
                    file.stream.place(nth, &one.path),
                    one.code,
                    one.problem.clone(),
                    one.advice,
                );
                said.field = one.path.to_string();
                wrong.push(said);
            }
            sound &= mistakes.is_empty();
            file.objects
                .extend(found.into_iter().map(|object| (nth, object)));
        }
        sound.then_some(file)
    }

    /// Changes one pod.
    fn pod(
        &mut self,
        call: &Call<'_>,
        document: usize,
        template: &Path,
        owner: &Owner,
        warnings: &mut Diagnostics,
    ) -> Result<Fate, Box<Diagnostic>> {
        let root = self.stream.values().get(document);
        let pod = root
            .and_then(|root| template.of(root))
            .cloned()
            .unwrap_or_default();
        let outcome = plan(call.settings, owner, &pod).map_err(|refusal| {
            let problem = refusal.problem.clone();
            let path = template.join(&refusal.path);
            Diagnostic {
                advice: refusal.advice.to_string(),
                ..self.said((document, &path), owner, Code::NotInjectable, problem)
            }
        })?;
        let plan = match outcome {
            Outcome::LeftAlone(why) => {
                let unmet = unmet(&why, &pod);
                unmet.iter().for_each(|warning| {
                    warnings.push(self.warned((document, template), owner, warning));
                });
                return Ok(Fate::LeftAlone(why));
            }
            Outcome::Inject(plan) => plan,
        };
        for warning in &plan.warnings {
            warnings.push(self.warned((document, template), owner, warning));
        }
        self.stream
            .edit(document, template, &plan.ops)
            .map_err(|error| {
                let mut said = self.not_edited(&error);
                said.object = Some(named(owner).into());
                said
            })?;
        Ok(Fate::Injected)
    }

    /// Annotations of the pod that stand on what makes it, where they have no effect.
    fn misplaced(
        &self,
        document: usize,
        object: &Object,
        template: &Path,
        owner: &Owner,
    ) -> Vec<Diagnostic> {
        let root = self.stream.values().get(document);
        let metadata = root.and_then(|root| object.at.of(root)?.get("metadata"));
        match metadata.filter(|_| object.at != *template) {
            None => Vec::new(),
            Some(metadata) => misplaced(metadata)
                .iter()
                .map(|warning| self.warned((document, &object.at), owner, warning))
                .collect(),
        }
    }

    /// A warning about what is at `within` of a document.
    fn warned(
        &self,
        (document, within): (usize, &Path),
        owner: &Owner,
        warning: &Warning,
    ) -> Diagnostic {
        let path = within.join(&warning.path);
        let problem = warning.message.clone();
        self.said((document, &path), owner, code(warning), problem)
    }

    fn said(
        &self,
        (document, path): (usize, &Path),
        owner: &Owner,
        code: Code,
        problem: String,
    ) -> Diagnostic {
        let place = self.stream.place(document, path);
        Diagnostic {
            field: path.to_string(),
            object: Some(named(owner).into()),
            ..diagnostic(&self.name, place, code, problem, "")
        }
    }

    /// What is said where the text cannot be changed.
    fn not_edited(&self, error: &EditError) -> Diagnostic {
        let (place, field, problem) = match error {
            EditError::Op(error) => (
                (0, 0),
                error.path.to_string(),
                format!("a change does not fit: {}", error.problem),
            ),
            EditError::Stuck(at, problem) => (
                self.stream.line_and_column(*at),
                String::new(),
                (*problem).to_owned(),
            ),
            EditError::Differs(document) => {
                let problem = "the document could not be changed without changing what else it \
                               says, as it is written";
                (
                    self.stream.place(*document, &Path::default()),
                    String::new(),
                    problem.to_owned(),
                )
            }
        };
        let advice = "write it in plainer YAML: lines in place of brackets, no \"?\" before keys, \
                      | in place of |+";
        Diagnostic {
            field,
            ..diagnostic(&self.name, place, Code::YamlFeature, problem, advice)
        }
    }
}

fn named(owner: &Owner) -> String {
    format!("{} {}/{}", owner.kind, owner.namespace, owner.name)
}

/// Istio's code where there is one.
fn code(warning: &Warning) -> Code {
    let same = |code: &&Code| Some(code.to_string().as_str()) == warning.code;
    Code::ALL
        .iter()
        .find(same)
        .copied()
        .unwrap_or(Code::InjectedWithDoubt)
}

fn diagnostic(
    file: &Arc<str>,
    (line, column): (u32, u32),
    code: Code,
    problem: String,
    advice: &str,
) -> Diagnostic {
    Diagnostic {
        line,
        column,
        ..Diagnostic::whole(Arc::clone(file), code, problem, advice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata:
      labels: {app: web} # who
    spec:
      # the application
      containers:
      - name: web
        image: web:1
";

    fn go(texts: &[&str]) -> Result<Injected, Diagnostics> {
        let name = |(nth, text)| Source {
            file: ["a.yaml", "b.yaml"][nth],
            text,
        };
        let sources: Vec<_> = texts.iter().copied().enumerate().map(name).collect();
        inject(&sources, &Settings::default(), "default")
    }

    #[test]
    fn a_pod_gets_its_sidecar_and_the_rest_of_the_text_stays() {
        let got = go(&[DEPLOYMENT]).unwrap();
        let mut rest = got.texts[0].lines();
        for line in DEPLOYMENT.lines() {
            assert!(
                line.contains("labels:") || rest.any(|other| other == line),
                "{line} is lost in\n{}",
                got.texts[0]
            );
        }
        assert!(got.texts[0].contains("sortie-proxy"), "{}", got.texts[0]);
        assert_eq!(got.objects[0].fate, Fate::Injected);
        assert_eq!(
            (got.objects[0].line, got.objects[0].namespace.as_str()),
            (1, "shop")
        );
    }

    #[test]
    fn twice_is_once_byte_for_byte() {
        let once = go(&[DEPLOYMENT]).unwrap().texts.remove(0);
        let twice = go(&[&once]).unwrap();
        assert_eq!(twice.texts[0], once);
        assert_eq!(twice.objects[0].fate, Fate::LeftAlone(LeftAlone::Same));
    }

    #[test]
    fn objects_without_a_pod_pass_through() {
        let text = "# s\napiVersion: v1\nkind: Service\nmetadata: {name: s}\n---\n---\n# end\n";
        let got = go(&[text]).unwrap();
        assert_eq!(got.texts, [text]);
        assert_eq!(got.objects.len(), 1);
        assert_eq!(got.objects[0].fate, Fate::NoPod);
    }

    #[test]
    fn one_mistake_in_one_file_keeps_all_from_being_written() {
        let said = go(&[DEPLOYMENT, "apiVersion: v1\n---\na: 1\n"])
            .unwrap_err()
            .to_string();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 3, "{said}");
        assert!(
            lines[0].starts_with("b.yaml:1:1: error[SRT0102] there is no kind;"),
            "{said}"
        );
        assert!(
            lines[1].starts_with("b.yaml:3:1: error[SRT0102] there is no kind;"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_yaml_is_said_as_by_check() {
        let said = go(&["a: [1\n"]).unwrap_err().to_string();
        assert!(
            said.starts_with("a.yaml:") && said.contains("error[SRT0004]"),
            "{said}"
        );
        let said = go(&["a: 1\na: 2\n"]).unwrap_err().to_string();
        assert!(said.starts_with("a.yaml:2:1: error[SRT0005] a:"), "{said}");
    }

    #[test]
    fn a_refusal_names_file_line_and_path() {
        let bad = DEPLOYMENT.replace(
            "      labels: {app: web} # who\n",
            "      annotations:\n        sidecar.istio.io/userVolume: '['\n",
        );
        let said = go(&[&bad]).unwrap_err().to_string();
        assert!(said.starts_with("a.yaml:8:9: error[SRT0601]"), "{said}");
        assert!(said.contains("sidecar.istio.io/userVolume"), "{said}");
        assert!(said.contains("Deployment shop/web"), "{said}");
    }

    #[test]
    fn a_namespace_among_the_objects_says_its_labels() {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{istio-injection: \
             disabled}}}}\n---\n{DEPLOYMENT}"
        );
        let settings = Settings {
            policy: super::super::super::settings::Policy::Labels { otherwise: true },
            ..Settings::default()
        };
        let source = Source {
            file: "a.yaml",
            text: &text,
        };
        let got = inject(&[source], &settings, "default").unwrap();
        let why = LeftAlone::NamespaceSaysNo("shop".to_owned());
        assert_eq!(got.objects[1].fate, Fate::LeftAlone(why));
        assert_eq!(got.texts, [text]);
    }
}
