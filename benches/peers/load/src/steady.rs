//! HTTP/1.1 load: as fast as answers come, or at a fixed rate.
//!
//! Owns: the loop over all connections; which connection asks next, and when.
//! Never: lets a slow answer thin out the requests behind it: at a fixed rate a request's time
//! counts from when it was due, also while every connection is busy.
//! Called by: `peers-load steady`.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::args::{Args, Spread};
use crate::http1::{Conn, Progress, Requests};
use crate::tally::Tally;

pub const ROOM: usize = 256 * 1024;

struct Run {
    target: std::net::SocketAddr,
    requests: Requests,
    close: bool,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// Taken from the end: the connection that was idle for the shortest time asks next.
    idle: VecDeque<usize>,
    /// Every connection in its turn instead.
    turns: bool,
    tally: Tally,
    spread: Spread,
    /// Time between two requests, of a fixed rate.
    interval: Option<Duration>,
    due: VecDeque<Instant>,
}

pub fn run(args: &Args) -> Result<String, String> {
    let close = args.or("close", 0)? == 1;
    let rate: f64 = args.or("rate", 0.0)?;
    // The kernel may otherwise sleep 50 us longer than asked.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
        .map_err(|error| error.to_string())?;
    let mut run = Run {
        target: args.target()?,
        requests: Requests::new(&args.hosts()?, &args.path()?, args.or("upload", 0)?, close),
        close,
        epoll: epoll::create(CreateFlags::CLOEXEC).map_err(|error| error.to_string())?,
        conns: Vec::new(),
        idle: VecDeque::new(),
        turns: args.or("turns", 0)? == 1,
        tally: Tally::new(
            args.pids()?,
            args.seconds("warm", 0.5)?,
            args.seconds("seconds", 3.0)?,
        ),
        spread: Spread::new(),
        interval: (rate > 0.0).then(|| Duration::from_secs_f64(1.0 / rate)),
        due: VecDeque::new(),
    };
    for slot in 0..args.or("connections", 64)? {
        let conn = run
            .connect(slot)
            .map_err(|error| format!("{}: {error}", run.target))?;
        run.conns.push(conn);
        run.idle.push_back(slot);
    }
    run.drive()
}

impl Run {
    fn connect(&self, slot: usize) -> io::Result<Conn> {
        let conn = Conn::open(self.target)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(
            &self.epoll,
            &conn.stream,
            EventData::new_u64(slot as u64),
            flags,
        )?;
        Ok(conn)
    }

    fn drive(mut self) -> Result<String, String> {
        let mut room = vec![0; ROOM];
        let mut events: Vec<Event> = Vec::with_capacity(1024);
        let mut next_due = Instant::now();
        loop {
            let now = Instant::now();
            if self.tally.over(now)? {
                break;
            }
            let mut wake = self.tally.next_edge();
            if let Some(interval) = self.interval {
                while next_due <= now {
                    self.due.push_back(next_due);
                    next_due += interval;
                }
                wake = wake.min(next_due);
            }
            self.ask(now);
            let sleep = wake.saturating_duration_since(Instant::now());
            let sleep = Timespec::try_from(sleep).map_err(|error| error.to_string())?;
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&sleep),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.to_string()),
            }
            for event in &events {
                self.turn(event.data.u64() as usize, event.flags, &mut room);
            }
        }
        let busy = self
            .conns
            .iter()
            .filter(|conn| conn.busy && self.interval.is_some());
        let unanswered: Vec<Instant> = busy.map(|conn| conn.since).chain(self.due).collect();
        self.tally.report(&unanswered)
    }

    /// Starts what can be started.
    fn ask(&mut self, now: Instant) {
        while let Some(slot) = if self.turns {
            self.idle.pop_front()
        } else {
            self.idle.pop_back()
        } {
            let since = match self.interval {
                None => now,
                Some(_) => match self.due.pop_front() {
                    Some(due) => due,
                    None => {
                        self.idle.push_back(slot);
                        return;
                    }
                },
            };
            let which = self.spread.next(self.requests.heads.len());
            let conn = &mut self.conns[slot];
            if let Err(error) = conn.start(&self.requests, which, since, &mut self.tally) {
                self.broken(slot, error);
            }
        }
    }

    fn turn(&mut self, slot: usize, flags: EventFlags, room: &mut [u8]) {
        let conn = &mut self.conns[slot];
        if flags.contains(EventFlags::OUT)
            && conn.busy
            && let Err(error) = conn.write(&self.requests, &mut self.tally)
        {
            return self.broken(slot, error);
        }
        let over = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if !flags.intersects(EventFlags::IN | over) {
            return;
        }
        let ended = flags.intersects(over);
        match conn.read(room, ended, &mut self.tally) {
            Ok(Progress::Waits) => {}
            Ok(Progress::Answered) if self.close && !ended => {}
            Ok(Progress::Answered) if !self.close && !ended => self.idle.push_back(slot),
            // The end came with the answer, or by itself.
            Ok(Progress::Answered | Progress::Closed) => {
                if self.close && !self.conns[slot].busy {
                    self.renew(slot);
                } else {
                    self.broken(slot, io::Error::other("closed without being asked to"));
                }
            }
            Err(error) => self.broken(slot, error),
        }
    }

    fn broken(&mut self, slot: usize, why: io::Error) {
        self.tally.failed(why);
        self.renew(slot);
    }

    fn renew(&mut self, slot: usize) {
        loop {
            match self.connect(slot) {
                Ok(conn) => {
                    self.conns[slot] = conn;
                    self.idle.push_back(slot);
                    return;
                }
                Err(error) => {
                    self.tally.failed(error);
                    if self.tally.failures > 100 {
                        return;
                    }
                }
            }
        }
    }
}
