//! `unknownHosts`, `rotation` and `limits`: what exists once, however many documents there are.
//!
//! Owns: their tables, their lowering, and the rule that two documents must not disagree.
//! Never: knows a default (that is `model`).
//! Called by: native.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::{Limits, OnExpired, Place, Rotation, UnknownHosts};

use super::cursor::At;
use super::diagnostic::{Code, Diagnostics};
use super::format::quote;
use super::shape::{Choice, DURATION, Field, Shape, Table};
use super::units;

/// What `unknownHosts` may say.
pub const UNKNOWN_HOSTS: Shape = Shape::Choice(&[
    Choice {
        word: "refuse",
        doc: "Answer 502.",
    },
    Choice {
        word: "pass-through",
        doc: "Forward in plaintext to where the client meant to go.",
    },
]);

/// Certificate rotation.
pub static ROTATION: Table = Table::new(
    "rotation",
    "How changed certificate files are taken up.",
    &[
        Field::optional(
            "poll",
            "Every file is read again this often, whatever the file watch says.",
            Shape::Duration {
                min: Duration::from_millis(100),
                max: Duration::from_secs(24 * 3600),
            },
        )
        .default("10s"),
        Field::optional(
            "maxConnectionAge",
            "A busy connection made with an old certificate is retired after this, and at the \
             latest a minute before that certificate expires.",
            DURATION,
        )
        .default("1h"),
        Field::optional(
            "onExpired",
            "What becomes of requests while our own certificate is expired.",
            Shape::Choice(&[
                Choice {
                    word: "fail",
                    doc: "Answer 503: the server would refuse the certificate anyway.",
                },
                Choice {
                    word: "use",
                    doc: "Offer it all the same.",
                },
            ]),
        )
        .default("fail"),
    ],
);

/// Bounds on what a client may hold.
pub static LIMITS: Table = Table::new(
    "limits",
    "Bounds on what a client may hold.",
    &[
        Field::optional(
            "maxConnections",
            "Connections of all clients together; over it, accepting pauses.",
            Shape::Whole {
                min: 1,
                max: 10_000_000,
            },
        )
        .default("65536"),
        Field::optional(
            "maxHeadBytes",
            "Bytes of a request's head; over it: 431.",
            Shape::Size {
                min: 8 * 1024,
                max: 1024 * 1024,
            },
        )
        .default("64KiB"),
        Field::optional(
            "maxHeaders",
            "Headers of a request; over it: 431.",
            Shape::Whole {
                min: 1,
                max: 10_000,
            },
        )
        .default("100"),
        Field::optional(
            "headTimeout",
            "From the first byte of a request's head to its last.",
            DURATION,
        )
        .default("10s"),
        Field::optional(
            "idleTimeout",
            "A connection without a request is closed after this.",
            DURATION,
        )
        .default("1h"),
        Field::optional(
            "streamIdleTimeout",
            "A request whose body moves no byte in either direction for this long is ended.",
            DURATION,
        )
        .default("5m"),
        Field::optional(
            "maxStreams",
            "HTTP/2 streams of one connection at once.",
            Shape::Whole {
                min: 1,
                max: 100_000,
            },
        )
        .default("256"),
    ],
);

/// Section and key.
type Key = (&'static str, &'static str);

/// Settings of all documents.
#[derive(Default)]
pub struct Settings {
    /// `unknownHosts`.
    pub unknown_hosts: UnknownHosts,
    /// `rotation`.
    pub rotation: Rotation,
    /// `limits`.
    pub limits: Limits,
    /// Who said what first: the value as compared, and where.
    seen: HashMap<Key, (String, Place)>,
}

impl Settings {
    /// What one document says.
    pub fn lower(&mut self, document: &At<'_>, out: &mut Diagnostics) {
        if let Some(at) = document.key("unknownHosts") {
            self.once(("", "unknownHosts"), &at, &UNKNOWN_HOSTS, out);
            self.unknown_hosts = match at.as_word() {
                Some("pass-through") => UnknownHosts::PassThrough,
                _ => UnknownHosts::Refuse,
            };
        }
        if let Some(at) = document.key("rotation") {
            self.all_once(&at, &ROTATION, out);
            self.rotation(&at);
        }
        if let Some(at) = document.key("limits") {
            self.all_once(&at, &LIMITS, out);
            self.limits(&at);
        }
    }

