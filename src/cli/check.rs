//! `sortie check`: everything that `run` would refuse or warn of, all at once.
//!
//! Owns: its arguments, its exit codes, and how diagnostics are printed.
//! Never: changes anything, or opens a socket.
//! Called by: cli.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::facts::FactsArgs;
use super::material;
use crate::config::{self, Code, Diagnostics, LoadOptions};
use crate::model::Config;

/// Check configuration and certificate files, and say everything that is wrong with them
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 sound, 1 something is wrong, 64 bad usage.")]
pub struct Args {
    /// Files or folders, as for `run --config`
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Print the diagnostics as one JSON object
    #[arg(long)]
    pub json: bool,
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
            return ExitCode::from(super::command::USAGE);
        }
    };
    let (config, diagnostics) = examine(&args, &options);
    let text = match args.json {
        true => match serde_json::to_string_pretty(&diagnostics) {
            Ok(json) => json + "\n",
            Err(_) => return ExitCode::FAILURE,
        },
        false => report(&config, &diagnostics),
    };
    let printed = std::io::stdout().write_all(text.as_bytes()).is_ok();
    let missing = args.paths.iter().any(|path| !path.exists());
    match (missing, diagnostics.has_errors() || !printed) {
        (true, _) => ExitCode::from(super::command::USAGE),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    }
}

fn examine(args: &Args, options: &LoadOptions) -> (Config, Diagnostics) {
    let inspected = config::inspect(&args.paths, options);
    let mut diagnostics = inspected.diagnostics;
    let whole = !diagnostics.has_errors();
    diagnostics.append(material::check(&inspected.config, whole));
    if args.strict {
        diagnostics.raise();
    }
    (inspected.config, diagnostics)
}

/// One line for each diagnostic, and one in the end.
fn report(config: &Config, diagnostics: &Diagnostics) -> String {
    let counted = |n: usize, one: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {one}s"),
    };
    let mut text = match diagnostics.is_empty() {
        true => String::new(),
        false => format!("{diagnostics}\n"),
    };
    let (errors, warnings) = (diagnostics.error_count(), diagnostics.warning_count());
    if diagnostics.has_errors() {
        let errors = counted(errors, "error");
        text.push_str(&format!("{errors}, {}\n", counted(warnings, "warning")));
        return text;
    }
    let hosts = config.hosts.iter().map(|group| group.hosts.len()).sum();
    text.push_str(&format!(
        "ok: {}, {}, {}; {}\n",
        counted(hosts, "host"),
        counted(config.upstreams.len(), "upstream"),
        counted(config.credentials().len(), "credential"),
        match diagnostics.iter().any(|d| d.code == Code::FileMissing) {
            true => counted(warnings, "warning") + ", and files that are missing were not checked",
            false => counted(warnings, "warning"),
        }
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn args(path: &Path) -> Args {
        Args {
            paths: vec![path.to_owned()],
            json: false,
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
        let (config, diagnostics) = examine(&args(&path), &LoadOptions::default());
        assert_eq!(
            report(&config, &diagnostics),
            "ok: 1 host, 1 upstream, 0 credentials; 0 warnings\n"
        );
        assert_eq!(code(run(args(&path))), code(ExitCode::SUCCESS));
    }

    #[test]
    fn mistakes_give_1_and_a_path_that_does_not_exist_gives_64() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, "routes: [{host: a, upstream: a}]\nfoo: 1\n").unwrap();
        let (config, diagnostics) = examine(&args(&path), &LoadOptions::default());
        assert!(report(&config, &diagnostics).ends_with("\n2 errors, 0 warnings\n"));
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
}
