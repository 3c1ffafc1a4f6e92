//! Bind, and the accept loop: back-off when accepting fails, a pause when the limit is reached.
//!
//! Owns: listening sockets, one per worker and address (SO_REUSEPORT).
//! Never: ends because one accept failed, and never spins on one that fails at once.
//! Called by: app (`bind`), worker (`run`).
//!
//! Why a socket per worker: the kernel spreads connections, and no two cores share a queue.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::connection::{self, Arrival};
use super::original_dst::OriginalDestination;
use crate::drain::{Drain, Side};
use crate::model::{ListenAddr, ListenerKind, ListenerSpec, PeerAddr};
use crate::proxy::ProxyContext;

/// Connections that the kernel holds for us while we are busy.
const BACKLOG: i32 = 4096;
/// First and longest pause after an accept that failed for want of descriptors or memory.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// An address that is bound, with one socket for each worker.
pub struct Bound {
    /// How connections on it learn their destination.
    pub kind: ListenerKind,
    /// Where it really is: the port is never 0.
    pub address: ListenAddr,
    /// It takes connections to any address, which rules with TPROXY lead to it (ISTIO.md C4).
    pub transparent: bool,
    /// One socket per worker.
    pub sockets: Vec<StdListener>,
}

/// A listener that cannot be opened. `Display` says why and what to do.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({place}): {source}{}", advice(source, *address))]
pub struct BindError {
    /// The address asked for.
    pub address: SocketAddr,
    /// Who asked for it.
    pub place: crate::model::Place,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

fn advice(error: &io::Error, address: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; another process has this port: `ss -ltnp 'sport = :{}'` names it",
            address.port()
        ),
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "; a port below 1024 needs CAP_NET_BIND_SERVICE, or the sysctl \
             net.ipv4.ip_unprivileged_port_start=0"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "; no interface of this machine has that address".to_owned()
        }
        _ => String::new(),
    }
}

/// Opens one listening socket per worker on one address. `ours`: the port is already one of ours,
/// under another address or kind, and stays so until the change is complete.
///
/// # Errors
/// The kernel's, with the address, who asked for it and what to do.
pub fn bind(spec: &ListenerSpec, workers: usize, ours: bool) -> Result<Bound, BindError> {
    bind_as(spec, workers, ours, false)
}

/// The same for connections that TPROXY leads here: their destination stays the socket's own address.
///
/// # Errors
/// As those of [`bind`]; and where CAP_NET_ADMIN is lacking, that it is.
pub fn bind_transparent(
    spec: &ListenerSpec,
    workers: usize,
    ours: bool,
) -> Result<Bound, BindError> {
    bind_as(spec, workers, ours, true)
}

fn bind_as(
    spec: &ListenerSpec,
    workers: usize,
    ours: bool,
    transparent: bool,
) -> Result<Bound, BindError> {
    let fail = |source| BindError {
        address: spec.address,
        place: spec.place.clone(),
        source,
    };
    if !ours {
        refuse_taken(spec.address).map_err(fail)?;
    }
    let mut sockets = Vec::with_capacity(workers);
    let mut address = spec.address;
    for _ in 0..workers.max(1) {
        let socket = open(address, true, transparent).map_err(fail)?;
        address = socket.local_addr().map_err(fail)?;
        sockets.push(socket);
    }
    Ok(Bound {
        kind: spec.kind,
        address: ListenAddr(address),
        transparent,
        sockets,
    })
}

/// SO_REUSEPORT would let two processes of one user share a port without a word, each getting half
/// of the connections. Binding once without it tells that the port is free. It never listens: whoever
/// came in that moment would be reset.
fn refuse_taken(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    bound(address, false, false).map(drop)
}

