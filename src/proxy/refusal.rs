//! Why an opaque connection is closed without an upstream, and how that is told.
//!
//! Owns: [`Refusal`]: its words, its metric label, its flag. Nothing is answered: the client speaks
//! a protocol that we do not.
//! Never: decides (that is `arrival`, and `admission` at entrances).
//! Called by: `proxy::stream`, `proxy::refuse`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::Flags;

/// Why an opaque connection is closed without an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A capture listener was reached without redirection (ISTIO.md C6).
    NotRedirected,
    /// It was captured on its way to the capture port (O5).
    OwnListener,
    /// It is one that we ourselves opened; as which user and group.
    OwnConnection {
        /// Of this process.
        uid: u32,
        /// Of this process.
        gid: u32,
    },
    /// TLS for a name that no route knows, under REGISTRY_ONLY (O3).
    UnknownName(Option<Box<str>>),
    /// The same of an address and port.
    UnknownAddress,
    /// TLS for a host of plain HTTP, to which sortie adds TLS itself (D8).
    TlsForHttp(Box<str>),
    /// TLS for an upstream to which sortie adds TLS (D8).
    TlsInTls(Arc<str>),
    /// TLS on a listener that clients address, for a name without a route there.
    TlsOnPlainListener {
        /// SNI.
        name: Option<Box<str>>,
        /// Where that name is routed.
        ports: Vec<u16>,
    },
    /// It begins like TLS and is none.
    NotTls(&'static str),
    /// A client addressed us, and the listener's port has no route for what it sent.
    Unaddressed,
    /// Clear text where TLS alone is let in (ISTIO.md P7).
    PlaintextOnTls {
        /// It is a request.
        http: bool,
    },
    /// TLS where requests are taken in clear text alone (ISTIO.md P10); SNI.
    TlsOnPlaintext(Option<Box<str>>),
    /// TLS in TLS that ended here, where requests are carried.
    TlsInside,
    /// TLS that is no sidecar's, where only theirs is let in (ISTIO.md P8).
    ForeignTls,
    /// No server of the gateway is for this name (ISTIO.md G8).
    NoFilterChain(Option<Box<str>>),
    /// No entrance is for this port.
    NoEntrance,
    /// A document that governs the entrance was refused (ISTIO.md X1).
    Broken(Arc<str>),
    /// There is no certificate to show (ISTIO.md T17).
    NoCertificate(Arc<str>),
    /// The handshake failed: a word for metrics, and why.
    Handshake(&'static str, Box<str>),
    /// The policy changed between its first bytes and their way on; why.
    NotAdmitted(Box<str>),
    /// The entrance has no stream for it.
    NoStream(Arc<str>),
    /// Nothing was said for so long where TLS has to begin (ISTIO.md G12).
    Silent(Duration),
}

/// Who is blamed for a refusal: decides level and flag.
pub(super) struct Told {
    /// For `sortie_downstream_rejected_requests_total`.
    pub(super) label: &'static str,
    pub(super) flags: Flags,
    /// ISTIO.md B9; mostly nothing.
    pub(super) details: &'static str,
    /// Under BlackHoleCluster (ISTIO.md B4): nobody is known there.
    pub(super) black_hole: bool,
}

impl Refusal {
    /// The table.
    #[rustfmt::skip]
    pub(super) fn told(&self) -> Told {
        let told = |label, flags, black_hole| Told { label, flags, details: self.details(), black_hole };
        match self {
            Refusal::NotRedirected             => told("not_redirected", Flags::NR, false),
            Refusal::OwnListener               => told("own_listener", Flags::UH, true),
            Refusal::OwnConnection { .. }      => told("own_connection", Flags::NR, false),
            Refusal::UnknownName(_)            => told("unknown_server_name", Flags::UH, true),
            Refusal::UnknownAddress            => told("unknown_address", Flags::UH, true),
            Refusal::TlsForHttp(_)             => told("tls_for_http_host", Flags::NR, false),
            Refusal::TlsInTls(_)               => told("tls_in_tls", Flags::NR, false),
            Refusal::TlsOnPlainListener { .. } => told("tls_on_plain_listener", Flags::NR, false),
            Refusal::NotTls(_)                 => told("malformed_hello", Flags::DPE, false),
            Refusal::Unaddressed               => told("no_stream_route", Flags::NR, false),
            Refusal::PlaintextOnTls { .. }     => told("plaintext_on_tls", Flags::NR, false),
            Refusal::TlsOnPlaintext(_)         => told("tls_on_plaintext", Flags::NR, false),
            Refusal::TlsInside                 => told("tls_on_plaintext", Flags::NR, false),
            Refusal::ForeignTls                => told("foreign_tls", Flags::NR, false),
            Refusal::NoFilterChain(_)          => told("filter_chain_not_found", Flags::NR, false),
            Refusal::NoEntrance                => told("no_entrance", Flags::NR, false),
            Refusal::Broken(_)                 => told("entrance_broken", Flags::UH, false),
            Refusal::NoCertificate(_)          => told("certificate_unavailable", Flags::UH, false),
            Refusal::Handshake(label, _)       => told(label, Flags::DPE, false),
            Refusal::NotAdmitted(_)            => told("not_admitted", Flags::UH, false),
            Refusal::NoStream(_)               => told("no_stream_route", Flags::NR, false),
            Refusal::Silent(_)                 => told("silent", Flags::DPE, false),
        }
    }

    /// Envoy's word where none of its filter chains would match (ISTIO.md B9, G8).
    fn details(&self) -> &'static str {
        match self {
            Refusal::PlaintextOnTls { .. }
            | Refusal::TlsOnPlaintext(_)
            | Refusal::ForeignTls
            | Refusal::NoFilterChain(_)
            | Refusal::NoEntrance => "filter_chain_not_found",
            _ => "",
        }
    }

    /// The client hears a reset, not an end: it waits for TLS that never comes (ISTIO.md P7).
    pub fn resets(&self) -> bool {
        matches!(self, Refusal::PlaintextOnTls { .. })
    }
}

