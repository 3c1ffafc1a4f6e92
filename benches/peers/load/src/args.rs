//! `--name value` pairs, and what follows `--`.
//!
//! Owns: defaults that every kind of load shares: the target, the requests, the window.
//! Never: connects.
//! Called by: every kind of load.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

pub struct Args {
    values: HashMap<String, String>,
    /// What follows `--`: a command to run.
    pub command: Vec<String>,
}

impl Args {
    pub fn read(words: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut words = words.into_iter();
        let mut values = HashMap::new();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let name = word
                .strip_prefix("--")
                .ok_or(format!("{word:?} is no flag"))?;
            let value = words.next().ok_or(format!("--{name} needs a value"))?;
            values.insert(name.to_owned(), value);
        }
        Ok(Args {
            values,
            command: words.collect(),
        })
    }

    pub fn or<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.values.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| format!("--{name} {text}: cannot be read")),
        }
    }

    pub fn target(&self) -> Result<SocketAddr, String> {
        let text = self.values.get("to").ok_or("--to ADDR:PORT is missing")?;
        text.parse()
            .map_err(|_| format!("--to {text}: not an address"))
    }

    pub fn seconds(&self, name: &str, default: f64) -> Result<Duration, String> {
        Ok(Duration::from_secs_f64(self.or(name, default)?))
    }

    /// The processes whose CPU time and memory are asked.
    pub fn pids(&self) -> Result<Vec<u32>, String> {
        let text = self.or("pids", String::new())?;
        let parts = text.split(',').filter(|part| !part.is_empty());
        parts
            .map(|part| part.parse().map_err(|_| format!("--pids {text}")))
            .collect()
    }

    pub fn hosts(&self) -> Result<Vec<String>, String> {
        let count: usize = self.or("hosts", 0)?;
        if count == 0 {
            return Ok(vec![self.or("host", "bank.example".to_owned())?]);
        }
        Ok((0..count)
            .map(|number| format!("h{number}.example"))
            .collect())
    }

    pub fn path(&self) -> Result<String, String> {
        self.or("path", "/".to_owned())
    }
}

/// Which of `count` comes next: spread, and the same in every run.
pub struct Spread(u64);

impl Spread {
    pub fn new() -> Spread {
        Spread(0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self, count: usize) -> usize {
        if count == 1 {
            return 0;
        }
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }
}