fn open(address: SocketAddr, shared: bool, transparent: bool) -> io::Result<StdListener> {
    let socket = bound(address, shared, transparent)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// `[::]` is every address of both families. On a machine without IPv6 it is every one of IPv4.
fn bound(address: SocketAddr, shared: bool, transparent: bool) -> io::Result<Socket> {
    const EAFNOSUPPORT: i32 = 97;
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
    match bound_exactly(address, shared, transparent) {
        Err(error) if address == everywhere && error.raw_os_error() == Some(EAFNOSUPPORT) => {
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            bound_exactly(ipv4, shared, transparent)
        }
        bound => bound,
    }
}

fn bound_exactly(address: SocketAddr, shared: bool, transparent: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    if transparent {
        set_transparent(&socket, address)?;
    }
    // What is accepted has it from here. Without it small answers wait for the client's delayed
    // acknowledgement.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// One option does for both families: the kernel keeps one flag for a socket.
fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
    // No mark, as before; but that one may be set is what answers depend on later.
    .and_then(|()| socket.set_mark(0))
    .map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => io::Error::other(format!(
            "{error}; --interception TPROXY needs CAP_NET_ADMIN: run as user 0 with \
             that capability added, or take --interception REDIRECT"
        )),
        _ => error,
    })
}

/// How connections on a listener learn where they were going.
#[derive(Clone, Copy)]
pub(super) struct Learns {
    pub(super) kind: ListenerKind,
    /// The listener's own address, where what it accepts has kept its destination's (TPROXY).
    pub(super) transparent: Option<SocketAddr>,
    /// The address of our end, where all that is accepted has the same.
    pub(super) local: Option<SocketAddr>,
}

/// Accepts until the drain starts or `closed` turns true, then takes what the kernel still holds.
pub async fn run(
    listener: TcpListener,
    (kind, transparent): (ListenerKind, bool),
    context: Arc<ProxyContext>,
    original_dst: Arc<dyn OriginalDestination>,
    drain: Drain,
    mut closed: watch::Receiver<bool>,
) {
    let own = listener.local_addr().ok();
    let learns = Learns {
        kind,
        transparent: own.filter(|_| transparent),
        local: own.filter(|own| !transparent && !own.ip().is_unspecified()),
    };
    let mut guard = drain.door(side(kind));
    let mut pause = BACK_OFF.0;
    loop {
        // Looked at here too: while connections keep coming, accepting always wins below.
        if guard.has_started() || *closed.borrow() {
            break;
        }
        let accepted = tokio::select! {
            biased;
            accepted = listener.accept() => accepted,
            () = guard.started() => break,
            () = gone(&mut closed) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = BACK_OFF.0;
                wait_for_bytes(&stream);
                // At the limit this one waits here and all others in the kernel's queue. A place
                // taken before accepting would be held by a listener on which nobody calls.
                let permit = tokio::select! {
                    biased;
                    permit = Arc::clone(&context.places).acquire_owned() => permit.ok(),
                    () = guard.started() => None,
                    () = gone(&mut closed) => None,
                };
                let arrival = Arrival {
                    stream,
                    peer: peer_of(peer),
                    learns,
                    permit,
                };
                spawn(arrival, &context, &original_dst, &drain);
            }
            Err(error) => {
                context.metrics.downstream.accept_errors.inc();
                if is_of_the_connection(&error) {
                    continue;
                }
                if pause == BACK_OFF.0 {
                    tracing::warn!(
                        "cannot accept connections: {error}; trying again{}",
                        descriptor_advice(&error)
                    );
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(BACK_OFF.1);
            }
        }
    }
    take_what_is_queued(listener, learns, &context, &original_dst, &drain);
}

/// The runtime takes a new socket for readable until a read has found nothing, and the first bytes mostly come a
/// moment after the connection: this says so without asking the kernel, which tells of bytes that are there already.
fn wait_for_bytes(stream: &TcpStream) {
    let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
    let _ = stream.try_io(Interest::READABLE, nothing);
}

/// Returns when the listener is to go. Whoever could say so being lost does not say so.
async fn gone(closed: &mut watch::Receiver<bool>) {
    if closed.wait_for(|closed| *closed).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Closing a listening socket resets the connections in its queue: they are served first. The
/// kernel itself is asked, as the runtime may not have heard of the latest yet.
fn take_what_is_queued(
    listener: TcpListener,
    learns: Learns,
    context: &Arc<ProxyContext>,
    original_dst: &Arc<dyn OriginalDestination>,
    drain: &Drain,
) {
    let Ok(listener) = listener.into_std() else {
        return;
    };
    for _ in 0..BACKLOG {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_of_the_connection(&error) => continue,
            Err(_) => return,
        };
        let usable = stream.set_nonblocking(true);
        let Ok(stream) = usable.and_then(|()| TcpStream::from_std(stream)) else {
            continue;
        };
        let arrival = Arrival {
            stream,
            peer: peer_of(peer),
            learns,
            permit: None,
        };
        spawn(arrival, context, original_dst, drain);
    }
}

