//! From exec to the first 200.
//!
//! Owns: the clock; the command runs on `--cpu`, the questions come from where this program runs.
//! Never: leaves the command behind: it is asked to end with SIGTERM, and killed after 5 s.
//! Called by: `peers-load start --to ADDR --cpu 0 --log FILE -- COMMAND`.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::args::Args;
use crate::http1::{Conn, Progress, Requests};
use crate::process;
use crate::steady::ROOM;
use crate::tally::Tally;

const PATIENCE: Duration = Duration::from_secs(60);
/// Between two attempts: short beside what is measured, long enough not to disturb it.
const PAUSE: Duration = Duration::from_micros(100);

pub fn run(args: &Args) -> Result<String, String> {
    let words = |error: rustix::io::Errno| error.to_string();
    let [program, rest @ ..] = args.command.as_slice() else {
        return Err("a command is missing after --".to_owned());
    };
    let log = File::create(args.or("log", "/dev/null".to_owned())?);
    let log = log.map_err(|error| error.to_string())?;
    let copy = log.try_clone().map_err(|error| error.to_string())?;
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)).map_err(words)?;
    let own = sched_getaffinity(None).map_err(words)?;
    let mut there = CpuSet::new();
    there.set(args.or("cpu", 0)?);
    let mut command = Command::new(program);
    command
        .args(rest)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy);
    // The child inherits it; set before the clock starts.
    sched_setaffinity(None, &there).map_err(words)?;
    let began = Instant::now();
    let child = command.spawn();
    sched_setaffinity(None, &own).map_err(words)?;
    let mut child = child.map_err(|error| format!("{program}: {error}"))?;
    let answer = wait(args, began, &mut child);
    end(&mut child)?;
    answer
}

fn wait(args: &Args, began: Instant, child: &mut Child) -> Result<String, String> {
    let target = args.target()?;
    let requests = Requests::new(&args.hosts()?, &args.path()?, 0, false);
    let mut room = vec![0; ROOM];
    let mut tally = Tally::new(Vec::new(), Duration::ZERO, Duration::ZERO);
    loop {
        if once(target, &requests, &mut room, &mut tally) == Some(200) {
            let milliseconds = began.elapsed().as_secs_f64() * 1000.0;
            sleep(args.seconds("settle", 0.3)?);
            let rss = process::rss(&family(child.id()));
            return Ok(format!("{{\"ms\":{milliseconds:.3},\"rss_kib\":{rss}}}"));
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the command ended before it answered: {status}"));
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("no 200 after {PATIENCE:?}"));
        }
        sleep(PAUSE);
    }
}

/// One question; the status where an answer came.
fn once(
    target: std::net::SocketAddr,
    requests: &Requests,
    room: &mut [u8],
    tally: &mut Tally,
) -> Option<u16> {
    let mut conn = Conn::open(target).ok()?;
    conn.stream.set_nonblocking(false).ok()?;
    conn.start(requests, 0, Instant::now(), tally).ok()?;
    tally.refusals = 0;
    tally.last_refusal = 0;
    while conn.busy {
        if conn.read(room, false, tally).ok()? == Progress::Closed {
            return None;
        }
    }
    Some(if tally.refusals == 0 {
        200
    } else {
        tally.last_refusal
    })
}

/// The process and its children: nginx and HAProxy work in one.
fn family(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let children = children
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

fn end(child: &mut Child) -> Result<(), String> {
    if let Ok(Some(_)) = child.try_wait() {
        return Ok(());
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or("no process id")?;
    // It may be gone by now.
    let _ = kill_process(pid, Signal::TERM);
    for _ in 0..500 {
        if let Ok(Some(_)) = child.try_wait() {
            return Ok(());
        }
        sleep(Duration::from_millis(10));
    }
    child
        .kill()
        .and_then(|()| child.wait())
        .map_err(|error| error.to_string())?;
    Ok(())
}
