//! `sortie inject`: manifests in, the same manifests with the sidecar out.
//!
//! Owns: its arguments, where manifests come from and go to, and what is said of them.
//! Never: decides what is injected (that is `inject`), or talks to a cluster.
//! Called by: cli.

use std::collections::HashSet;
use std::fs;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::command::USAGE;
use super::inject_settings::SidecarArgs;
use super::replace::replace;
use super::table::{self, Table};
use crate::config::{self, Code, Diagnostic, Diagnostics};
use crate::inject::Policy;
use crate::inject::text::{Done, Fate, Injected, Source, inject};

/// The name of standard input and output.
const DASH: &str = "-";

/// Put the sidecar into the pods of Kubernetes manifests
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done; 1 a manifest is wrong, or cannot be written: nothing was; 64 \
                  bad usage.\n\nExample: sortie inject -f app.yaml | kubectl apply -f -"
)]
pub struct Args {
    /// Manifests: a file, a folder of *.yaml, *.yml and *.json, or - for standard input; repeatable
    #[arg(long = "filename", short = 'f', value_name = "PATH", default_value = DASH)]
    files: Vec<PathBuf>,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE", conflicts_with_all = ["in_place", "dry_run"])]
    output: Option<PathBuf>,
    /// Write each file back to where it was read
    #[arg(long, conflicts_with = "dry_run")]
    in_place: bool,
    /// Say what would become of each object, and write no manifest
    #[arg(long)]
    dry_run: bool,
    /// Report on standard output, as one JSON object; with --output, --in-place or --dry-run
    #[arg(long)]
    json: bool,
    /// Namespace of objects that do not say theirs
    #[arg(long, short, value_name = "NS", default_value = "default")]
    namespace: String,
    /// Who is injected: every pod that does not refuse, or as Istio those that are asked for by a
    /// label, their own or that of a Namespace among the manifests
    #[arg(long, value_name = "POLICY", default_value = "all", value_parser = ["all", "labelled"])]
    policy: String,
    #[command(flatten)]
    sidecar: SidecarArgs,
}

