//! The load that `benches/peers/run` puts on a proxy, and the clock that it is measured with.
//!
//! Owns: the command line: `peers-load steady|streams|idle|start --name value ..`; one line of JSON.
//! Never: speaks TLS (its side of a proxy is plain), nor starts more than one thread.
//! Called by: `benches/peers/run`.
//!
//! Why not wrk: it has no fixed rate, closes no connection per request, and knows no HTTP/2.

mod args;
mod http1;
mod http2;
mod idle;
mod process;
mod start;
mod steady;
mod tally;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let what = words.next().unwrap_or_default();
    let answer = match what.as_str() {
        "steady" => args::Args::read(words).and_then(|args| steady::run(&args)),
        "streams" => args::Args::read(words).and_then(|args| http2::run(&args)),
        "idle" => args::Args::read(words).and_then(|args| idle::run(&args)),
        "start" => args::Args::read(words).and_then(|args| start::run(&args)),
        other => Err(format!(
            "{other:?} is not one of steady, streams, idle, start"
        )),
    };
    match answer {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("peers-load: {problem}");
            ExitCode::FAILURE
        }
    }
}
