//! What would become of a connection, without one: for `explain`.
//!
//! Owns: putting the steps of `listener::connection` in a row.
//! Never: decides; `arrival` does, for connections and for questions alike.
//! Called by: explain.

use std::sync::Arc;

use super::arrival::{FirstStep, Leads, carries_http, first_step, leads, wraps_twice};
use super::downstream::{Arrived, Hello, Opaque};
use super::refusal::Refusal;
use crate::route::StreamTarget;
use crate::snapshot::Snapshot;
use crate::upstream::Upstream;

/// What the client would speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken<'a> {
    /// Plain HTTP.
    Http,
    /// TLS of its own, with this server name in normal form.
    Tls(Option<&'a str>),
    /// Anything else.
    Other,
}

/// What would become of it.
pub enum Foreseen<'a> {
    /// Its requests are looked at one by one.
    Http,
    /// Its bytes go along this route. The flag is true where none is read before.
    Route(&'a StreamTarget, bool),
    /// Its bytes go to its original destination, which no route knows (ISTIO.md O4).
    PassThrough,
    /// It is closed: flag, and why.
    Refuse(String, String),
}

/// Asks what a listener and the proxy ask of such a connection.
pub fn foresee<'a>(snapshot: &'a Snapshot, arrived: &Arrived, spoken: Spoken<'_>) -> Foreseen<'a> {
    let first = first_step(snapshot, arrived);
    let opaque = match (first, spoken) {
        (FirstStep::Connect, _) => Opaque::Unread,
        (_, Spoken::Http) if carries_http(snapshot, arrived) => return Foreseen::Http,
        // What is neither TLS nor a stream's is answered as HTTP is: with 400.
        (FirstStep::ReadHttp, Spoken::Other) => return Foreseen::Http,
        (_, Spoken::Http | Spoken::Other) => Opaque::Other,
        (_, Spoken::Tls(name)) => Opaque::Tls(Hello {
            server_name: name.map(Into::into),
            ..Hello::default()
        }),
    };
    match leads(snapshot, arrived, &opaque) {
        Leads::Route(target) => Foreseen::Route(target, opaque == Opaque::Unread),
        Leads::PassThrough => Foreseen::PassThrough,
        Leads::Refuse(refusal) => {
            let (flag, words) = told(&refusal);
            Foreseen::Refuse(flag, words)
        }
    }
}

/// Why TLS of the client's may not go to this upstream: flag, and words (ISTIO.md D8).
pub fn tls_in_tls(upstream: &Upstream) -> Option<(String, String)> {
    let refusal = || Refusal::TlsInTls(Arc::clone(&upstream.spec().name));
    wraps_twice(upstream).then(|| told(&refusal()))
}

fn told(refusal: &Refusal) -> (String, String) {
    (refusal.told().flags.to_string(), refusal.to_string())
}
