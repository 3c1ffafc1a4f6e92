//! Opens a TCP connection.
//!
//! Owns: socket options, the race between address families (RFC 8305), the refusal of loops.
//! Never: keeps a deadline (the caller does) or speaks on the connection.
//! Called by: `connect`.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::error::ConnectFailure;
use super::own::OwnAddrs;
use super::source::{self, DialFrom, Source};
use crate::model::{DialSource, EndpointAddr};

/// How long the first address is tried alone (RFC 8305 section 8).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// A peer that is gone without a word is noticed after about 60 s of silence: the first probe
/// after 30 s, then every 10 s, three times. Without it a half-open connection waits for ever.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(30))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// How long sent bytes may stay unacknowledged. Linux counts a window that stays closed too, and a
/// server that pauses in an upload is alive: this lies above the stream's own idle bound.
const USER_TIMEOUT: Duration = Duration::from_secs(330);

/// Linux: the source address cannot be used on the way to the destination.
const EINVAL: i32 = 22;

/// An open connection.
pub(super) struct Dialed<T> {
    pub(super) stream: T,
    /// The address that answered.
    pub(super) endpoint: EndpointAddr,
    /// The address that was tried first and was late or refused.
    pub(super) beaten: Option<EndpointAddr>,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct DialError {
    pub(super) endpoint: EndpointAddr,
    pub(super) problem: DialProblem,
}

#[derive(Debug)]
pub(super) enum DialProblem {
    /// It is ourselves.
    Loop,
    Failed(ConnectFailure),
}

/// Connects to `first`; to `other` as well where the first is slow or fails. The loser is dropped.
pub(super) async fn dial(
    first: EndpointAddr,
    other: Option<EndpointAddr>,
    source: Source,
    own: &OwnAddrs,
) -> Result<Dialed<TcpStream>, DialError> {
    race(first, other, |endpoint| connect(endpoint, source, own)).await
}

async fn race<T, F, C>(
    first: EndpointAddr,
    other: Option<EndpointAddr>,
    connect: C,
) -> Result<Dialed<T>, DialError>
where
    F: Future<Output = Result<T, DialProblem>>,
    C: Fn(EndpointAddr) -> F,
{
    let won = |stream, endpoint: EndpointAddr| Dialed {
        stream,
        endpoint,
        beaten: (endpoint != first).then_some(first),
    };
    let failed = |problem| DialError {
        endpoint: first,
        problem,
    };
    let mut one = pin!(connect(first));
    let Some(second) = other else {
        return one.await.map(|stream| won(stream, first)).map_err(failed);
    };
    let early = tokio::time::timeout(ATTEMPT_DELAY, &mut one).await;
    let problem = match early {
        Ok(Ok(stream)) => return Ok(won(stream, first)),
        Ok(Err(problem)) => Some(problem),
        Err(_) => None,
    };
    let mut two = pin!(connect(second));
    if let Some(problem) = problem {
        // Where both fail, what became of the one that was picked is what the caller asks.
        return two
            .await
            .map(|stream| won(stream, second))
            .map_err(|_| failed(problem));
    }
    tokio::select! {
        done = &mut one => match done {
            Ok(stream) => Ok(won(stream, first)),
            Err(problem) => {
                two.await.map(|stream| won(stream, second)).map_err(|_| failed(problem))
            }
        },
        done = &mut two => match done {
            Ok(stream) => Ok(won(stream, second)),
            Err(_) => one.await.map(|stream| won(stream, first)).map_err(failed),
        },
    }
}

async fn connect(
    endpoint: EndpointAddr,
    source: Source,
    own: &OwnAddrs,
) -> Result<TcpStream, DialProblem> {
    if own.is_own(endpoint.0) {
        return Err(DialProblem::Loop);
    }
    let opened = match source.kind {
        DialSource::Any => open(endpoint.0, None).await,
        DialSource::Inbound => inbound(endpoint.0, source.client, own).await?,
    };
    let stream = opened.map_err(|e| DialProblem::Failed(explain(e)))?;
    if let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) {
        if peer == local {
            // The kernel chose the very port that nobody listens on, and connected us to us.
            return Err(DialProblem::Failed(ConnectFailure::Refused));
        }
        if own.is_own_connection(peer, local) {
            return Err(DialProblem::Loop);
        }
        own.echo.opened(local, peer, source.kind);
    }
    Ok(stream)
}

