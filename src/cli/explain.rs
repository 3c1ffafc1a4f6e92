//! `sortie explain`: why a request goes where it goes, with the document behind every step.
//!
//! Owns: its arguments, its exit codes, and how the steps are laid out.
//! Never: decides where a request goes (it asks the table that the proxy would ask).
//! Called by: cli.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use super::command::USAGE;
use super::origin::{Origin, Source, printed, say, unreadable};
use super::table::{bold, print};
use crate::certs::CertStore;
use crate::config::Loaded;
use crate::explain::{Asked, Branch, Explanation, Known, Question, Step, explain};
use crate::publish;
use crate::telemetry::Metrics;
use crate::upstream::{OwnAddrs, Resolver, UpstreamContext};

/// A step longer than this has its document on a line of its own.
const WIDEST: usize = 72;
/// Between two columns.
const GAP: usize = 2;

/// Say why a request goes where it goes, step by step, with the document behind each
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 routed, 1 not served (no route, or the route is broken), 64 bad \
                        usage or configuration."
)]
pub struct Args {
    /// http://HOST/PATH as the application asks for it; https://HOST for TLS of its own;
    /// tcp://HOST:PORT for any other bytes
    #[arg(value_name = "URL")]
    pub url: String,
    /// The method
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    pub method: String,
    /// A header of the request, "Name: value"; repeatable
    #[arg(long, short = 'H', value_name = "HEADER")]
    pub header: Vec<String>,
    /// The connection was captured on its way to this address
    #[arg(long, value_name = "IP[:PORT]")]
    pub captured: Option<String>,
    /// The client's address, for routes of some networks alone [default: 127.0.0.1]
    #[arg(long, value_name = "IP")]
    pub from: Option<String>,
    /// It comes to this port of a Gateway (port.number); https:// is TLS as a sidecar speaks it
    #[arg(long, value_name = "NUMBER")]
    pub gateway: Option<String>,
    /// It comes to this port of the application beside sortie (needs --inbound with --config);
    /// https:// is TLS as a sidecar speaks it
    #[arg(long = "to-port", value_name = "PORT", conflicts_with = "gateway")]
    pub to_port: Option<String>,
    /// As from a pod with these labels instead of --labels; with --config
    #[arg(
        long,
        value_name = "K=V",
        value_delimiter = ',',
        conflicts_with = "admin"
    )]
    pub from_labels: Vec<String>,
    /// Which proxy to ask, or which files to read
    #[command(flatten)]
    pub origin: Origin,
}

/// Explains; exit code 0 (routed), 1 (not served, or the proxy does not answer), 64.
pub fn run(mut args: Args) -> ExitCode {
    if !args.from_labels.is_empty() {
        if args.origin.config.is_empty() {
            say(
                &"--from-labels: a running proxy has the labels that it was started with; read its \
                  files with --config",
            );
            return ExitCode::from(USAGE);
        }
        args.origin.facts.labels_file = None;
        args.origin.facts.labels = std::mem::take(&mut args.from_labels);
    }
    let asked = Asked {
        url: args.url,
        method: args.method,
        headers: args.header,
        captured: args.captured,
        from: args.from,
        gateway: args.gateway,
        inbound: args.to_port,
    };
    let question = match Question::parse(&asked) {
        Ok(question) => question,
        Err(problem) => {
            say(&problem);
            return ExitCode::from(USAGE);
        }
    };
    let explanation = match args.origin.read(&format!("/explain?{}", asked.to_query())) {
        Err(code) => return code,
        Ok(Source::Page(page)) => match serde_json::from_str::<Explanation>(&page) {
            Ok(explanation) => explanation,
            Err(error) => return unreadable(&error),
        },
        Ok(Source::Files(loaded)) => match from_files(&loaded, &question) {
            Ok(explanation) => explanation,
            Err(code) => return code,
        },
    };
    let text = match args.origin.json {
        false => laid_out(&explanation, bold()),
        true => match serde_json::to_string_pretty(&explanation) {
            Ok(text) => text + "\n",
            Err(error) => return unreadable(&error),
        },
    };
    match (print(&text), explanation.outcome.served) {
        (true, true) => printed(true),
        _ => ExitCode::FAILURE,
    }
}

