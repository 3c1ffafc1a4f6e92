//! Clients that ask all the time and note everything that is not a whole 200.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Ended, Wire};

/// How many requests a client makes on one connection.
const PER_CONNECTION: usize = 50;

/// One client per host, asking until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    slowest: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub fn start(proxy: SocketAddr, hosts: &[&str]) -> Load {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let slowest = Arc::<AtomicU64>::default();
        let client = |host: &&str| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let slowest = Arc::clone(&slowest);
            let host = host.to_string();
            std::thread::spawn(move || run(proxy, &host, &stop, (&answered, &slowest)))
        };
        let clients = hosts.iter().map(client).collect();
        Load {
            stop,
            answered,
            slowest,
            clients,
        }
    }

    /// How many were answered so far, well or badly.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// The longest that an answer took so far.
    pub fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Ordering::Relaxed))
    }

    /// How many were answered, and what was wrong with some.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let ends = self.clients.into_iter().map(JoinHandle::join);
        let lost = ends
            .flat_map(|end| end.expect("a client of the load ends"))
            .collect();
        (self.answered.load(Ordering::Relaxed), lost)
    }
}

fn run(
    proxy: SocketAddr,
    host: &str,
    stop: &AtomicBool,
    (answered, slowest): (&AtomicUsize, &AtomicU64),
) -> Vec<String> {
    let mut lost = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::connect(proxy);
        for _ in 0..PER_CONNECTION {
            let began = Instant::now();
            let answer = wire.get(host, "/");
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            slowest.fetch_max(took, Ordering::Relaxed);
            answered.fetch_add(1, Ordering::Relaxed);
            if answer.status != 200 || answer.ended == Ended::CutOff {
                lost.push(format!("{} {}", answer.status, answer.text()));
                break;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    lost
}