/// To the application beside us: from its client's own address, if it is to see that (C4); else from
/// the one that the capturing rules exempt, where they would take the connection otherwise (ISTIO.md
/// P13, C2).
async fn inbound(
    address: SocketAddr,
    client: Option<IpAddr>,
    own: &OwnAddrs,
) -> Result<io::Result<TcpStream>, DialProblem> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let Some(from) = source::of(address.ip(), own) else {
        return Ok(open(address, None).await);
    };
    // The source hides that both ends are this host: a listener of ours on every address would not
    // be told from the application (O5).
    if own.is_own_connection(address, SocketAddr::new(address.ip(), 0)) {
        return Err(DialProblem::Loop);
    }
    if let Some(client) = client {
        let from = DialFrom::client(client);
        let opened = by_turns(address, from, source::client_ports()).await;
        return Ok(opened.map_err(|error| source::explain(client, error)));
    }
    let from = DialFrom::ours(from);
    Ok(match open(address, Some((from, 0))).await {
        // Not this machine's after all: the kernel lets no loopback address out (RFC 1122 3.2.1.3).
        Err(error) if error.raw_os_error() == Some(EINVAL) => open(address, None).await,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            by_turns(address, from, source::ports()).await
        }
        opened => opened,
    }
    .map_err(|error| source::explain(from.address, error)))
}

