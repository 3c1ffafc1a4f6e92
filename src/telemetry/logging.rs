//! The log for people: what goes to standard error, and how it looks.
//!
//! Owns: the filter, which can be changed while running, and the two formats.
//! Never: writes a secret; that is up to those who log.
//! Called by: cli (`install`), admin (`LogControl::set`).
//!
//! Why `Targets` and not `EnvFilter`: levels by module are all that is promised, and matching values of
//! spans would bring a second engine for regular expressions.

use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Registry, reload};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of words.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl std::str::FromStr for LogFormat {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(LogError::Format(text.to_owned())),
        }
    }
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Not a level and not directives.
    #[error(
        "\"{text}\" is neither a level (off, error, warn, info, debug, trace) nor a list of \
         directives such as info,sortie::upstream=debug: {source}"
    )]
    Filter {
        /// As given.
        text: String,
        /// The parser's words.
        source: ParseError,
    },
    /// Not a format.
    #[error("the log format \"{0}\" is not known; write text or json")]
    Format(String),
    /// Another subscriber is there already.
    #[error("logging has been set up before: {0}")]
    Twice(#[source] TryInitError),
    /// The subscriber is gone.
    #[error("the log filter can no longer be changed: {0}")]
    Gone(#[source] reload::Error),
}

/// Changes the filter while running.
#[derive(Clone)]
pub struct LogControl(Arc<reload::Handle<Targets, Registry>>);

impl fmt::Debug for LogControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogControl").field(&self.current()).finish()
    }
}

impl LogControl {
    /// Sets up logging for the whole process: once, by `main`'s command.
    pub fn install(level: &str, format: LogFormat) -> Result<LogControl, LogError> {
        let (filter, handle) = reload::Layer::new(filter(level)?);
        let terminal = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(colour(terminal, std::env::var_os("NO_COLOR").as_deref()));
        let registry = tracing_subscriber::registry().with(filter);
        let done = match format {
            LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        done.map_err(LogError::Twice)?;
        Ok(LogControl(Arc::new(handle)))
    }

    /// Takes another filter at once.
    pub fn set(&self, level: &str) -> Result<(), LogError> {
        self.0.reload(filter(level)?).map_err(LogError::Gone)
    }

    /// The filter in force, as directives.
    pub fn current(&self) -> String {
        let text = self.0.with_current(ToString::to_string);
        text.unwrap_or_default()
    }
}

/// A bare level means sortie's own log: the libraries below it say more than anybody wants to read
/// at `debug`, and some of it is the clients' data.
fn filter(text: &str) -> Result<Targets, LogError> {
    let directives = match text {
        "debug" | "trace" => format!("info,sortie={text}"),
        "off" | "error" | "warn" | "info" => text.to_owned(),
        _ if text.trim().is_empty() => "info".to_owned(),
        _ => text.to_owned(),
    };
    directives.parse().map_err(|source| LogError::Filter {
        text: text.to_owned(),
        source,
    })
}

/// Colour on a terminal only, and never where `NO_COLOR` is set to anything (no-color.org).
fn colour(terminal: bool, no_colour: Option<&std::ffi::OsStr>) -> bool {
    terminal && no_colour.is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_for_sorties_own_log() {
        assert_eq!(filter("debug").unwrap().to_string(), "sortie=debug,info");
        assert_eq!(filter("warn").unwrap().to_string(), "warn");
        assert!(filter("info,sortie::upstream=trace").is_ok());
    }

    #[test]
    fn a_level_that_means_nothing_is_refused() {
        let error = filter("sortie=loud").unwrap_err().to_string();
        assert!(
            error.contains("sortie=loud") && error.contains("debug"),
            "{error}"
        );
        assert!("xml".parse::<LogFormat>().is_err());
    }

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        let set = |text: &'static str| Some(std::ffi::OsStr::new(text));
        assert!(colour(true, None) && colour(true, set("")));
        assert!(!colour(true, set("1")) && !colour(false, None));
    }
}
