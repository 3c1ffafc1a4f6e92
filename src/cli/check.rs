//! `sortie check`: everything that `run` would refuse or warn of, all at once.
//!
//! Owns: its arguments, its exit codes (ISTIO.md X11), and how diagnostics are printed.
//! Never: changes anything but the SARIF file that it is told to write, or opens a socket.
//! Called by: cli.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::command::USAGE;
use super::facts::FactsArgs;
use super::material;
use super::sarif::sarif;
use crate::config::{self, Code, Diagnostics, Inspected, LoadOptions};
use crate::model::Refused;

/// Check configuration and certificate files, and say everything that is wrong with them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 sound, warnings or not; 1 something is wrong, or with --strict \
                        doubtful; 64 bad usage."
)]
pub struct Args {
    /// Files or folders, as for `run --config`
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print the diagnostics as one JSON object
    #[arg(long)]
    pub json: bool,
    /// Write the diagnostics as SARIF 2.1.0 to this file, or instead of the report with -
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Who the proxy is
    #[command(flatten)]
    pub facts: FactsArgs,
}

/// Checks; exit code 0, 1 (something is wrong), or 64 (a path that does not exist).
pub fn run(args: Args) -> ExitCode {
    let options = match args.facts.options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("sortie: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let instead = args.sarif.as_deref() == Some(Path::new("-"));
    if instead && args.json {
        eprintln!("sortie: --json and --sarif - both want standard output; write --sarif FILE");
        return ExitCode::from(USAGE);
    }
    let inspected = examine(&args, &options);
    let diagnostics = &inspected.diagnostics;
    let log = args.sarif.as_deref().map(|path| (path, log(diagnostics)));
    let text = match (&log, args.json) {
        (Some((_, log)), _) if instead => log.clone(),
        (_, true) => match serde_json::to_string_pretty(diagnostics) {
            Ok(json) => json + "\n",
            Err(_) => return ExitCode::FAILURE,
        },
        (_, false) => report(&inspected),
    };
    let mut printed = std::io::stdout().write_all(text.as_bytes()).is_ok();
    if let Some((path, log)) = log.filter(|_| !instead)
        && let Err(error) = std::fs::write(path, log)
    {
        eprintln!("sortie: --sarif {}: {error}", path.display());
        printed = false;
    }
    let missing = args.paths.iter().any(|path| !path.exists());
    match (missing, diagnostics.has_errors() || !printed) {
        (true, _) => ExitCode::from(USAGE),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    }
}

fn log(diagnostics: &Diagnostics) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    format!("{:#}\n", sarif(diagnostics, &here))
}

fn examine(args: &Args, options: &LoadOptions) -> Inspected {
    let mut inspected = config::inspect(&args.paths, options);
    let diagnostics = &mut inspected.diagnostics;
    // With single objects refused the rest is served, and so it must be whole.
    let whole = !diagnostics.is_fatal();
    diagnostics.append(material::check(&inspected.config, whole));
    if args.strict {
        diagnostics.raise();
    }
    inspected
}

/// One line for each diagnostic, and a summary in the end.
fn report(inspected: &Inspected) -> String {
    let diagnostics = &inspected.diagnostics;
    let mut text = match diagnostics.is_empty() {
        true => String::new(),
        false => format!("{diagnostics}\n"),
    };
    let unchecked = |d: &&config::Diagnostic| d.code == Code::NameUnchecked;
    let unchecked = diagnostics.iter().filter(unchecked).count();
    if unchecked > 0 {
        let names = counted(unchecked, "upstream");
        text.push_str(&format!(
            "unchecked by Istio: the server's name for {names}; --name-check enforce checks it\n"
        ));
    }
    let warnings = counted(diagnostics.warning_count(), "warning");
    if diagnostics.has_errors() {
        let errors = counted(diagnostics.error_count(), "error");
        text.push_str(&format!("{errors}, {warnings}{}\n", refused(inspected)));
        return text;
    }
    text.push_str(&format!("ok: {}; {warnings}", counts(inspected)));
    if diagnostics.iter().any(|d| d.code == Code::FileMissing) {
        text.push_str(", and files that are missing were not checked");
    }
    text.push('\n');
    text
}

fn counted(n: usize, one: &str) -> String {
    match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    }
}

