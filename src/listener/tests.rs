//! Connections that carry no HTTP, from the accepted socket to the upstream's: tables built of
//! values, real sockets on both sides, and an original destination that the test says.
//!
//! Owns: promises that take the listener, the proxy and an upstream together.
//! Never: sleeps to wait for something.
//! Called by: `cargo test`.

mod http1;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::accept::Learns;
use super::connection::{self, Arrival};
use super::hello::tests::client_hello;
use super::original_dst::OriginalDestination;
use crate::certs::Credentials;
use crate::drain::{Drain, Side};
use crate::model::{
    Action, Broken, BrokenKind, CaSource, Config, CredentialSpec, EndpointSpec, Host, HostPattern,
    HostRoutes, ListenerKind, OriginalDst, PeerAddr, Place, Resolution, Retries, RuleSpec,
    StreamMatch, StreamRoute, TlsPolicy, TlsSpec, UnknownHosts, UpstreamSpec, Weighted,
};
use crate::proxy::headers::Pseudonym;
use crate::proxy::{PassThrough, ProxyContext};
use crate::route::RetryBudget;
use crate::snapshot::SnapshotCell;
use crate::telemetry::{AccessFormat, AccessLog, BLACK_HOLE, Metrics, PASSTHROUGH, UNKNOWN};
use crate::upstream::{OwnAddrs, Resolver, Upstream, UpstreamContext, UpstreamTls};

/// What a connection says of where it was going.
struct Says(Option<SocketAddr>);

impl OriginalDestination for Says {
    fn of(&self, _: &TcpStream) -> Option<OriginalDst> {
        self.0.map(OriginalDst)
    }
}

pub(super) struct Bench {
    pub(super) context: Arc<ProxyContext>,
    pub(super) drain: Drain,
    folder: tempfile::TempDir,
    upstreams: UpstreamContext,
}

fn learns(kind: ListenerKind) -> Learns {
    Learns {
        kind,
        transparent: None,
        local: None,
    }
}

fn stream(port: u16, on: StreamMatch, to: &str) -> StreamRoute {
    StreamRoute {
        port: Some(port),
        on,
        sources: Vec::new(),
        to: vec![Weighted::new(to, 1)],
        name: Some("a-route".into()),
        object: None,
        place: Place::default(),
    }
}

fn tls(port: u16, name: &str, to: &str) -> StreamRoute {
    let on = StreamMatch::Tls {
        names: vec![HostPattern::parse(name).unwrap()],
        destinations: Vec::new(),
    };
    stream(port, on, to)
}

fn tcp(port: u16, to: &str) -> StreamRoute {
    let destinations = Vec::new();
    stream(port, StreamMatch::Tcp { destinations }, to)
}

fn host(port: u16, name: &str, to: &str) -> HostRoutes {
    let action = Action::Forward(vec![Weighted::new(to, 1)]);
    HostRoutes {
        hosts: vec![HostPattern::parse(name).unwrap()].into(),
        port: Some(port),
        rules: vec![RuleSpec::new(action, Place::default())].into(),
        object: None,
        place: Place::default(),
    }
}

fn upstream(name: &str, to: SocketAddr) -> UpstreamSpec {
    let mut spec = UpstreamSpec::new(name);
    spec.resolution = Resolution::Static;
    let host = Host::parse(&to.ip().to_string()).unwrap();
    spec.endpoints = vec![EndpointSpec::new(host, to.port())];
    spec
}

/// TLS that nobody will ever speak here: there is no credential.
fn originating() -> TlsSpec {
    TlsSpec::new(CredentialSpec {
        identity: None,
        ca: CaSource::System,
        crl: None,
    })
}

fn config(upstreams: Vec<UpstreamSpec>, streams: Vec<StreamRoute>) -> Config {
    Config {
        upstreams,
        streams,
        ..Config::default()
    }
}

impl Bench {
    fn new(config: &Config) -> Bench {
        Bench::with(config, &Credentials::default())
    }