/// A client of IPv4 is one, whatever the listener's family.
fn peer_of(peer: SocketAddr) -> PeerAddr {
    PeerAddr(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
}

fn spawn(
    arrival: Arrival,
    context: &Arc<ProxyContext>,
    original_dst: &Arc<dyn OriginalDestination>,
    drain: &Drain,
) {
    let context = Arc::clone(context);
    let original_dst = Arc::clone(original_dst);
    let arrival_kind = arrival.learns.kind;
    let guard = drain.guard(side(arrival_kind));
    // Boxed: the runtime would copy it ten times on its way.
    tokio::spawn(Box::pin(connection::serve(
        arrival,
        context,
        original_dst,
        guard,
    )));
}

/// ISTIO.md I11: the application's own calls go on longest.
fn side(kind: ListenerKind) -> Side {
    match kind {
        ListenerKind::Inbound(_) | ListenerKind::Gateway(_) => Side::Inbound,
        ListenerKind::Direct | ListenerKind::Capture => Side::Outbound,
    }
}

/// The connection ended before it was accepted: the listener itself is well.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

fn descriptor_advice(error: &io::Error) -> &'static str {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    match error.raw_os_error() {
        Some(EMFILE) => "; this process is out of file descriptors: raise `ulimit -n`",
        Some(ENFILE) => "; the machine is out of file descriptors: raise fs.file-max",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(address: SocketAddr) -> ListenerSpec {
        ListenerSpec {
            address,
            kind: ListenerKind::Direct,
            place: Default::default(),
        }
    }

    #[test]
    fn a_listener_opens_one_socket_per_worker_on_one_port() {
        let bound = bind(&spec("127.0.0.1:0".parse().unwrap()), 3, false).unwrap();
        assert_eq!(bound.sockets.len(), 3);
        assert!(
            bound
                .sockets
                .iter()
                .all(|s| s.local_addr().unwrap() == bound.address.0)
        );
    }

    #[test]
    fn a_client_that_comes_while_a_port_is_being_opened_is_not_reset() {
        use std::io::Read;
        use std::net::TcpStream;
        let free = StdListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        for _ in 0..40 {
            let client = std::thread::spawn(move || {
                loop {
                    if let Ok(mut stream) = TcpStream::connect(address) {
                        let patience = Duration::from_millis(10);
                        stream.set_read_timeout(Some(patience)).unwrap();
                        return stream.read(&mut [0]).unwrap_err().kind();
                    }
                }
            });
            let bound = bind(&spec(address), 1, false).unwrap();
            let nothing_came = client.join().unwrap();
            assert_eq!(nothing_came, io::ErrorKind::WouldBlock);
            drop(bound);
        }
    }

    #[test]
    fn x13_every_address_is_that_of_both_families() {
        let bound = bind(&spec("[::]:0".parse().unwrap()), 2, false).unwrap();
        let port = bound.address.0.port();
        for socket in &bound.sockets {
            socket.set_nonblocking(true).unwrap();
        }
        // Without IPv6 on the machine it is IPv4 alone, and this one works all the same.
        std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let peer = peer_of("[::ffff:10.0.0.1]:80".parse().unwrap());
        assert_eq!(peer.0.to_string(), "10.0.0.1:80");
    }

    #[test]
    fn a_listener_does_not_share_a_port_that_another_process_has() {
        let first = bind(&spec("127.0.0.1:0".parse().unwrap()), 1, false).unwrap();
        let Err(error) = bind(&spec(first.address.0), 1, false) else {
            panic!("bound twice")
        };
        let words = error.to_string();
        assert!(words.contains("another process has this port"), "{words}");
        assert!(words.contains("ss -ltnp"), "{words}");
    }
}