/// `3 hosts, 2 upstreams, 1 credential, from ServiceEntry 1, VirtualService 2`.
fn counts(inspected: &Inspected) -> String {
    let config = &inspected.config;
    let entrances = || config.entrances.iter();
    let groups = entrances().flat_map(|one| &one.hosts);
    let groups = config.hosts.iter().chain(groups);
    let hosts = groups.map(|group| group.hosts.len()).sum();
    let streams: usize = entrances().map(|one| one.streams.len()).sum();
    let streams = config.streams.len() + streams;
    let mut parts = vec![counted(hosts, "host")];
    if streams > 0 {
        parts.push(counted(streams, "stream"));
    }
    if !config.entrances.is_empty() {
        parts.push(counted(config.entrances.len(), "entrance"));
    }
    parts.push(counted(config.upstreams.len(), "upstream"));
    parts.push(counted(config.credentials().len(), "credential"));
    let mut text = parts.join(", ");
    if !inspected.objects.is_empty() {
        let kind = |(kind, count): &(&str, usize)| format!("{kind} {count}");
        let kinds: Vec<String> = inspected.objects.iter().map(kind).collect();
        text.push_str(&format!(" from {}", kinds.join(", ")));
    }
    text
}

/// What would become of it all, where single objects are refused and where everything is.
fn refused(inspected: &Inspected) -> String {
    if inspected.diagnostics.is_fatal() || inspected.config.refused.is_empty() {
        return String::new();
    }
    let name = |refused: &Refused| format!("{} ({})", refused.object, refused.place);
    let names: Vec<String> = inspected.config.refused.iter().map(name).collect();
    let list = names.join(", ");
    format!("; refused: {list}: what they govern would answer 503, the rest would be served")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;
    use crate::model::{Config, HostPattern, HostRoutes, Place, UpstreamSpec};

    fn args(path: &Path) -> Args {
        Args {
            paths: vec![path.to_owned()],
            json: false,
            sarif: None,
            strict: false,
            facts: FactsArgs::default(),
        }
    }

    fn code(code: ExitCode) -> String {
        format!("{code:?}")
    }

    const SOUND: &str = "upstreams: [{name: a, endpoints: a:1, tls: {mode: disable}}]\nroutes: \
                         [{host: a, upstream: a}]\n";

    #[test]
    fn sound_files_give_0_and_a_line_that_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, SOUND).unwrap();
        let inspected = examine(&args(&path), &LoadOptions::default());
        assert_eq!(
            report(&inspected),
            "ok: 1 host, 1 upstream, 0 credentials; 0 warnings\n"
        );
        assert_eq!(code(run(args(&path))), code(ExitCode::SUCCESS));
    }

    #[test]
    fn mistakes_give_1_and_a_path_that_does_not_exist_gives_64() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "routes: [{host: a, upstream: a}]\nfoo: 1\n").unwrap();
        let inspected = examine(&args(&path), &LoadOptions::default());
        assert!(report(&inspected).ends_with("\n2 errors, 0 warnings\n"));
        assert_eq!(code(run(args(&path))), code(ExitCode::FAILURE));
        let gone = dir.path().join("gone.yaml");
        assert_eq!(code(run(args(&gone))), code(ExitCode::from(64)));
    }

    #[test]
    fn warnings_give_0_and_with_strict_1() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "unknownHosts: refuse\n").unwrap();
        assert_eq!(code(run(args(&path))), code(ExitCode::SUCCESS));
        let strict = Args {
            strict: true,
            ..args(&path)
        };
        assert_eq!(code(run(strict)), code(ExitCode::FAILURE));
    }

    #[test]
    fn u4_a_kind_that_means_nothing_is_no_error_with_strict_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        let text = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r}\n\
                    ---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: \
                    s}\nspec: {hosts: [a.example], resolution: DNS, ports: [{number: 80, name: \
                    http, protocol: HTTP}]}\n";
        std::fs::write(&path, text).unwrap();
        let strict = Args {
            strict: true,
            ..args(&path)
        };
        assert_eq!(code(run(strict)), code(ExitCode::SUCCESS));
    }

    fn of(
        config: Config,
        diagnostics: Diagnostics,
        objects: &[(&'static str, usize)],
    ) -> Inspected {
        Inspected {
            config,
            diagnostics,
            objects: objects.to_vec(),
            files: Vec::new(),
        }
    }

    fn said(code: Code, object: Option<&str>) -> config::Diagnostic {
        config::Diagnostic {
            file: "dr.yaml".into(),
            line: 9,
            column: 3,
            field: String::new(),
            object: object.map(Into::into),
            code,
            severity: code.severity(),
            problem: "no".to_owned(),
            advice: String::new(),
        }
    }

    #[test]
    fn the_summary_counts_objects_and_names_istio_would_not_check() {
        let config = Config {
            hosts: vec![HostRoutes {
                hosts: vec![HostPattern::Any].into(),
                port: None,
                rules: Vec::new().into(),
                object: None,
                place: Place::default(),
            }],
            upstreams: vec![UpstreamSpec::new("a"), UpstreamSpec::new("b")],
            ..Config::default()
        };
        let warned = said(Code::NameUnchecked, Some("DestinationRule default/bank"));
        let objects = [("VirtualService", 1), ("DestinationRule", 2)];
        let text = report(&of(config, [warned].into_iter().collect(), &objects));
        assert!(text.ends_with(
            "\nunchecked by Istio: the server's name for 1 upstream; --name-check enforce checks it\n\
             ok: 1 host, 2 upstreams, 0 credentials from VirtualService 1, DestinationRule 2; 1 \
             warning\n"
        ), "{text}");
    }

    #[test]
    fn x1_refused_objects_are_listed_unless_everything_is_refused() {
        let config = || Config {
            refused: vec![Refused {
                object: "DestinationRule default/bank".into(),
                place: Place {
                    file: "dr.yaml".into(),
                    line: 9,
                },
                reason: "no".into(),
            }],
            ..Config::default()
        };
        let one = said(
            Code::PortLevelDropsTls,
            Some("DestinationRule default/bank"),
        );
        assert_eq!(one.severity, Severity::Error);
        let text = report(&of(config(), [one.clone()].into_iter().collect(), &[]));
        assert!(text.ends_with(
            "\n1 error, 0 warnings; refused: DestinationRule default/bank (dr.yaml:9): what they \
             govern would answer 503, the rest would be served\n"
        ), "{text}");
        let all = said(Code::Syntax, None);
        let text = report(&of(config(), [one, all].into_iter().collect(), &[]));
        assert!(text.ends_with("\n2 errors, 0 warnings\n"), "{text}");
    }

    #[test]
    fn x11_a_dangling_reference_gives_1_and_a_doubtful_object_0() {
        let fails = |code| {
            of(
                Config::default(),
                [said(code, Some("a b/c"))].into_iter().collect(),
                &[],
            )
            .diagnostics
            .has_errors()
        };
        for code in [
            Code::ReferenceNotFound,
            Code::HostClaimedTwice,
            Code::SeveralDefaultSidecars,
            Code::DestinationNeedsPort,
            Code::GatewaysConflict,
        ] {
            assert!(fails(code), "{code}");
        }
        for code in [
            Code::FileMissing,
            Code::UnreachableRule,
            Code::SubsetSelectsNothing,
        ] {
            assert!(!fails(code), "{code}");
        }
    }

    #[test]
    fn sarif_goes_to_a_file_beside_the_report_and_not_with_json_to_one_output() {
        let dir = tempfile::tempdir().unwrap();
        let (path, log) = (dir.path().join("a.yaml"), dir.path().join("log.sarif"));
        std::fs::write(&path, "unknownHosts: refuse\n").unwrap();
        let with = Args {
            sarif: Some(log.clone()),
            ..args(&path)
        };
        assert_eq!(code(run(with)), code(ExitCode::SUCCESS));
        let text = std::fs::read_to_string(&log).unwrap();
        let log: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(log["runs"][0]["results"][0]["ruleId"], "SRT0305");
        let both = Args {
            sarif: Some("-".into()),
            json: true,
            ..args(&path)
        };
        assert_eq!(code(run(both)), code(ExitCode::from(64)));
        let nowhere = Args {
            sarif: Some(dir.path().join("no/folder.sarif")),
            ..args(&path)
        };
        assert_eq!(code(run(nowhere)), code(ExitCode::FAILURE));
    }
}