    pub(super) fn with(config: &Config, credentials: &Credentials) -> Bench {
        let metrics = Metrics::new(1);
        let upstreams = UpstreamContext {
            workers: 1,
            resolver: Resolver::system(Handle::current()),
            own: OwnAddrs::new(),
            metrics: Arc::clone(&metrics),
        };
        let built = crate::publish::build(config, credentials, None, &upstreams, 1);
        let snapshot = built.unwrap_or_else(|errors| panic!("{errors:?}"));
        let spec = UpstreamSpec {
            resolution: Resolution::OriginalDst { port: None },
            ..UpstreamSpec::new(PASSTHROUGH)
        };
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("access.log");
        let format = AccessFormat::parse("text").unwrap();
        let log = AccessLog::open(log.to_str().unwrap(), format, &metrics).unwrap();
        let drain = Drain::new();
        let context = ProxyContext {
            worker: 0,
            cell: Arc::new(SnapshotCell::new(snapshot)),
            access_log: Some(Arc::new(log)),
            terse: false,
            pseudonym: Pseudonym::new(7),
            lot: Default::default(),
            mirrors: Arc::default(),
            drain: drain.clone(),
            places: Arc::new(Semaphore::new(100)),
            pass_through: PassThrough {
                upstream: Upstream::new(spec, UpstreamTls::Plain, &upstreams),
                retries: Retries::default(),
                budget: RetryBudget::default(),
            },
            black_hole: metrics.upstream(BLACK_HOLE),
            unrouted: metrics.upstream(UNKNOWN),
            metrics,
        };
        Bench {
            context: Arc::new(context),
            drain,
            folder,
            upstreams,
        }
    }

    /// Another configuration takes the place of the one before.
    pub(super) fn reload(&self, config: &Config, credentials: &Credentials) {
        let cell = &self.context.cell;
        let before = cell.peek();
        let version = before.version + 1;
        let before = Some(before.as_ref());
        let built = crate::publish::build(config, credentials, before, &self.upstreams, version);
        cell.publish(built.unwrap_or_else(|errors| panic!("{errors:?}")));
    }

    /// A connection to a listener of that kind, and the listener's address.
    pub(super) async fn arrive(
        &self,
        kind: ListenerKind,
        original_dst: impl FnOnce(SocketAddr) -> Option<SocketAddr>,
    ) -> TcpStream {
        self.arrive_by(kind, original_dst, |_| ()).await
    }

    /// The same, of which both sockets are changed before a byte goes.
    pub(super) async fn arrive_by(
        &self,
        kind: ListenerKind,
        original_dst: impl FnOnce(SocketAddr) -> Option<SocketAddr>,
        change: impl Fn(SockRef<'_>),
    ) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpSocket::new_v4().unwrap();
        change(SockRef::from(&client));
        let (client, accepted) = tokio::join!(client.connect(ours), listener.accept());
        let (stream, peer) = accepted.unwrap();
        change(SockRef::from(&stream));
        let arrival = Arrival {
            stream,
            peer: PeerAddr(peer),
            learns: learns(kind),
            permit: Arc::clone(&self.context.places).try_acquire_owned().ok(),
        };
        let says = Arc::new(Says(original_dst(ours)));
        let context = Arc::clone(&self.context);
        tokio::spawn(connection::serve(
            arrival,
            context,
            says,
            self.drain.guard(Side::Outbound),
        ));
        client.unwrap()
    }

    /// A captured connection that was going there.
    async fn captured(&self, to: SocketAddr) -> TcpStream {
        self.arrive(ListenerKind::Capture, |_| Some(to)).await
    }

    pub(super) fn rejected(&self, reason: &str) -> u64 {
        self.context.metrics.downstream.rejected.value(reason)
    }

    fn metric(&self, words: &[&str]) -> u64 {
        let page = self.context.metrics.encode();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        let fit = lines.filter(|line| words.iter().all(|word| line.contains(word)));
        let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        fit.map(value).sum()
    }

    /// The only line of the access log, without the time at its beginning.
    pub(super) async fn line(self) -> String {
        let path = self.folder.path().join("access.log");
        // Every connection has been told once nobody holds a guard.
        self.drain.finished().await;
        let log = self.context.access_log.as_ref().unwrap();
        assert!(log.flush(Duration::from_secs(20)));
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text}");
        lines[0].split_once("] ").unwrap().1.to_owned()
    }
}

