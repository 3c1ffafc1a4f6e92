//! The command line as a whole.
//!
//! Owns: the list of commands, and the exit code for a command line that makes no sense.
//! Never: knows what a command does.
//! Called by: main, `cli::completions`.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use super::{
    capture, certs, check, completions, demo, drain, exec, explain, inject, install, routes, run,
    schema, wait, webhook,
};

/// Bad usage or configuration (EX_USAGE of sysexits.h).
pub(super) const USAGE: u8 = 64;

/// Plain HTTP in, mutual TLS out
#[derive(Debug, Parser)]
#[command(name = "sortie", version, about, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 64 bad usage or configuration.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Run(Box<run::Args>),
    Exec(Box<exec::Args>),
    Drain(drain::Args),
    Wait(wait::Args),
    Check(check::Args),
    Routes(routes::Args),
    Explain(explain::Args),
    Certs(certs::Args),
    Capture(Box<capture::Args>),
    Inject(Box<inject::Args>),
    Install(install::Args),
    Webhook(Box<webhook::Args>),
    Schema(schema::Args),
    Completions(completions::Args),
}

/// The command line whose first word is `run`: the same as [`Cli`] for such a line, word for word.
///
/// Why it stands apart: building the tree of all commands and their flags, to use one of them, is a
/// good part of a sidecar's start, and what it touches stays in its memory.
#[derive(Debug, Parser)]
#[command(name = "sortie", version, about, disable_help_subcommand = true)]
struct RunLine {
    #[command(subcommand)]
    command: RunCommand,
}

#[derive(Debug, Subcommand)]
enum RunCommand {
    Run(Box<run::Args>),
}

/// The command line, for completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    if first.is_some_and(|word| word == "run") {
        return match RunLine::try_parse() {
            Ok(RunLine {
                command: RunCommand::Run(args),
            }) => run::run(*args),
            Err(error) => refuse(&error),
        };
    }
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Demo(args) => demo::run(args),
            Command::Run(args) => run::run(*args),
            Command::Exec(args) => exec::run(*args),
            Command::Drain(args) => drain::run(&args),
            Command::Wait(args) => wait::run(args),
            Command::Check(args) => check::run(args),
            Command::Routes(args) => routes::run(args),
            Command::Explain(args) => explain::run(args),
            Command::Certs(args) => certs::run(args),
            Command::Capture(args) => capture::run(*args),
            Command::Inject(args) => inject::run(*args),
            Command::Install(args) => install::run(args),
            Command::Webhook(args) => webhook::run(*args),
            Command::Schema(args) => schema::run(args),
            Command::Completions(args) => completions::run(args, command()),
        },
        Err(error) => refuse(&error),
    }
}

/// Prints what clap says: the help that was asked for, or what is wrong with the line.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nothing better can be done where even this cannot be printed.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Cli, Command, RunCommand, RunLine};

    #[test]
    fn a_line_that_begins_with_run_is_understood_as_among_all_commands() {
        let line = "sortie run -c a.yaml,b --listen 127.0.0.1:80 --workers 2 --drain-timeout 7";
        let all = Cli::try_parse_from(line.split(' ')).unwrap().command;
        let RunCommand::Run(alone) = RunLine::try_parse_from(line.split(' ')).unwrap().command;
        let Command::Run(among) = all else { panic!() };
        assert_eq!(format!("{alone:?}"), format!("{among:?}"));
    }

    #[test]
    fn a_line_that_begins_with_run_and_is_wrong_is_refused_in_the_same_words() {
        for line in [
            "sortie run --help",
            "sortie run -h",
            "sortie run --version",
            "sortie run --config",
            "sortie run -c a --lisen 127.0.0.1:80",
            "sortie run -c a --listen x",
            "sortie run -c a --workers 0",
            "sortie run -c a --no-admin --admin 127.0.0.1:1",
            "sortie run -c a more",
            "sortie run help",
        ] {
            let words = || line.split(' ');
            let all = Cli::try_parse_from(words()).unwrap_err();
            let alone = RunLine::try_parse_from(words()).unwrap_err();
            assert_eq!(all.to_string(), alone.to_string(), "{line}");
            assert_eq!(all.kind(), alone.kind(), "{line}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::command().debug_assert();
    }

    #[test]
    fn no_variable_of_ours_is_one_that_kubernetes_makes_for_a_service() {
        // A Service `sortie-x` sets SORTIE_X_PORT=tcp://.. and its kin in every container beside it.
        for command in super::command().get_subcommands() {
            let nested = command
                .get_subcommands()
                .flat_map(clap::Command::get_arguments);
            for argument in command.get_arguments().chain(nested) {
                let Some(name) = argument.get_env().and_then(|name| name.to_str()) else {
                    continue;
                };
                let theirs = name.ends_with("_PORT")
                    || name.contains("_PORT_")
                    || name.ends_with("_SERVICE_HOST");
                assert!(name.starts_with("SORTIE_") && !theirs, "{name}");
            }
        }
    }
}
