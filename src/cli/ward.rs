//! A command that runs beside the proxy: started, sent the signals that come, waited for.
//!
//! Owns: the signals of the process, the command's process id, and its exit code.
//! Never: ends the command by itself, but where its proxy is lost.
//! Called by: `cli::exec`.
//!
//! Why the command has a process group of its own where no person sits at a terminal: whoever
//! signals our group (`timeout`, a supervisor) reaches it through us, once. At a terminal it shares
//! ours, so that Ctrl-Z stops and `fg` goes on with both; there the terminal itself sends Ctrl-C to
//! both, and we do not send it again.
//!
//! Why every child is waited for: as process 1 of a container we are given the orphans of all.

use std::ffi::OsString;
use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::task::Poll;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpgrp, kill_process, wait};
use tokio::runtime::Runtime;
use tokio::signal::unix::{self, SignalKind};

/// The shell's codes: the command cannot be run, and there is none.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended a command.
const BY_SIGNAL: i32 = 128;

/// What is passed on.
const PASSED: [Signal; 7] = [
    Signal::TERM,
    Signal::INT,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::WINCH,
];
/// What a terminal sends to everybody in the foreground.
const BY_TERMINAL: [Signal; 3] = [Signal::INT, Signal::QUIT, Signal::WINCH];

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody signalled us.
    Signal(Signal),
    /// A child of ours ended.
    Child,
    /// Nothing, for as long as was said.
    Nothing,
}

/// Every signal that concerns us, from the moment it is made.
pub(super) struct Signals {
    runtime: Runtime,
    passed: Vec<(Signal, unix::Signal)>,
    child: unix::Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (passed, child) = {
            let _entered = runtime.enter();
            let listen = |one: Signal| unix::signal(SignalKind::from_raw(one.as_raw()));
            let passed = PASSED.into_iter().map(|one| Ok((one, listen(one)?)));
            let passed = passed.collect::<io::Result<Vec<_>>>()?;
            (passed, listen(Signal::CHILD)?)
        };
        Ok(Signals {
            runtime,
            passed,
            child,
        })
    }

    /// The next event, or [`Event::Nothing`] after `bound`.
    pub(super) fn next(&mut self, bound: Duration) -> Event {
        let Signals {
            runtime,
            passed,
            child,
        } = self;
        let event = poll_fn(|context| {
            if child.poll_recv(context).is_ready() {
                return Poll::Ready(Event::Child);
            }
            for (signal, stream) in passed.iter_mut() {
                if stream.poll_recv(context).is_ready() {
                    return Poll::Ready(Event::Signal(*signal));
                }
            }
            Poll::Pending
        });
        let event = async { tokio::time::timeout(bound, event).await };
        runtime.block_on(event).unwrap_or(Event::Nothing)
    }
}

/// What a process leaves where a signal ended it before it had anything to do.
pub(super) fn ended_by(signal: Signal) -> ExitCode {
    code(BY_SIGNAL + signal.as_raw())
}

/// True for the signals that ask for an end.
pub(super) fn asks_to_end(signal: Signal) -> bool {
    [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT].contains(&signal)
}

fn code(number: i32) -> ExitCode {
    u8::try_from(number).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Waits for orphans while there is no command yet, and after it.
pub(super) fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// The command, while it runs.
pub(super) struct Ward {
    pid: Pid,
    shares_group: bool,
    ended: Option<i32>,
}

impl Ward {
    /// Starts it with our standard input, output and error, and with more variables.
    ///
    /// # Errors
    /// The shell's exit code for it; the words are on standard error.
    pub(super) fn start(
        command: &[OsString],
        variables: Vec<(&'static str, String)>,
    ) -> Result<Ward, ExitCode> {
        let (program, arguments) = command.split_first().ok_or(ExitCode::FAILURE)?;
        let shares_group = io::stdin().is_terminal();
        let mut command = Command::new(program);
        command.args(arguments).envs(variables);
        if !shares_group {
            command.process_group(0);
        }
        let child = command.spawn().map_err(|error| {
            eprintln!("sortie: cannot run {}: {error}", program.display());
            ExitCode::from(match error.kind() {
                io::ErrorKind::NotFound => NOT_FOUND,
                _ => NOT_EXECUTABLE,
            })
        })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(ExitCode::FAILURE)?;
        Ok(Ward {
            pid,
            shares_group,
            ended: None,
        })
    }

    /// Passes a signal on, unless the command has it already.
    pub(super) fn pass(&self, signal: Signal) {
        let has_it = self.shares_group && BY_TERMINAL.contains(&signal) && in_foreground();
        if self.ended.is_none() && !has_it {
            // It may have ended just now: then there is nobody to tell.
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Looks at every child that ended; the command's exit code once it is one of them.
    pub(super) fn ended(&mut self) -> Option<ExitCode> {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                let by_signal = status.terminating_signal().map(|signal| BY_SIGNAL + signal);
                self.ended = status.exit_status().or(by_signal).or(self.ended);
            }
        }
        self.ended.map(code)
    }
}

/// True where the terminal on our standard input sends its signals to our group.
fn in_foreground() -> bool {
    rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}
