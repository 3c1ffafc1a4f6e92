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

/// The command line, for completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the command line names.
pub fn main() -> ExitCode {
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
        Err(error) => {
            // Nothing better can be done where even this cannot be printed.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
