//! Clients that ask all the time and note everything that is not a whole 200.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::client::{Ended, Wire};

/// How many requests a client makes on one connection.
const PER_CONNECTION: usize = 50;

/// One client per host, asking until told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<(usize, Vec<String>)>>,
}

impl Load {
    pub fn start(proxy: SocketAddr, hosts: &[&str]) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |host: &&str| {
            let (stop, host) = (Arc::clone(&stop), host.to_string());
            std::thread::spawn(move || run(proxy, &host, &stop))
        };
        Load {
            clients: hosts.iter().map(client).collect(),
            stop: Arc::clone(&stop),
        }
    }

    /// How many were answered, and what became of the others.
    pub fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answered, mut lost) = (0, Vec::new());
        for client in self.clients {
            let (count, failures) = client.join().expect("a client of the load ends");
            answered += count;
            lost.extend(failures);
        }
        (answered, lost)
    }
}

fn run(proxy: SocketAddr, host: &str, stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut answered, mut lost) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let mut wire = Wire::connect(proxy);
        for _ in 0..PER_CONNECTION {
            let answer = wire.get(host, "/");
            answered += 1;
            if answer.status != 200 || answer.ended == Ended::CutOff {
                lost.push(format!("{} {}", answer.status, answer.text()));
                break;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    (answered, lost)
}