/// DialFrom the first of `ports` that will do. The kernel gives none away by itself that belongs to a
/// connection to anywhere, be it one that has ended within the minute.
async fn by_turns(
    address: SocketAddr,
    from: DialFrom,
    ports: impl Iterator<Item = u16>,
) -> io::Result<TcpStream> {
    for port in ports {
        match open(address, Some((from, port))).await {
            Err(error) if source::is_taken(&error) => {}
            opened => return opened,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// DialFrom `from` and its port, or from wherever the kernel likes.
async fn open(address: SocketAddr, from: Option<(DialFrom, u16)>) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    if let Some((from, port)) = from {
        // Of a port that is named, only connections to the very same address are in the way then.
        socket.set_reuseaddr(true)?;
        if from.is_clients {
            source::be_a_client(&SockRef::from(&socket), address)?;
        }
        socket.bind(SocketAddr::new(from.address, port))?;
    }
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    // Without these the connection still works, so a kernel that lacks them is no failure.
    let _ = options.set_tcp_keepalive(&KEEPALIVE);
    let _ = options.set_tcp_user_timeout(Some(USER_TIMEOUT));
    socket.connect(address).await
}

fn explain(error: io::Error) -> ConnectFailure {
    /// `ENFILE` and `EMFILE` on Linux: the host's or the process's file descriptors are used up.
    const OUT_OF_FILES: [i32; 2] = [23, 24];
    if error
        .raw_os_error()
        .is_some_and(|code| OUT_OF_FILES.contains(&code))
    {
        return ConnectFailure::Exhausted(Arc::new(error));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectFailure::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ConnectFailure::Reset,
        // EADDRNOTAVAIL from connect: no local port is left.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => {
            ConnectFailure::Exhausted(Arc::new(error))
        }
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::TimedOut => ConnectFailure::Unreachable(Arc::new(error)),
        _ => ConnectFailure::Io(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::model::ListenAddr;

    fn pair() -> (EndpointAddr, EndpointAddr) {
        let v6 = "[2001:db8::1]:443".parse().unwrap();
        (
            EndpointAddr(v6),
            EndpointAddr("192.0.2.1:443".parse().unwrap()),
        )
    }

    /// A race where each address answers, or refuses, after so many milliseconds.
    async fn raced(v6: Result<u64, u64>, v4: Result<u64, u64>) -> (Result<bool, String>, u64) {
        let (first, second) = pair();
        let begin = Instant::now();
        let connect = |endpoint| async move {
            let plan = if endpoint == first { v6 } else { v4 };
            sleep(Duration::from_millis(plan.unwrap_or_else(|late| late))).await;
            plan.map(|_| ())
                .map_err(|_| DialProblem::Failed(ConnectFailure::Refused))
        };
        let got = race(first, Some(second), connect).await;
        let took = u64::try_from(begin.elapsed().as_millis()).unwrap();
        let got = got.map(|d| {
            assert_eq!(d.beaten.is_some(), d.endpoint != first);
            d.endpoint == first
        });
        (got.map_err(|e| format!("{:?}", e.endpoint)), took)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_address_wins_while_it_answers_in_time() {
        assert_eq!(raced(Ok(200), Ok(1)).await, (Ok(true), 200));
        assert_eq!(raced(Ok(300), Ok(100)).await, (Ok(true), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn the_other_family_wins_where_the_first_is_slow_or_fails() {
        assert_eq!(raced(Ok(9000), Ok(10)).await, (Ok(false), 260));
        assert_eq!(raced(Err(5), Ok(10)).await, (Ok(false), 15));
        assert_eq!(raced(Err(270), Ok(100)).await, (Ok(false), 350));
    }

    #[tokio::test(start_paused = true)]
    async fn where_both_fail_the_first_ones_failure_is_told() {
        let first = format!("{:?}", pair().0);
        assert_eq!(raced(Err(1), Err(1)).await, (Err(first.clone()), 2));
        assert_eq!(raced(Err(500), Err(1)).await, (Err(first.clone()), 500));
        assert_eq!(raced(Err(260), Err(100)).await, (Err(first), 350));
    }

    #[tokio::test]
    async fn a_listener_of_ours_is_never_connected_to() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = OwnAddrs::new();
        own.set(vec![ListenAddr(address)]);
        let error = dial(EndpointAddr(address), None, DialSource::Any.into(), &own)
            .await
            .err()
            .unwrap();
        assert!(matches!(error.problem, DialProblem::Loop));

        own.set(vec![ListenAddr(SocketAddr::new(
            [0, 0, 0, 0].into(),
            address.port(),
        ))]);
        let error = dial(EndpointAddr(address), None, DialSource::Any.into(), &own)
            .await
            .err()
            .unwrap();
        assert!(matches!(error.problem, DialProblem::Loop));
    }

    #[tokio::test]
    async fn another_listener_is_connected_to_and_a_closed_port_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = EndpointAddr(listener.local_addr().unwrap());
        let dialed = dial(address, None, DialSource::Any.into(), &OwnAddrs::new())
            .await
            .ok()
            .unwrap();
        assert!(dialed.stream.nodelay().unwrap());
        assert!(SockRef::from(&dialed.stream).keepalive().unwrap());
        drop((dialed, listener));
        let error = dial(address, None, DialSource::Any.into(), &OwnAddrs::new())
            .await
            .err()
            .unwrap();
        let DialProblem::Failed(failure) = error.problem else {
            panic!("{:?}", error.problem);
        };
        assert!(matches!(failure, ConnectFailure::Refused));
    }

    /// This machine's address on a network, where it has one: no packet is sent.
    fn on_a_network(v6: bool) -> Option<IpAddr> {
        let (here, there) = match v6 {
            false => ("0.0.0.0:0", "192.0.2.1:9"),
            true => ("[::]:0", "[2001:db8::1]:9"),
        };
        let socket = std::net::UdpSocket::bind(here).ok()?;
        socket.connect(there).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }

    async fn dialled_from(ip: IpAddr) -> (SocketAddr, SocketAddr) {
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
        let to = listener.local_addr().unwrap();
        let own = OwnAddrs::new();
        let dialed = dial(EndpointAddr(to), None, DialSource::Inbound.into(), &own);
        let dialed = dialed.await.ok().unwrap();
        let (_stream, peer) = listener.accept().await.unwrap();
        (dialed.stream.local_addr().unwrap(), peer)
    }

    #[tokio::test]
    async fn p13_the_machines_own_address_is_dialled_from_127_0_0_6() {
        // Every loopback address is this machine's; all but 127.0.0.1 are captured (C2).
        let mut own: Vec<IpAddr> = vec![[127, 0, 0, 77].into()];
        own.extend(on_a_network(false));
        for ip in own {
            let (local, peer) = dialled_from(ip).await;
            assert_eq!(local.ip().to_string(), "127.0.0.6", "{ip}");
            assert_eq!(peer, local);
        }
    }

    #[tokio::test]
    async fn p13_where_the_kernel_has_no_port_left_others_are_tried_and_not_for_ever() {
        let from = IpAddr::from([127, 0, 0, 6]);
        // A listener keeps its port to itself; that of one that is gone is free.
        let keeper = TcpListener::bind(SocketAddr::new(from, 0)).await.unwrap();
        let other = TcpListener::bind(SocketAddr::new(from, 0)).await.unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (kept, taken) = (port(&keeper), port(&other));
        drop(other);
        let app = TcpListener::bind("127.0.0.77:0").await.unwrap();
        let to = app.local_addr().unwrap();
        let stream = by_turns(to, DialFrom::ours(from), [kept, taken].into_iter())
            .await
            .unwrap();
        assert_eq!(stream.local_addr().unwrap(), SocketAddr::new(from, taken));
        // To the same address the port is no longer free, and to another it is.
        let again = by_turns(to, DialFrom::ours(from), [kept, taken].into_iter()).await;
        assert!(source::is_taken(&again.unwrap_err()));
        let second = TcpListener::bind("127.0.0.78:0").await.unwrap();
        let to = second.local_addr().unwrap();
        let shared = by_turns(to, DialFrom::ours(from), [taken].into_iter())
            .await
            .unwrap();
        assert_eq!(shared.local_addr().unwrap().port(), taken);
    }

    #[tokio::test]
    async fn p13_127_0_0_1_is_dialled_from_wherever_the_kernel_likes() {
        let (local, _) = dialled_from([127, 0, 0, 1].into()).await;
        assert_eq!(local.ip().to_string(), "127.0.0.1");
    }

    #[tokio::test]
    async fn p13_an_ipv6_address_of_this_machine_needs_the_source_and_says_so() {
        let Some(ip) = on_a_network(true) else { return };
        let refused = std::net::UdpSocket::bind("[::6]:0").is_err();
        let listener = TcpListener::bind(SocketAddr::new(ip, 0)).await.unwrap();
        let to = EndpointAddr(listener.local_addr().unwrap());
        let dialed = dial(to, None, DialSource::Inbound.into(), &OwnAddrs::new()).await;
        match dialed {
            Ok(dialed) => {
                assert_eq!(dialed.stream.local_addr().unwrap().ip().to_string(), "::6");
            }
            Err(error) => {
                assert!(refused);
                let said = format!("{:?}", error.problem);
                assert!(said.contains("ip -6 addr add ::6/128 dev lo"), "{said}");
            }
        }
    }

    #[tokio::test]
    async fn o5_a_listener_of_ours_on_every_address_is_no_application() {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = OwnAddrs::new();
        own.set(vec![ListenAddr(listener.local_addr().unwrap())]);
        let Some(ip) = on_a_network(false) else {
            return;
        };
        let to = EndpointAddr(SocketAddr::new(ip, port));
        let error = dial(to, None, DialSource::Inbound.into(), &own)
            .await
            .err()
            .unwrap();
        assert!(matches!(error.problem, DialProblem::Loop));
    }
}