    fn rotation(&mut self, at: &At<'_>) {
        let rotation = &mut self.rotation;
        set(&mut rotation.poll, at.duration("poll"));
        set(
            &mut rotation.max_connection_age,
            at.duration("maxConnectionAge"),
        );
        let on_expired = at.word("onExpired").map(|word| match word {
            "use" => OnExpired::Use,
            _ => OnExpired::Fail,
        });
        set(&mut rotation.on_expired, on_expired);
    }

    fn limits(&mut self, at: &At<'_>) {
        let limits = &mut self.limits;
        set(&mut limits.max_connections, at.whole("maxConnections"));
        set(&mut limits.max_head_bytes, at.size("maxHeadBytes"));
        set(&mut limits.max_headers, at.whole("maxHeaders"));
        set(&mut limits.head_timeout, at.duration("headTimeout"));
        set(&mut limits.idle_timeout, at.duration("idleTimeout"));
        set(
            &mut limits.stream_idle_timeout,
            at.duration("streamIdleTimeout"),
        );
        set(&mut limits.max_streams, at.whole("maxStreams"));
    }

    fn all_once(&mut self, section: &At<'_>, table: &'static Table, out: &mut Diagnostics) {
        for field in table.fields {
            if let Some(at) = section.key(field.name) {
                self.once((table.name, field.name), &at, &field.shape, out);
            }
        }
    }

    /// Reports a value that another document sets differently.
    fn once(&mut self, key: Key, at: &At<'_>, shape: &Shape, out: &mut Diagnostics) {
        let Some(word) = at.as_word() else { return };
        let value = match shape {
            Shape::Duration { .. } => units::duration(word).map(units::show_duration).ok(),
            Shape::Size { .. } => units::size(word).or(at.as_whole()).map(|n| n.to_string()),
            _ => Some(word.to_owned()),
        };
        let Some(value) = value else { return };
        match self.seen.get(&key) {
            Some((first, place)) if *first != value => {
                let problem = format!(
                    "{} contradicts {place}, which sets it otherwise",
                    quote(word)
                );
                at.report(out, Code::SetTwice, problem, "say it once");
            }
            Some(_) => {}
            None => {
                self.seen.insert(key, (value, at.place()));
            }
        }
    }
}

/// Takes a value that was written.
pub fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_texts;

    #[test]
    fn settings_of_many_files_add_up() {
        let loaded = load_texts(&[
            (
                "a.yaml",
                "unknownHosts: pass-through\nrotation: {poll: 1m}\n",
            ),
            (
                "b.yaml",
                "unknownHosts: pass-through\nrotation: {poll: 60s, onExpired: use}\n",
            ),
            (
                "c.yaml",
                "limits: {maxHeadBytes: 65536}\n---\nlimits: {maxHeadBytes: 64KiB}\n",
            ),
        ]);
        let config = loaded.unwrap().config;
        assert_eq!(config.unknown_hosts, UnknownHosts::PassThrough);
        assert_eq!(config.rotation.poll, Duration::from_secs(60));
        assert_eq!(config.rotation.on_expired, OnExpired::Use);
        assert_eq!(config.limits, Limits::default());
    }

    #[test]
    fn settings_of_many_files_do_not_contradict_each_other() {
        let refused = load_texts(&[
            (
                "a.yaml",
                "unknownHosts: pass-through\nlimits: {maxStreams: 5}\n",
            ),
            (
                "b.yaml",
                "unknownHosts: refuse\nlimits: {maxStreams: 6, maxHeaders: 7}\n",
            ),
        ]);
        let said: Vec<_> = refused
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                "b.yaml:1:15: error[SRT0207] unknownHosts: \"refuse\" contradicts a.yaml:1, which \
                 sets it otherwise; say it once",
                "b.yaml:2:22: error[SRT0207] limits.maxStreams: \"6\" contradicts a.yaml:2, which \
                 sets it otherwise; say it once",
            ]
        );
    }
}
