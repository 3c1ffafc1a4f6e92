//! Connections on which nothing is under way: a socket each, and what is known of it, watched by one
//! task of their worker.
//!
//! Owns: what is kept of such a connection; its return as a task when bytes come or the drain
//! begins, its end when it has been silent for too long.
//! Never: reads a byte.
//! Called by: `proxy::http1`, `listener::connection`.
//!
//! Why: most connections wait most of the time, and a task of theirs keeps room for all that a
//! request needs. Why an epoll of its own: the runtime keeps a quarter of a kilobyte for each socket
//! that it watches.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use super::alarm::Alarm;
use super::context::ProxyContext;
use super::crowd::Crowd;
use super::downstream::Downstream;
use super::socket::Socket;
use crate::drain::DrainGuard;
use crate::model::{ListenerKind, OriginalDst, PeerAddr};

/// A connection that is silent for so long is parked.
pub const PATIENCE: Duration = Duration::from_millis(50);
/// Those that are silent for too long are looked for no oftener than this.
const LEAST: Duration = Duration::from_millis(10);
/// Sockets that one look may find ready.
const AT_ONCE: usize = 256;
const NOW: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// How a connection goes on.
pub type Resume =
    fn(Downstream, Arc<ProxyContext>, DrainGuard) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// The parked connections of one worker.
#[derive(Default)]
pub struct Lot {
    places: Arc<Mutex<Places>>,
    /// Those who are not parked yet.
    pub(super) crowd: Crowd,
}

#[derive(Default)]
struct Places {
    /// Made with the first connection.
    epoll: Option<Arc<OwnedFd>>,
    /// A connection's place is what the kernel calls it by.
    taken: Vec<Option<Box<Parked>>>,
    free: Vec<usize>,
    /// When the first of them has been silent for too long.
    sweep_at: Option<Instant>,
    /// There is a task, and this wakes it.
    task: Option<Waker>,
    running: bool,
    /// The drain has begun.
    leaving: bool,
}

/// What is kept of a connection of the mesh: as little as can be.
struct Parked {
    stream: TcpStream,
    peer: Compact,
    local: Compact,
    original_dst: Option<Compact>,
    shown: Option<Box<IpAddr>>,
    captured: bool,
    held: Box<dyn Any + Send + Sync>,
    guard: DrainGuard,
    until: Instant,
    resume: Resume,
}

/// An address in half the room.
enum Compact {
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<SocketAddr> for Compact {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Compact::V4(address),
            SocketAddr::V6(address) => Compact::V6(Box::new(address)),
        }
    }
}

impl Compact {
    fn whole(&self) -> SocketAddr {
        match self {
            Compact::V4(address) => (*address).into(),
            Compact::V6(address) => (**address).into(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True for connections that can be parked: clear text of the mesh.
pub fn can_park(kind: ListenerKind, stream: &Socket) -> bool {
    let of_mesh = matches!(kind, ListenerKind::Direct | ListenerKind::Capture);
    of_mesh && matches!(stream, Socket::Plain(_))
}

impl Lot {
    /// Parks a connection for which [`can_park`] is true, until bytes come, the drain begins, or
    /// `until`, which ends it. It goes on by `resume`, in a task of its own.
    pub fn park(
        &self,
        downstream: Downstream,
        context: &Arc<ProxyContext>,
        guard: DrainGuard,
        (until, resume): (Instant, Resume),
    ) {
        let Socket::Plain(stream) = downstream.stream else {
            return;
        };
        // From here on the runtime does not know it.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => return lost(downstream.peer, &error),
        };
        let signal = guard.signal();
        let parked = Box::new(Parked {
            stream,
            peer: downstream.peer.0.into(),
            local: downstream.local.into(),
            original_dst: downstream.original_dst.map(|OriginalDst(to)| to.into()),
            shown: downstream.shown.map(Box::new),
            captured: downstream.kind == ListenerKind::Capture,
            held: downstream.held,
            guard,
            until,
            resume,
        });
        let mut places = lock(&self.places);
        if places.leaving {
            drop(places);
            return parked.go_on(context);
        }
        let epoll = match places.keep(parked) {
            Ok(epoll) => epoll,
            // The kernel watches no more of them: this one stays a task.
            Err(parked) => {
                drop(places);
                return parked.go_on(context);
            }
        };
        let earlier = places.sweep_at.is_none_or(|at| until < at);
        if earlier {
            places.sweep_at = Some(until);
        }
        if std::mem::replace(&mut places.running, true) {
            // Left where it is unless it is used: a later one may need it.
            let task = match earlier {
                true => places.task.take(),
                false => None,
            };
            drop(places);
            if let Some(task) = task {
                task.wake();
            }
            return;
        }
        drop(places);
        #[expect(
            deprecated,
            reason = "the other constructors are unsafe for the sake of types whose descriptor \
                      changes; this one's is its own"
        )]
        let ready = AsyncFd::with_interest(epoll, Interest::READABLE);
        let ready = match ready {
            Ok(ready) => ready,
            Err(error) => {
                tracing::warn!("waiting connections cannot be watched: {error}");
                for parked in lock(&self.places).stop() {
                    parked.go_on(context);
                }
                return;
            }
        };
        let mut watch = Watch {
            places: Arc::clone(&self.places),
            context: Arc::clone(context),
            ready,
            leaving: Box::pin(signal.started()),
            alarm: Alarm::default(),
        };
        tokio::spawn(std::future::poll_fn(move |cx| watch.poll(cx)));
    }
}

fn lost(peer: PeerAddr, error: &io::Error) {
    tracing::debug!(%peer, "a waiting connection was lost: {error}");
}

impl Places {
    /// Has the kernel watch it; gives it back where it does not.
    fn keep(&mut self, parked: Box<Parked>) -> Result<Arc<OwnedFd>, Box<Parked>> {
        let epoll = match &self.epoll {
            Some(epoll) => Arc::clone(epoll),
            None => match epoll::create(epoll::CreateFlags::CLOEXEC) {
                Ok(epoll) => Arc::clone(self.epoll.insert(Arc::new(epoll))),
                Err(_) => return Err(parked),
            },
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.taken.push(None);
            self.taken.len() - 1
        });
        let data = epoll::EventData::new_u64(place as u64);
        let events = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        let watched = epoll::add(&*epoll, &parked.stream, data, events);
        match self.taken.get_mut(place).filter(|_| watched.is_ok()) {
            Some(slot) => {
                *slot = Some(parked);
                Ok(epoll)
            }
            None => {
                self.free.push(place);
                Err(parked)
            }
        }
    }