/// Builds what would be served, and asks it. No task of it ever runs, as nothing drives the runtime.
fn from_files(loaded: &Loaded, question: &Question) -> Result<Explanation, ExitCode> {
    let refused = loaded.config.refused.len();
    let subject = match refused {
        0 => String::new(),
        1 => "1 object is refused, and what it governs fails".to_owned(),
        n => format!("{n} objects are refused, and what they govern fails"),
    };
    if refused > 0 {
        say(&format_args!("{subject}; sortie check says why"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| {
        say(&error);
        ExitCode::FAILURE
    })?;
    let _inside = runtime.enter();
    let metrics = Metrics::new(1);
    let mut store = CertStore::new(Arc::clone(&metrics));
    store.set(loaded.config.credentials());
    store.check(SystemTime::now());
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(runtime.handle().clone()),
        own: OwnAddrs::new(),
        metrics,
    };
    match publish::build(&loaded.config, &store.current(), None, &context, 1) {
        Ok(snapshot) => {
            let known = Known {
                snapshot: &snapshot,
                config: &loaded.config,
                files_are_elsewhere: true,
            };
            Ok(explain(question, &known))
        }
        Err(errors) => {
            for error in errors {
                say(&error);
            }
            Err(ExitCode::from(USAGE))
        }
    }
}

/// The steps in columns: what, how, and the document.
fn laid_out(explanation: &Explanation, bold: bool) -> String {
    let branches = explanation
        .destinations
        .iter()
        .flat_map(|branch| &branch.steps);
    let all: Vec<&Step> = explanation.steps.iter().chain(branches).collect();
    let width = |text: &str| text.chars().count();
    let what = all.iter().map(|step| width(&step.what)).max().unwrap_or(0);
    let known = all.iter().filter(|step| step.place().is_some());
    let how = known
        .map(|step| width(&step.how))
        .filter(|width| *width <= WIDEST);
    let names = explanation
        .destinations
        .iter()
        .map(|branch| branch.upstream.as_str());
    let objects = all
        .iter()
        .filter_map(|step| step.object.as_deref())
        .chain(names);
    let columns = Columns {
        what: what.max("outcome".len()) + GAP,
        how: how.max().unwrap_or(0) + GAP,
        object: objects.map(width).max().map_or(0, |width| width + GAP),
    };
    let mut out = match bold {
        true => format!(
            "\x1b[1m{}  {}\x1b[0m\n",
            clean(&explanation.url),
            explanation.method
        ),
        false => format!("{}  {}\n", clean(&explanation.url), explanation.method),
    };
    for step in &explanation.steps {
        columns.line(step, &mut out);
    }
    let several = explanation.destinations.len() > 1;
    for branch in &explanation.destinations {
        columns.branch(branch, several, &mut out);
    }
    if several {
        out.push('\n');
    }
    let whole = Step {
        what: "outcome".to_owned(),
        how: explanation.outcome.to_string(),
        ..Step::default()
    };
    columns.line(&whole, &mut out);
    out
}

struct Columns {
    what: usize,
    how: usize,
    object: usize,
}

impl Columns {
    fn branch(&self, branch: &Branch, several: bool, out: &mut String) {
        if several {
            out.push('\n');
        }
        for step in &branch.steps {
            // A cluster's name says more here than the object, which `endpoints` names again.
            let named = step.what == "destination" && !step.how.ends_with(&branch.upstream);
            match named {
                true => self.line(&with_name(step, &branch.upstream), out),
                false => self.line(step, out),
            }
        }
        if several {
            let outcome = Step {
                what: "outcome".to_owned(),
                how: branch.outcome.to_string(),
                ..Step::default()
            };
            self.line(&outcome, out);
        }
    }

    fn line(&self, step: &Step, out: &mut String) {
        let (what, how) = (clean(&step.what), clean(&step.how));
        let mut line = format!("{what:<width$}{how}", width = self.what);
        if let Some(place) = step.place() {
            let used = how.chars().count();
            let pad = match used + GAP <= self.how {
                true => self.how - used,
                false => {
                    line.push('\n');
                    self.what + self.how
                }
            };
            let object = clean(step.object.as_deref().unwrap_or_default());
            let (width, place) = (self.object, clean(&place));
            line.push_str(&format!("{:pad$}{object:<width$}{place}", ""));
        } else if let Some(object) = &step.object {
            line.push_str(&format!("  {}", clean(object)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
}

fn with_name(step: &Step, upstream: &str) -> Step {
    Step {
        object: Some(upstream.to_owned()),
        ..step.clone()
    }
}

/// Text that cannot break its line or talk to the terminal.
fn clean(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect()
}
