//! `sortie install`: Kubernetes manifests that run sortie, for `kubectl apply -f -`.
//!
//! Owns: its arguments, reading the configuration, and where the manifests go.
//! Never: knows what a manifest holds (that is `install`), or talks to a cluster.
//! Called by: cli.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::command::USAGE;
use super::table::{self, Table};
use crate::config;
use crate::install::{self, ConfigFile, GATEWAY, GatewaySettings, INJECTOR, Key};

/// Bytes above which `kubectl apply` cannot keep a document in its annotation.
const APPLIES: usize = 256 * 1024;

/// Print Kubernetes manifests that run sortie, ready to apply
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 printed, 1 the configuration has mistakes or cannot be installed, \
                  64 bad usage.\n\nExample: sortie install gateway --config mesh/ | kubectl apply \
                  -f -"
)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Gateway(GatewayArgs),
    Injector(InjectorArgs),
}

/// A gateway: many applications call it, and it speaks mutual TLS for them, or the other way round
#[derive(Debug, clap::Args)]
#[command(after_help = after(GATEWAY))]
struct GatewayArgs {
    /// What it serves: a file, or a folder of *.yaml, *.yml and *.json; repeatable
    #[arg(long, short, value_name = "PATH")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// The injector: pods that ask get their sidecar when they are made
#[derive(Debug, clap::Args)]
#[command(after_help = after(INJECTOR))]
struct InjectorArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Change the manifests; repeatable. KEY=@FILE reads the value, `list` alone prints every key
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Where it is to run
    #[arg(
        long,
        short,
        value_name = "NS",
        default_value = "sortie-system",
        value_parser = namespace
    )]
    namespace: String,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn namespace(text: &str) -> Result<String, String> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=63).contains(&text.len()) && text.bytes().all(plain) && edges {
        true => Ok(text.to_owned()),
        false => Err("a namespace has 1 to 63 of a-z, 0-9 and -".to_owned()),
    }
}

fn after<T>(keys: &[Key<T>]) -> String {
    format!("Keys of --set:\n\n{}", list(keys, false))
}

fn list<T>(keys: &[Key<T>], bold: bool) -> String {
    let mut table = Table::new(&["KEY", "DEFAULT", "MEANING"]);
    for key in keys {
        let cells = [key.name, key.default, key.meaning];
        table.row(cells.map(str::to_owned));
    }
    table.render(bold)
}

/// Prints; exit code 0, 1 (what is to be installed has mistakes) or 64 (the command line has).
pub fn run(args: Args) -> ExitCode {
    match args.what {
        What::Gateway(args) => gateway(args),
        What::Injector(args) => injector(&args.common),
    }
}

fn gateway(args: GatewayArgs) -> ExitCode {
    let common = &args.common;
    if common.set.iter().any(|set| set == "list") {
        return printed(table::print(&list(GATEWAY, table::bold())));
    }
    let settings = match filled(GATEWAY, &common.set) {
        Ok(settings) => settings,
        Err(mistakes) => return refused(USAGE, &mistakes),
    };
    if args.config.is_empty() == settings.config.is_none() {
        let words = "say what it serves, in one way: --config PATH, or --set config=NAME for a \
                     ConfigMap that exists";
        return refused(USAGE, &[words]);
    }
    let text = match gateway_text(&args, &settings) {
        Ok(text) => text,
        Err(problems) => return refused(1, &problems),
    };
    if text.len() > APPLIES {
        eprintln!("sortie: the ConfigMap is large: apply it with kubectl apply --server-side");
    }
    deliver(common.output.as_deref(), &text)
}

fn injector(common: &Common) -> ExitCode {
    if common.set.iter().any(|set| set == "list") {
        return printed(table::print(&list(INJECTOR, table::bold())));
    }
    let settings = match filled(INJECTOR, &common.set) {
        Ok(settings) => settings,
        Err(mistakes) => return refused(USAGE, &mistakes),
    };
    match install::injector(&common.namespace, &settings) {
        Ok(text) => deliver(common.output.as_deref(), &text),
        Err(problems) => refused(USAGE, &problems),
    }
}

/// The settings; `KEY=@FILE` is what the file holds.
fn filled<T: Default>(table: &[Key<T>], sets: &[String]) -> Result<T, Vec<String>> {
    let read = |set: &String| match set.split_once("=@") {
        Some((key, file)) if !key.contains('=') => match read(Path::new(file)) {
            Ok(file) => Ok(format!("{key}={}", file.text)),
            Err(problem) => Err(vec![format!("--set {set}: {problem}")]),
        },
        _ => Ok(set.clone()),
    };
    let sets: Result<Vec<String>, Vec<String>> = sets.iter().map(read).collect();
    install::fill(table, &sets?)
}

fn gateway_text(args: &GatewayArgs, settings: &GatewaySettings) -> Result<String, Vec<String>> {
    let namespace = &args.common.namespace;
    let files = files(&args.config)?;
    let inspected = match args.config.is_empty() {
        true => None,
        false => {
            let options = install::load_options(namespace, settings);
            let inspected = config::inspect(&args.config, &options);
            if !inspected.diagnostics.is_empty() {
                eprintln!("{}", inspected.diagnostics);
            }
            if inspected.diagnostics.has_errors() {
                let words = "the configuration has mistakes; nothing was printed";
                return Err(vec![words.to_owned()]);
            }
            Some(inspected)
        }
    };
    let needs = install::needs(namespace, settings, &files, inspected.as_ref())?;
    for warning in &needs.warnings {
        eprintln!("sortie: warning: {warning}");
    }
    Ok(install::gateway(namespace, settings, &files, &needs))
}

/// The texts of every file that counts. What cannot be read as a configuration is told by `config`.
fn files(paths: &[PathBuf]) -> Result<Vec<ConfigFile>, Vec<String>> {
    let mut all = Vec::new();
    for path in paths {
        let found = config::files(path);
        let found = found.map_err(|error| vec![format!("{}: {error}", path.display())])?;
        for file in found {
            all.push(
                read(&file).map_err(|problem| vec![format!("{}: {problem}", file.display())])?,
            );
        }
    }
    Ok(all)
}

fn read(path: &Path) -> Result<ConfigFile, String> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name
        .ok_or("expected a file whose name is UTF-8")?
        .to_owned();
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !meta.is_file() {
        return Err("expected a file".to_owned());
    }
    if meta.len() > install::MOST as u64 {
        let most = install::MOST;
        return Err(format!(
            "{} bytes are more than the {most} that a ConfigMap holds",
            meta.len()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    Ok(ConfigFile { name, text })
}

fn refused(code: u8, problems: &[impl Display]) -> ExitCode {
    for problem in problems {
        eprintln!("sortie: {problem}");
    }
    ExitCode::from(code)
}

fn deliver(output: Option<&Path>, text: &str) -> ExitCode {
    match output.filter(|path| *path != Path::new("-")) {
        None => printed(table::print(text)),
        Some(path) => match std::fs::write(path, text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refused(1, &[format!("--output {}: {error}", path.display())]),
        },
    }
}

fn printed(whole: bool) -> ExitCode {
    match whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