pub(super) async fn origin() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    listener.accept().await.unwrap().0
}

/// Everything until the end; an end by reset is one too.
pub(super) async fn rest<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all).await;
    all
}

pub(super) async fn exactly<S: AsyncRead + Unpin>(stream: &mut S, bytes: &[u8]) {
    let mut seen = vec![0; bytes.len()];
    stream.read_exact(&mut seen).await.unwrap();
    assert_eq!(seen, bytes);
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn v17_tls_goes_by_its_name_untouched_and_each_side_may_end_first() {
    let (listener, there) = origin().await;
    let bench = Bench::new(&config(
        vec![upstream("outbound|443||a.example", there)],
        vec![tls(443, "*.example", "outbound|443||a.example")],
    ));
    let hello = client_hello(Some("a.example"), &["h2"]);
    let mut client = bench.captured(address("203.0.113.9:443")).await;
    // However it is cut, the upstream sees what was sent.
    for byte in &hello {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut served = accept(&listener).await;
    exactly(&mut served, &hello).await;
    client.write_all(b"\x17early").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut served).await, b"\x17early");
    served.write_all(b"the server's own answer").await.unwrap();
    drop(served);
    assert_eq!(rest(&mut client).await, b"the server's own answer");
    let up = (hello.len() + 6) as u64;
    let name = "destination_service_name=\"a.example\"";
    assert_eq!(
        bench.metric(&["istio_tcp_connections_opened_total", name]),
        1
    );
    assert_eq!(bench.metric(&["istio_tcp_received_bytes_total", name]), up);
    assert_eq!(bench.metric(&["istio_tcp_sent_bytes_total", name]), 23);
    let line = bench.line().await;
    let begins = format!("\"- - -\" 0 - - - \"-\" {up} 23 ");
    assert!(line.starts_with(&begins), "{line}");
    let peers = format!("\"{there}\" outbound|443||a.example 127.0.0.1:");
    assert!(line.contains(&peers), "{line}");
    assert!(line.contains(" 203.0.113.9:443 127.0.0.1:"), "{line}");
    assert!(line.ends_with(" a.example a-route"), "{line}");
}

#[tokio::test]
async fn v18_a_server_that_speaks_first_is_heard_on_a_port_of_tcp() {
    let (listener, there) = origin().await;
    let bench = Bench::new(&config(
        vec![upstream("mysql", there)],
        vec![tcp(3306, "mysql")],
    ));
    let mut client = bench.captured(address("203.0.113.9:3306")).await;
    let mut served = accept(&listener).await;
    served.write_all(b"5.7.1-greeting").await.unwrap();
    exactly(&mut client, b"5.7.1-greeting").await;
    client.write_all(b"login").await.unwrap();
    exactly(&mut served, b"login").await;
    // The server goes first, and still hears the client.
    served.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    client.write_all(b"bye").await.unwrap();
    drop(client);
    assert_eq!(rest(&mut served).await, b"bye");
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 - - - \"-\" 8 14 "), "{line}");
}

#[tokio::test]
async fn o3_an_unknown_name_is_closed_under_registry_only_and_named_in_the_log() {
    let (listener, there) = origin().await;
    let bench = Bench::new(&config(
        vec![upstream("a", there)],
        vec![tls(443, "a.example", "a")],
    ));
    let hello = client_hello(Some("evil.example"), &[]);
    let mut client = bench.captured(address("203.0.113.9:443")).await;
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("unknown_server_name"), 1);
    let closed = "istio_tcp_connections_closed_total";
    let black_hole = "destination_service_name=\"BlackHoleCluster\"";
    let flag = "response_flags=\"UH\"";
    assert_eq!(bench.metric(&[closed, black_hole, flag]), 1);
    let line = bench.line().await;
    let begins = "\"- - -\" 0 UH - unknown_server_name \"no route names evil.example for TLS";
    assert!(line.starts_with(begins), "{line}");
    assert!(line.contains(" BlackHoleCluster "), "{line}");
    assert!(line.contains(" evil.example -"), "{line}");
    drop(listener);
}

