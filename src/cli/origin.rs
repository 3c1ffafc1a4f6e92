//! Where a listing comes from: configuration files, or a running proxy.
//!
//! Owns: the arguments `--config` and `--admin`, which `routes`, `certs` and `explain` share.
//! Never: prints a table.
//! Called by: `cli::routes`, `cli::certs`, `cli::explain`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::client;
use super::facts::FactsArgs;
use crate::config::{self, Loaded};

/// Where `run` listens unless told otherwise.
const DEFAULT_ADMIN: &str = "127.0.0.1:15000";

/// Which proxy to ask, or which files to read instead
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Origin {
    /// Read these files or folders instead of asking a running proxy; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "admin")]
    pub config: Vec<PathBuf>,
    /// Admin port of the running proxy [default: $SORTIE_ADMIN, else 127.0.0.1:15000]
    // Read by hand below: clap would see a conflict between the variable and --config.
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Who the proxy is, where files are read
    #[command(flatten)]
    pub facts: FactsArgs,
}

/// What an [`Origin`] gave.
pub enum Source {
    /// The files, validated.
    Files(Box<Loaded>),
    /// The body of the page.
    Page(String),
}

impl Origin {
    /// Reads the files, or `page` of the running proxy.
    ///
    /// # Errors
    /// The exit code, everything having been said on standard error: 64 for files that are
    /// refused, 1 for a proxy that does not answer.
    pub fn read(&self, page: &str) -> Result<Source, ExitCode> {
        if !self.config.is_empty() {
            let options = self.facts.options().map_err(|error| {
                say(&error);
                ExitCode::from(64)
            })?;
            return match config::load(&self.config, &options) {
                Ok(loaded) => Ok(Source::Files(Box::new(loaded))),
                Err(diagnostics) => {
                    say(&diagnostics);
                    Err(ExitCode::from(64))
                }
            };
        }
        let variable = || {
            std::env::var("SORTIE_ADMIN")
                .ok()
                .filter(|text| !text.is_empty())
        };
        let address = self.admin.clone().or_else(variable);
        let address = address.unwrap_or_else(|| DEFAULT_ADMIN.to_owned());
        client::fetch(&address, page)
            .map(Source::Page)
            .map_err(|error| {
                say(&error);
                ExitCode::FAILURE
            })
    }
}

/// One message on standard error. Where nobody takes it, the exit code must do.
pub(super) fn say(message: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Says that a page cannot be read back: another version answered.
pub fn unreadable(error: &serde_json::Error) -> ExitCode {
    let words = "the answer of the admin port cannot be read";
    say(&format_args!(
        "{words} ({error}); is it the same version of sortie?"
    ));
    ExitCode::FAILURE
}

/// What printing came to. A reader that has gone away, as behind `| head`, is a failure without
/// words.
pub fn printed(whole: bool) -> ExitCode {
    match whole {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}
