//! Connections that have asked once and then keep still: what each of them holds in memory.
//!
//! Owns: the steps: so many connections, memory read at each.
//! Never: asks on two connections at once, so that what is left is what an idle connection keeps.
//! Called by: `peers-load idle`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::http1::{Conn, Progress, Requests};
use crate::process;
use crate::steady::ROOM;
use crate::tally::Tally;

pub fn run(args: &Args) -> Result<String, String> {
    let target = args.target()?;
    let pids = args.pids()?;
    let requests = Requests::new(&args.hosts()?, &args.path()?, 0, false);
    let steps = args.or("steps", "1000,10000".to_owned())?;
    let mut tally = Tally::new(Vec::new(), Duration::ZERO, Duration::ZERO);
    let mut room = vec![0; ROOM];
    let mut held = Vec::new();
    let mut ask = |held: &mut Vec<Conn>| {
        let mut conn = Conn::open(target).map_err(|error| error.to_string())?;
        let asked = conn.stream.set_nonblocking(false);
        let asked = asked.and_then(|()| conn.start(&requests, 0, Instant::now(), &mut tally));
        asked.map_err(|error| error.to_string())?;
        while conn.busy {
            match conn.read(&mut room, false, &mut tally) {
                Ok(Progress::Closed) => return Err("closed without an answer".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        held.push(conn);
        Ok::<u64, String>(tally.refusals)
    };
    let mut refusals = ask(&mut held)?;
    let settle = args.seconds("settle", 0.5)?;
    sleep(settle);
    let first = process::rss(&pids);
    let mut lines = Vec::new();
    for step in steps.split(',') {
        let count: usize = step.parse().map_err(|_| format!("--steps {steps}"))?;
        while held.len() <= count {
            refusals = ask(&mut held)?;
        }
        sleep(settle);
        lines.push(format!("\"{count}\":{}", process::rss(&pids)));
    }
    Ok(format!(
        "{{\"refusals\":{refusals},\"first_kib\":{first},\"kib\":{{{}}}}}",
        lines.join(",")
    ))
}