#[tokio::test]
async fn o4_an_unknown_name_goes_where_it_was_going_under_allow_any() {
    let (listener, there) = origin().await;
    let mut config = config(
        vec![upstream("a", address("127.0.0.1:9"))],
        vec![tls(there.port(), "a.example", "a")],
    );
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    for hello in [
        client_hello(Some("other.example"), &[]),
        client_hello(None, &[]),
    ] {
        let mut client = bench.captured(there).await;
        client.write_all(&hello).await.unwrap();
        let mut served = accept(&listener).await;
        exactly(&mut served, &hello).await;
    }
    let name = "destination_service_name=\"PassthroughCluster\"";
    assert_eq!(
        bench.metric(&["istio_tcp_connections_opened_total", name]),
        2
    );
}

#[tokio::test]
async fn o3_an_unknown_port_is_closed_after_accept_before_a_byte_is_read() {
    let bench = Bench::new(&config(
        vec![upstream("a", address("127.0.0.1:9"))],
        vec![tls(443, "a.example", "a")],
    ));
    let mut client = bench.captured(address("203.0.113.9:9999")).await;
    assert_eq!(rest(&mut client).await, b"");
    let line = bench.line().await;
    assert!(
        line.starts_with("\"- - -\" 0 UH - unknown_address "),
        "{line}"
    );
}

#[tokio::test]
async fn o4_on_an_unknown_port_even_a_server_that_speaks_first_is_heard_under_allow_any() {
    let (listener, there) = origin().await;
    let mut config = config(
        vec![upstream("a", address("127.0.0.1:9"))],
        vec![tls(443, "a.example", "a")],
    );
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let mut client = bench.captured(there).await;
    let mut served = accept(&listener).await;
    served.write_all(b"220 ready").await.unwrap();
    exactly(&mut client, b"220 ready").await;
}

#[tokio::test]
async fn o5_a_connection_to_the_capture_port_itself_is_closed_whatever_the_policy() {
    let mut config = config(Vec::new(), Vec::new());
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let to = |ours: SocketAddr| Some(SocketAddr::new([203, 0, 113, 9].into(), ours.port()));
    let mut client = bench.arrive(ListenerKind::Capture, to).await;
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("own_listener"), 1);
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 UH - own_listener "), "{line}");
}

#[tokio::test]
async fn c6_what_was_not_redirected_goes_nowhere() {
    let mut config = config(Vec::new(), Vec::new());
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let mut client = bench.arrive(ListenerKind::Capture, |_| None).await;
    client
        .write_all(&client_hello(Some("a.example"), &[]))
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("not_redirected"), 1);
}

#[tokio::test]
async fn d8_tls_for_an_upstream_that_adds_tls_is_refused_unless_it_is_allowed() {
    for (allowed, label) in [(false, "tls_in_tls"), (true, "upstream_connect_failed")] {
        let mut to = upstream("a", address("127.0.0.1:9"));
        let policy = TlsSpec {
            allow_tls_in_tls: allowed,
            ..originating()
        };
        to.tls = TlsPolicy::Tls(Box::new(policy));
        let bench = Bench::new(&config(vec![to], vec![tls(443, "a.example", "a")]));
        let mut client = bench.captured(address("203.0.113.9:443")).await;
        let hello = client_hello(Some("a.example"), &[]);
        client.write_all(&hello).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        assert_eq!(bench.rejected("tls_in_tls"), u64::from(!allowed));
        let line = bench.line().await;
        assert!(line.contains(label), "{line}");
        assert_eq!(
            line.contains("that would be TLS in TLS"),
            !allowed,
            "{line}"
        );
    }
}