    /// Takes one out.
    fn take(&mut self, place: usize) -> Option<Box<Parked>> {
        let parked = self.taken.get_mut(place)?.take()?;
        self.free.push(place);
        if let Some(epoll) = &self.epoll {
            // It would be told of for as long as its socket is open.
            let _ = epoll::delete(&**epoll, &parked.stream);
        }
        Some(parked)
    }

    fn until(&self, place: usize) -> Option<Instant> {
        let parked = self.taken.get(place)?.as_ref()?;
        Some(parked.until)
    }

    fn is_empty(&self) -> bool {
        self.free.len() == self.taken.len()
    }

    /// Takes out all, and there is no task any more.
    fn stop(&mut self) -> Vec<Parked> {
        let all = (0..self.taken.len()).filter_map(|place| self.take(place));
        let all: Vec<_> = all.map(|parked| *parked).collect();
        (self.taken, self.free) = (Vec::new(), Vec::new());
        self.sweep_at = None;
        self.running = false;
        self.task = None;
        all
    }
}

impl Parked {
    fn go_on(self, context: &Arc<ProxyContext>) {
        let idle_timeout = context.cell.load().limits.idle_timeout;
        let lively = Instant::now() + idle_timeout < self.until + PATIENCE;
        let peer = PeerAddr(self.peer.whole());
        let stream = match tokio::net::TcpStream::from_std(self.stream) {
            Ok(stream) => stream,
            Err(error) => return lost(peer, &error),
        };
        let downstream = Downstream {
            stream: Socket::Plain(stream),
            first: Bytes::new(),
            peer,
            local: self.local.whole(),
            kind: match self.captured {
                true => ListenerKind::Capture,
                false => ListenerKind::Direct,
            },
            original_dst: self.original_dst.map(|to| OriginalDst(to.whole())),
            shown: self.shown.map(|shown| *shown),
            entrance: None,
            secured: None,
            made_with: None,
            lively,
            held: self.held,
        };
        tokio::spawn((self.resume)(downstream, Arc::clone(context), self.guard));
    }
}

/// The task.
struct Watch {
    places: Arc<Mutex<Places>>,
    context: Arc<ProxyContext>,
    ready: AsyncFd<Arc<OwnedFd>>,
    leaving: Pin<Box<dyn Future<Output = ()> + Send>>,
    alarm: Alarm,
}

impl Watch {
    /// Ready once nothing is parked any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut leaving = self.leaving.as_mut().poll(cx).is_ready();
        while let Poll::Ready(looked) = self.poll_look(cx) {
            if let Err(error) = looked {
                tracing::warn!("waiting connections cannot be watched any more: {error}");
                leaving = true;
                break;
            }
        }
        if leaving {
            let all = {
                let mut places = lock(&self.places);
                places.leaving = true;
                places.stop()
            };
            all.into_iter()
                .for_each(|parked| parked.go_on(&self.context));
            return Poll::Ready(());
        }
        loop {
            let at = {
                let mut places = lock(&self.places);
                if places.is_empty() {
                    places.stop();
                    return Poll::Ready(());
                }
                places.task = Some(cx.waker().clone());
                places.sweep_at
            };
            match at {
                Some(at) if self.alarm.poll(at, cx).is_ready() => self.sweep(),
                _ => return Poll::Pending,
            }
        }
    }

    /// Has those go on to which bytes have come, or their end.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.ready.poll_read_ready(cx))?;
        let mut events = Vec::with_capacity(AT_ONCE);
        match epoll::wait(
            &**guard.get_inner(),
            spare_capacity(&mut events),
            Some(&NOW),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        if events.len() < AT_ONCE {
            guard.clear_ready();
        }
        for event in &events {
            let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let parked = lock(&self.places).take(place);
            if let Some(parked) = parked {
                parked.go_on(&self.context);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends what has been silent for too long.
    fn sweep(&mut self) {
        let now = Instant::now();
        let mut places = lock(&self.places);
        let mut next: Option<Instant> = None;
        for place in 0..places.taken.len() {
            let Some(until) = places.until(place) else {
                continue;
            };
            if until <= now {
                // Nothing is unread: closing says that it ends.
                drop(places.take(place));
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        places.sweep_at = next.map(|next| next.max(now + LEAST));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The runtime ends with its worker: nobody watches them any more.
        drop(lock(&self.places).stop());
    }
}