const PLAIN_HTTP: &str = "the client speaks plaintext HTTP to a TLS port; it must speak TLS here, \
    or the port must allow plaintext (PeerAuthentication mtls.mode PERMISSIVE, or a Gateway server \
    with protocol HTTP)";
const TLS_INSIDE: &str = "the client speaks TLS again in the TLS that ends here, and this is a port \
    of HTTP; let the application use http://, or let the port be one of TLS (its name or protocol)";
const FOREIGN_TLS: &str = "the client's TLS is not a sidecar's (its ALPN names no protocol of \
    Istio's), and here no other TLS is let in";
const NO_NAME_NO_ROUTE: &str = "the client's TLS names no server (no SNI), and no route is for \
    that address; add a ServiceEntry with its address, or let outboundTrafficPolicy be ALLOW_ANY";
const NO_NAME: &str = "the client's TLS names no server (no SNI), and no server of this gateway \
    port is for every host";

fn tls_on_plain_listener(
    f: &mut fmt::Formatter<'_>,
    name: Option<&str>,
    port: Option<u16>,
) -> fmt::Result {
    f.write_str(
        "the client speaks TLS on a listener for plain HTTP; let the application use http:// here: \
         sortie adds the TLS",
    )?;
    match (name, port) {
        (Some(name), Some(port)) => write!(
            f,
            " (TLS for {name} passes through a listener on port {port})"
        ),
        _ => Ok(()),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotRedirected => f.write_str(
                "this listener is for connections that the kernel redirects, and this one was not",
            ),
            Refusal::OwnListener => f.write_str(
                "the connection was meant for the capture port itself; it would come back to us",
            ),
            Refusal::OwnConnection { uid, gid } => write!(
                f,
                "sortie itself opened this connection, and the rules captured it: it runs as user \
                 {uid} and group {gid}; let the rules let these go (`sortie capture apply --uid {uid} \
                 --gid {gid}`), or run it as the user and group that they do (1337)"
            ),
            Refusal::UnknownName(Some(name)) => write!(
                f,
                "no route names {name} for TLS on this port; add a ServiceEntry with this port and \
                 protocol TLS, or let outboundTrafficPolicy be ALLOW_ANY"
            ),
            Refusal::UnknownName(None) => f.write_str(NO_NAME_NO_ROUTE),
            Refusal::UnknownAddress => f.write_str(
                "no route is for that address and port; add a ServiceEntry, or let \
                 outboundTrafficPolicy be ALLOW_ANY",
            ),
            Refusal::TlsForHttp(name) => write!(
                f,
                "the client speaks TLS to {name}, to which sortie adds TLS itself; let the \
                 application use http:// here"
            ),
            Refusal::TlsInTls(upstream) => write!(
                f,
                "the client speaks TLS, and upstream \"{upstream}\" adds TLS itself: that would be \
                 TLS in TLS; let the application use http://, or give the upstream no TLS \
                 (DestinationRule tls.mode DISABLE), or run sortie with --allow-tls-in-tls"
            ),
            Refusal::TlsOnPlainListener { name, ports } => {
                tls_on_plain_listener(f, name.as_deref(), ports.first().copied())
            }
            Refusal::NotTls(why) => write!(f, "what begins like TLS is none: {why}"),
            Refusal::Unaddressed => f.write_str("no route is for this listener's port"),
            Refusal::PlaintextOnTls { http: true } => f.write_str(PLAIN_HTTP),
            Refusal::PlaintextOnTls { http: false } => {
                f.write_str("the client speaks no TLS to a TLS port, and no HTTP either")
            }
            Refusal::TlsOnPlaintext(name) => {
                f.write_str("the client speaks TLS to a plaintext port")?;
                if let Some(name) = name {
                    write!(f, " (it asks for {name})")?;
                }
                f.write_str("; let it use http:// here, or let the port end TLS")
            }
            Refusal::TlsInside => f.write_str(TLS_INSIDE),
            Refusal::ForeignTls => f.write_str(FOREIGN_TLS),
            Refusal::NoFilterChain(Some(name)) => {
                write!(f, "no server of this gateway port is for {name} (SNI)")
            }
            Refusal::NoFilterChain(None) => f.write_str(NO_NAME),
            Refusal::NoEntrance => f.write_str("nobody is let in on this port"),
            Refusal::Broken(reason) => {
                write!(
                    f,
                    "a document that decides who may come in was refused: {reason}"
                )
            }
            Refusal::NoCertificate(reason) => {
                write!(f, "there is no certificate to show to clients: {reason}")
            }
            Refusal::Handshake(_, words) => write!(f, "the TLS handshake failed: {words}"),
            Refusal::NotAdmitted(why) => f.write_str(why),
            Refusal::NoStream(entrance) => write!(f, "{entrance} has no route for these bytes"),
            Refusal::Silent(waited) => {
                write!(f, "the client did not begin with TLS within {waited:?}")
            }
        }
    }
}