#[tokio::test]
async fn d8_https_for_a_host_to_which_sortie_adds_tls_is_named_even_under_allow_any() {
    let mut to = upstream("a", address("127.0.0.1:9"));
    to.tls = TlsPolicy::Tls(Box::new(originating()));
    let mut config = config(vec![to], Vec::new());
    config.hosts = vec![host(80, "a.example", "a")];
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let mut client = bench.captured(address("203.0.113.9:80")).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("tls_for_http_host"), 1);
    let line = bench.line().await;
    let words = "the client speaks TLS to a.example, to which sortie adds TLS itself";
    assert!(line.contains(words), "{line}");
}

#[tokio::test]
async fn v20_bytes_that_are_no_http_on_a_port_of_http_follow_the_policy_for_strangers() {
    for policy in [UnknownHosts::Refuse, UnknownHosts::PassThrough] {
        let (listener, there) = origin().await;
        let mut config = config(vec![upstream("a", there)], Vec::new());
        config.hosts = vec![host(there.port(), "a.example", "a")];
        config.unknown_captured = policy;
        let bench = Bench::new(&config);
        let mut client = bench.captured(there).await;
        client.write_all(b"\x00\x01 no http").await.unwrap();
        if policy == UnknownHosts::PassThrough {
            exactly(&mut accept(&listener).await, b"\x00\x01 no http").await;
        } else {
            assert_eq!(rest(&mut client).await, b"");
            assert_eq!(bench.rejected("unknown_address"), 1);
        }
    }
}

#[tokio::test]
async fn v20_http_on_a_port_of_tls_alone_is_opaque_too() {
    let (listener, there) = origin().await;
    let mut config = config(
        vec![upstream("a", there)],
        vec![tls(there.port(), "a.example", "a")],
    );
    config.unknown_captured = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let mut client = bench.captured(there).await;
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    client.write_all(request).await.unwrap();
    exactly(&mut accept(&listener).await, request).await;
}

#[tokio::test]
async fn o2_a_captured_request_for_an_unknown_host_follows_the_policy_for_captured_traffic() {
    let (listener, there) = origin().await;
    for (captured, direct) in [
        (UnknownHosts::Refuse, UnknownHosts::PassThrough),
        (UnknownHosts::PassThrough, UnknownHosts::Refuse),
    ] {
        let mut config = config(vec![upstream("a", there)], Vec::new());
        config.hosts = vec![host(there.port(), "a.example", "a")];
        (config.unknown_captured, config.unknown_hosts) = (captured, direct);
        let bench = Bench::new(&config);
        let mut client = bench.captured(there).await;
        let request = b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n";
        client.write_all(request).await.unwrap();
        if captured == UnknownHosts::PassThrough {
            exactly(&mut accept(&listener).await, b"GET / HTTP/1.1\r\n").await;
        } else {
            exactly(&mut client, b"HTTP/1.1 502 Bad Gateway\r\n").await;
        }
    }
}

#[tokio::test]
async fn x1_a_broken_upstream_closes_the_connection_with_its_flag_and_reason() {
    for (kind, flag) in [(BrokenKind::NoCluster, "NC"), (BrokenKind::Unhealthy, "UH")] {
        let mut to = upstream("a", address("127.0.0.1:9"));
        let reason = "b.yaml:3: no subset v9".into();
        to.broken = Some(Broken { kind, reason });
        let mut config = config(vec![to], vec![tls(443, "a.example", "a"), tcp(3306, "a")]);
        config.unknown_captured = UnknownHosts::PassThrough;
        for (port, bytes) in [
            (443, client_hello(Some("a.example"), &[])),
            (3306, Vec::new()),
        ] {
            let bench = Bench::new(&config);
            let there = SocketAddr::new([127, 0, 0, 1].into(), port);
            let mut client = bench.captured(there).await;
            client.write_all(&bytes).await.unwrap();
            assert_eq!(rest(&mut client).await, b"");
            let line = bench.line().await;
            assert!(line.starts_with(&format!("\"- - -\" 0 {flag} ")), "{line}");
            assert!(line.contains("b.yaml:3: no subset v9"), "{line}");
        }
    }
}