/// Injects; exit code 0, 1 (something is wrong, and nothing was written) or 64.
pub fn run(args: Args) -> ExitCode {
    if let Err(problem) = usable(&args) {
        eprintln!("sortie: {problem}");
        return ExitCode::from(USAGE);
    }
    let inputs = match Input::read_all(&args.files) {
        Ok(inputs) => inputs,
        Err(diagnostics) => return failed(&args, &diagnostics),
    };
    let mut settings = args.sidecar.settings();
    if args.policy == "labelled" {
        settings.policy = Policy::Labels { otherwise: false };
    }
    let sources: Vec<Source<'_>> = inputs.iter().map(Input::source).collect();
    let injected = match inject(&sources, &settings, &args.namespace) {
        Ok(injected) => injected,
        Err(diagnostics) => return failed(&args, &diagnostics),
    };
    if let Err(problem) = write(&args, &inputs, &injected.texts) {
        eprintln!("sortie: {problem}");
        return ExitCode::FAILURE;
    }
    match tell(&args, &inputs, &injected) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// What clap cannot see.
fn usable(args: &Args) -> Result<(), String> {
    let stdin = args
        .files
        .iter()
        .filter(|path| path.as_os_str() == DASH)
        .count();
    let to_stdout = args
        .output
        .as_deref()
        .is_none_or(|path| path.as_os_str() == DASH);
    let to_stdout = to_stdout && !args.in_place && !args.dry_run;
    if args.json && to_stdout {
        return Err(
            "--json and the manifests both want standard output; write the manifests with \
                    --output FILE or --in-place"
                .to_owned(),
        );
    }
    if args.in_place && stdin > 0 {
        return Err("--in-place needs files: name them with -f".to_owned());
    }
    if stdin > 1 {
        return Err("-f - is named twice, and standard input can be read once".to_owned());
    }
    for path in args.files.iter().filter(|path| path.as_os_str() != DASH) {
        if !path.exists() {
            return Err(format!(
                "there is no file or folder {}; a relative name starts at the working folder",
                path.display()
            ));
        }
    }
    Ok(())
}

fn failed(args: &Args, diagnostics: &Diagnostics) -> ExitCode {
    if args.json {
        if let Ok(json) = serde_json::to_string_pretty(diagnostics) {
            table::print(&(json + "\n"));
        }
    } else {
        eprintln!("{diagnostics}");
    }
    let errors = diagnostics.error_count();
    let errors = if errors == 1 {
        "1 error".to_owned()
    } else {
        format!("{errors} errors")
    };
    eprintln!("{errors}; nothing was written");
    ExitCode::FAILURE
}

/// A text, and where it came from.
struct Input {
    /// None for standard input.
    path: Option<PathBuf>,
    name: String,
    text: String,
}

impl Input {
    fn source(&self) -> Source<'_> {
        Source {
            file: &self.name,
            text: &self.text,
        }
    }

    fn read_all(paths: &[PathBuf]) -> Result<Vec<Input>, Diagnostics> {
        let mut all = Vec::new();
        let mut wrong = Diagnostics::new();
        let mut seen = HashSet::new();
        for path in paths {
            if path.as_os_str() == DASH {
                match Input::stdin() {
                    Ok(input) => all.push(input),
                    Err(diagnostics) => wrong.append(diagnostics),
                }
                continue;
            }
            let (texts, diagnostics) = config::read_texts(std::slice::from_ref(path));
            wrong.append(diagnostics);
            for (path, text) in texts {
                let real = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
                if seen.insert(real) {
                    let name = path.display().to_string();
                    all.push(Input {
                        path: Some(path),
                        name,
                        text,
                    });
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(all),
            false => {
                // An empty folder is no manifest either.
                wrong.raise();
                Err(wrong)
            }
        }
    }

    fn stdin() -> Result<Input, Diagnostics> {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            eprintln!(
                "sortie: reading manifests from this terminal, to the end with Ctrl-D; -f names \
                 files"
            );
        }
        let mut bytes = Vec::new();
        let bound = config::MAX_BYTES as u64 + 1;
        // What breaks off is not what was sent.
        if let Err(error) = stdin.lock().take(bound).read_to_end(&mut bytes) {
            return Err([broken(&error)].into_iter().collect());
        }
        let text = config::read_bytes(DASH, bytes)?;
        Ok(Input {
            path: None,
            name: DASH.to_owned(),
            text,
        })
    }
}

/// Standard input that breaks off.
fn broken(error: &io::Error) -> Diagnostic {
    let problem = format!("standard input cannot be read: {error}");
    Diagnostic::whole(DASH.into(), Code::Unreadable, problem, "")
}

/// Puts the texts where they belong.
fn write(args: &Args, inputs: &[Input], texts: &[String]) -> Result<(), String> {
    if args.dry_run {
        return Ok(());
    }
    if args.in_place {
        let changed = inputs
            .iter()
            .zip(texts)
            .filter(|(input, text)| input.text != **text);
        let changed = changed.filter_map(|(input, text)| Some((input.path.as_deref()?, &**text)));
        return replaced(&changed.collect::<Vec<_>>());
    }
    let all = joined(texts);
    match args
        .output
        .as_deref()
        .filter(|path| path.as_os_str() != DASH)
    {
        None => {
            let mut out = io::stdout().lock();
            let written = out.write_all(all.as_bytes()).and_then(|()| out.flush());
            written.map_err(|error| format!("standard output: {error}"))
        }
        // A pipe or device is written to, and not replaced.
        Some(path) if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) => {
            fs::write(path, all).map_err(|error| format!("{}: {error}", path.display()))
        }
        Some(path) => replaced(&[(path, &all)]),
    }
}

fn replaced(files: &[(&Path, &str)]) -> Result<(), String> {
    replace(files).map_err(|error| {
        let path = error.path.display();
        let done: Vec<_> = error
            .done
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        match done.is_empty() {
            true => format!("{path}: {}; no file was changed", error.source),
            false => format!(
                "{path}: {}; changed by then: {}",
                error.source,
                done.join(", ")
            ),
        }
    })
}

/// Several texts as one stream of documents; a single one as it is.
fn joined(texts: &[String]) -> String {
    let mut all = String::new();
    for text in texts {
        if all.is_empty() {
            all.push_str(text);
            continue;
        }
        let text = text.trim_start_matches('\u{feff}');
        if !all.ends_with('\n') {
            all.push('\n');
        }
        let said = |line: &&str| !line.trim_start().starts_with('#') && !line.trim().is_empty();
        let first = text.lines().find(said).unwrap_or_default();
        if first.starts_with('%') {
            all.push_str("...\n");
        } else if !first.starts_with("---") {
            all.push_str("---\n");
        }
        all.push_str(text);
    }
    all
}