#[tokio::test]
async fn x5_an_upstream_that_refuses_closes_the_connection_with_uf() {
    let nobody = origin().await.1;
    let bench = Bench::new(&config(
        vec![upstream("mysql", nobody)],
        vec![tcp(3306, "mysql")],
    ));
    let mut client = bench.captured(address("203.0.113.9:3306")).await;
    assert_eq!(rest(&mut client).await, b"");
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 UF - "), "{line}");
    assert!(line.contains(&format!("\"{nobody}\" mysql ")), "{line}");
}

#[tokio::test]
async fn a_hello_that_is_none_is_closed_with_the_reason_or_passes_where_anything_may() {
    let (listener, there) = origin().await;
    for policy in [UnknownHosts::Refuse, UnknownHosts::PassThrough] {
        let mut config = config(
            vec![upstream("a", there)],
            vec![tls(there.port(), "a.example", "a")],
        );
        config.unknown_captured = policy;
        let bench = Bench::new(&config);
        let mut client = bench.captured(there).await;
        let garbage = b"\x16\x03\x01\x00\x04\x02\x00\x00\x00";
        client.write_all(garbage).await.unwrap();
        if policy == UnknownHosts::PassThrough {
            exactly(&mut accept(&listener).await, garbage).await;
        } else {
            assert_eq!(rest(&mut client).await, b"");
            let line = bench.line().await;
            assert!(
                line.starts_with("\"- - -\" 0 DPE - malformed_hello "),
                "{line}"
            );
            assert!(
                line.contains("its first message is no ClientHello"),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn a_hello_that_stops_coming_is_given_up_and_a_silent_client_keeps_its_time() {
    let mut config = config(
        vec![upstream("a", address("127.0.0.1:9"))],
        vec![tls(443, "a.example", "a")],
    );
    config.limits.head_timeout = Duration::from_millis(20);
    let bench = Bench::new(&config);
    // One that has not begun is not late.
    let silent = bench.captured(address("203.0.113.9:443")).await;
    let mut client = bench.captured(address("203.0.113.9:443")).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello[..hello.len() - 1]).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("malformed_hello"), 1);
    assert_eq!(bench.drain.held(), 1);
    drop(silent);
    let line = bench.line().await;
    let words = "what begins like TLS is none: its first message took too long";
    assert!(line.contains(words), "{line}");
}

#[tokio::test]
async fn e2_an_original_destination_is_reached_on_the_port_that_replaces_it() {
    let (listener, there) = origin().await;
    let mut to = UpstreamSpec::new("wild");
    let port = Some(there.port());
    to.resolution = Resolution::OriginalDst { port };
    let bench = Bench::new(&config(vec![to], vec![tls(443, "*.example", "wild")]));
    let mut client = bench.captured(address("127.0.0.1:443")).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    exactly(&mut accept(&listener).await, &hello).await;
}

#[tokio::test]
async fn x15_a_client_that_addresses_us_meets_the_tls_routes_of_the_listeners_port() {
    let (upstreams, there) = origin().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ours = listener.local_addr().unwrap();
    let bench = Bench::new(&config(
        vec![upstream("a", there)],
        vec![tls(ours.port(), "a.example", "a")],
    ));
    let serve = |stream, peer| {
        let arrival = Arrival {
            stream,
            peer: PeerAddr(peer),
            learns: learns(ListenerKind::Direct),
            permit: None,
        };
        let context = Arc::clone(&bench.context);
        connection::serve(
            arrival,
            context,
            Arc::new(Says(None)),
            bench.drain.guard(Side::Outbound),
        )
    };
    let mut client = TcpStream::connect(ours).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    tokio::spawn(serve(stream, peer));
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    exactly(&mut accept(&upstreams).await, &hello).await;

    let mut client = TcpStream::connect(ours).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    tokio::spawn(serve(stream, peer));
    let hello = client_hello(Some("b.example"), &[]);
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(bench.rejected("tls_on_plain_listener"), 1);
}

#[tokio::test]
async fn e2_without_an_original_destination_the_name_that_tls_asks_for_is_looked_up() {
    for dynamic in [false, true] {
        let (listener, there) = origin().await;
        let port = Some(there.port());
        let mut to = UpstreamSpec::new("wild");
        to.resolution = match dynamic {
            true => Resolution::RequestHost { port },
            false => Resolution::OriginalDst { port },
        };
        let listening = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = listening.local_addr().unwrap();
        let bench = Bench::new(&config(
            vec![to],
            vec![tls(ours.port(), "*.localhost", "wild")],
        ));
        // DYNAMIC_DNS goes by the name even where the connection was captured.
        let (kind, original_dst) = match dynamic {
            true => (
                ListenerKind::Capture,
                Some(SocketAddr::new([203, 0, 113, 9].into(), ours.port())),
            ),
            false => (ListenerKind::Direct, None),
        };
        let mut client = match dynamic {
            // Another port than the one that it was captured for, or it would be one to ourselves.
            true => bench.arrive(kind, |_| original_dst).await,
            false => {
                let client = TcpStream::connect(ours).await.unwrap();
                let (stream, peer) = listening.accept().await.unwrap();
                let arrival = Arrival {
                    stream,
                    peer: PeerAddr(peer),
                    learns: learns(kind),
                    permit: None,
                };
                let context = Arc::clone(&bench.context);
                let says = Arc::new(Says(original_dst));
                tokio::spawn(connection::serve(
                    arrival,
                    context,
                    says,
                    bench.drain.guard(Side::Outbound),
                ));
                client
            }
        };
        let hello = client_hello(Some("bank.localhost"), &[]);
        client.write_all(&hello).await.unwrap();
        exactly(&mut accept(&listener).await, &hello).await;
    }
}

#[tokio::test]
async fn x15_tls_on_another_listener_is_refused_and_told_where_its_name_is_routed() {
    let mut config = config(
        vec![upstream("a", address("127.0.0.1:9"))],
        vec![tls(443, "a.example", "a")],
    );
    config.unknown_hosts = UnknownHosts::PassThrough;
    let bench = Bench::new(&config);
    let mut client = bench.arrive(ListenerKind::Direct, |_| None).await;
    let hello = client_hello(Some("a.example"), &[]);
    client.write_all(&hello).await.unwrap();
    assert_eq!(rest(&mut client).await, b"");
    let line = bench.line().await;
    assert!(
        line.starts_with("\"- - -\" 0 NR - tls_on_plain_listener "),
        "{line}"
    );
    let words = "(TLS for a.example passes through a listener on port 443)";
    assert!(line.contains(words), "{line}");
}

#[tokio::test]
async fn the_drain_waits_for_an_opaque_connection() {
    let (listener, there) = origin().await;
    let bench = Bench::new(&config(
        vec![upstream("mysql", there)],
        vec![tcp(3306, "mysql")],
    ));
    let mut client = bench.captured(address("203.0.113.9:3306")).await;
    let mut served = accept(&listener).await;
    bench.drain.start();
    client.write_all(b"one more").await.unwrap();
    exactly(&mut served, b"one more").await;
    assert_eq!(bench.drain.held(), 1);
    drop((client, served));
    let line = bench.line().await;
    assert!(line.starts_with("\"- - -\" 0 - "), "{line}");
}

#[tokio::test]
async fn a_connection_that_switched_protocols_keeps_its_place_until_it_has_ended() {
    let (listener, there) = origin().await;
    let mut config = config(vec![upstream("a", there)], Vec::new());
    config.hosts = vec![host(there.port(), "a.example", "a")];
    let bench = Bench::new(&config);
    let context = Arc::clone(&bench.context);
    let open = || {
        let connections = context.metrics.downstream.connections.value();
        (context.places.available_permits(), connections)
    };
    let mut client = bench.captured(there).await;
    let switch = "Connection: upgrade\r\nUpgrade: chat\r\n\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{switch}");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut served = accept(&listener).await;
    exactly(&mut served, b"GET / HTTP/1.1\r\n").await;
    let answer = format!("HTTP/1.1 101 Switching Protocols\r\n{switch}hello");
    served.write_all(answer.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"hello") {
        assert_ne!(client.read_buf(&mut seen).await.unwrap(), 0);
    }
    assert_eq!(open(), (99, 1));
    drop((client, served));
    bench.line().await;
    assert_eq!(open(), (100, 0));
}