/// Says what became of the objects. False where nobody takes it.
fn tell(args: &Args, inputs: &[Input], injected: &Injected) -> bool {
    let place = |done: &Done| {
        let name = inputs
            .get(done.source)
            .map_or(DASH, |input| input.name.as_str());
        format!("{name}:{}", done.line)
    };
    if args.json {
        let objects: Vec<Value> = injected
            .objects
            .iter()
            .map(|one| as_json(one, inputs))
            .collect();
        let report = json!({"objects": objects, "warnings": injected.warnings});
        return table::print(&format!("{report:#}\n"));
    }
    if !injected.warnings.is_empty() {
        eprintln!("{}", injected.warnings);
    }
    let mut table = Table::new(&["OBJECT", "PLACE", "RESULT"]);
    let mut pods = 0;
    for done in &injected.objects {
        let result = match &done.fate {
            Fate::Injected => "injected".to_owned(),
            Fate::LeftAlone(why) => format!("left alone: {why}"),
            Fate::NoPod => continue,
        };
        pods += 1;
        let object = format!("{} {}/{}", done.kind, done.namespace, done.name);
        table.row([object, place(done), result]);
    }
    if pods > 0 {
        eprint!("{}", table.render(false));
    }
    eprintln!("{}", summary(&injected.objects));
    true
}

/// `injected 2 of 5 objects; 1 left alone, 2 without a pod`.
fn summary(objects: &[Done]) -> String {
    let count = |is: fn(&Fate) -> bool| objects.iter().filter(|done| is(&done.fate)).count();
    let injected = count(|fate| *fate == Fate::Injected);
    let alone = count(|fate| matches!(fate, Fate::LeftAlone(_)));
    let none = count(|fate| *fate == Fate::NoPod);
    let noun = if objects.len() == 1 {
        "object"
    } else {
        "objects"
    };
    let mut rest = Vec::new();
    if alone > 0 {
        rest.push(format!("{alone} left alone"));
    }
    if none > 0 {
        rest.push(format!("{none} without a pod"));
    }
    let rest = if rest.is_empty() {
        String::new()
    } else {
        format!("; {}", rest.join(", "))
    };
    format!("injected {injected} of {} {noun}{rest}", objects.len())
}

fn as_json(done: &Done, inputs: &[Input]) -> Value {
    let (result, reason) = match &done.fate {
        Fate::Injected => ("injected", None),
        Fate::LeftAlone(why) => ("left-alone", Some(why.to_string())),
        Fate::NoPod => ("no-pod", None),
    };
    json!({
        "file": inputs.get(done.source).map(|input| &input.name),
        "line": done.line,
        "kind": done.kind,
        "name": done.name,
        "namespace": done.namespace,
        "result": result,
        "reason": reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(texts: &[&str]) -> String {
        joined(
            &texts
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn one_text_stays_as_it_is_and_several_become_documents() {
        assert_eq!(all(&["\u{feff}a: 1"]), "\u{feff}a: 1");
        assert_eq!(all(&["a: 1", "\u{feff}b: 1\n"]), "a: 1\n---\nb: 1\n");
        assert_eq!(
            all(&["a: 1\n", "# c\n---\nb: 1\n"]),
            "a: 1\n# c\n---\nb: 1\n"
        );
        assert_eq!(
            all(&["a: 1\n", "%YAML 1.2\n---\nb: 1\n"]),
            "a: 1\n...\n%YAML 1.2\n---\nb: 1\n"
        );
    }

    #[test]
    fn the_summary_counts_every_object() {
        let done = |fate| Done {
            source: 0,
            line: 1,
            kind: "Pod".to_owned(),
            name: "a".to_owned(),
            namespace: "n".to_owned(),
            fate,
        };
        assert_eq!(summary(&[done(Fate::Injected)]), "injected 1 of 1 object");
        let same = Fate::LeftAlone(crate::inject::LeftAlone::Same);
        let all = [done(Fate::Injected), done(same), done(Fate::NoPod)];
        assert_eq!(
            summary(&all),
            "injected 1 of 3 objects; 1 left alone, 1 without a pod"
        );
        assert_eq!(summary(&[]), "injected 0 of 0 objects");
    }
}
