//! Names to addresses, as the system would do it, off the workers.
//!
//! Owns: [`Resolver`]: `/etc/hosts`, `localhost`, then DNS for A and AAAA.
//! Never: connects, or keeps an answer (that is `discover`).
//! Called by: `discover`, and `Upstream` for destinations that no endpoint names.
//!
//! Why `/etc/hosts` is asked here and not by the DNS library: a name that the file gives an IPv4
//! address alone is complete; the library would still ask the name servers for IPv6, and wait.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver};
use tokio::runtime::Handle;

use super::error::DnsProblem;

/// Addresses and how long they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// At least one.
    pub(super) addresses: Vec<IpAddr>,
    /// Between [`MIN_TTL`] and [`MAX_TTL`].
    pub(super) ttl: Duration,
}

/// An answer is used for at least this long, so that a TTL of 0 makes no storm.
pub(super) const MIN_TTL: Duration = Duration::from_secs(1);
/// An answer is asked for again after this, so that a wrong TTL is no life sentence.
pub(super) const MAX_TTL: Duration = Duration::from_secs(3600);

/// After this, IPv4 alone is asked for as well: there are name servers that drop AAAA queries.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is "not there" may be there soon: a new Service, a new record.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);

pub(super) type LookupFuture =
    Pin<Box<dyn Future<Output = Result<Found, DnsProblem>> + Send + 'static>>;

/// Something that knows addresses; tests have their own.
pub(super) trait Lookup: Send + Sync + 'static {
    fn lookup(&self, name: Arc<str>) -> LookupFuture;
}

/// Looks names up, on the cold runtime. Clones share one.
#[derive(Clone)]
pub struct Resolver {
    handle: Handle,
    lookup: Arc<dyn Lookup>,
}

impl Resolver {
    /// The system's resolver (`/etc/resolv.conf`, `/etc/hosts`), working on `cold`. Never fails:
    /// what is wrong with the configuration is said by the look-ups.
    pub fn system(cold: Handle) -> Resolver {
        Resolver::with(cold, Arc::new(System::default()))
    }

    pub(super) fn with(handle: Handle, lookup: Arc<dyn Lookup>) -> Resolver {
        Resolver { handle, lookup }
    }

    /// The runtime on which look-ups and timers run.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Looks `name` up. May be called from any runtime.
    pub(super) async fn lookup(&self, name: Arc<str>) -> Result<Found, DnsProblem> {
        if let Ok(ip) = name.parse() {
            return Ok(Found {
                addresses: vec![ip],
                ttl: MAX_TTL,
            });
        }
        let lookup = Arc::clone(&self.lookup);
        // What it does before its first await reads files: not the caller's work either.
        let looked_up = self.handle.spawn(async move { lookup.lookup(name).await });
        looked_up.await.unwrap_or(Err(DnsProblem::Stopped))
    }
}

/// `/etc/hosts` and `/etc/resolv.conf`, read again when they change.
#[derive(Default)]
struct System {
    current: Mutex<Option<(FileTimes, Arc<Loaded>)>>,
}

type FileTimes = [Option<SystemTime>; 2];

struct Loaded {
    hosts: Hosts,
    both: TokioResolver,
    v4_alone: TokioResolver,
}

impl Lookup for System {
    fn lookup(&self, name: Arc<str>) -> LookupFuture {
        let loaded = self.loaded();
        Box::pin(async move { loaded?.lookup(&name).await })
    }
}

impl System {
    fn loaded(&self) -> Result<Arc<Loaded>, DnsProblem> {
        let modified = |path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        let times = ["/etc/hosts", "/etc/resolv.conf"].map(modified);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, loaded)) = current.as_ref()
            && *of == times
        {
            return Ok(Arc::clone(loaded));
        }
        let loaded = Loaded::read().map_err(|e| DnsProblem::Configuration(Arc::new(e)))?;
        let loaded = Arc::new(loaded);
        *current = Some((times, Arc::clone(&loaded)));
        Ok(loaded)
    }
}

impl Loaded {
    fn read() -> Result<Loaded, NetError> {
        let build = |strategy| {
            let mut builder = TokioResolver::builder_tokio()?;
            let options = builder.options_mut();
            options.ip_strategy = strategy;
            options.use_hosts_file = ResolveHosts::Never;
            options.negative_max_ttl = Some(NEGATIVE_TTL);
            options.positive_max_ttl = Some(MAX_TTL);
            builder.build()
        };
        Ok(Loaded {
            // A file that is not there means no entries.
            hosts: Hosts::from_system().unwrap_or_default(),
            both: build(LookupIpStrategy::Ipv6AndIpv4)?,
            v4_alone: build(LookupIpStrategy::Ipv4Only)?,
        })
    }

    async fn lookup(&self, name: &str) -> Result<Found, DnsProblem> {
        let parsed = Name::from_utf8(name).map_err(|_| DnsProblem::NotAName)?;
        let here: Vec<IpAddr> = self.in_hosts_file(&parsed);
        if !here.is_empty() {
            return Ok(Found {
                addresses: here,
                ttl: MAX_TTL,
            });
        }
        // RFC 6761 section 6.3: never sent to a name server.
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(Found {
                addresses: vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
                ttl: MAX_TTL,
            });
        }
        let both = self.both.lookup_ip(name);
        let v4_alone = async {
            tokio::time::sleep(PATIENCE).await;
            match self.v4_alone.lookup_ip(name).await {
                Ok(found) => found,
                // The other look-up will say what is wrong.
                Err(_) => std::future::pending().await,
            }
        };
        let found = tokio::select! {
            found = both => found,
            found = v4_alone => Ok(found),
        };
        read_answer(found)
    }

    fn in_hosts_file(&self, name: &Name) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = Vec::new();
        for kind in [RecordType::AAAA, RecordType::A] {
            let query = Query::query(name.clone(), kind);
            if let Some(found) = self.hosts.lookup_static_host(&query) {
                addresses.extend(LookupIp::from(found).iter());
            }
        }
        addresses
    }
}

fn read_answer(found: Result<LookupIp, NetError>) -> Result<Found, DnsProblem> {
    let found = found.map_err(problem)?;
    let addresses: Vec<IpAddr> = found.iter().collect();
    if addresses.is_empty() {
        return Err(DnsProblem::NoAddress);
    }
    let ttl = found
        .valid_until()
        .saturating_duration_since(Instant::now());
    Ok(Found {
        addresses,
        ttl: ttl.clamp(MIN_TTL, MAX_TTL),
    })
}

fn problem(error: NetError) -> DnsProblem {
    if error.is_nx_domain() {
        return DnsProblem::NoSuchName;
    }
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => DnsProblem::NoAddress,
        NetError::Timeout => DnsProblem::Timeout,
        error => DnsProblem::Failed(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_known_without_a_name_server() {
        let resolver = Resolver::system(Handle::current());
        for name in ["localhost", "a.localhost"] {
            let found = resolver.lookup(name.into()).await.unwrap();
            assert!(found.addresses.iter().all(IpAddr::is_loopback), "{found:?}");
            assert!(
                found.addresses.contains(&Ipv4Addr::LOCALHOST.into()),
                "{found:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_address_stands_for_itself() {
        let resolver = Resolver::system(Handle::current());
        let found = resolver.lookup("192.0.2.7".into()).await.unwrap();
        assert_eq!(found.addresses, [IpAddr::from([192, 0, 2, 7])]);
    }

    #[test]
    fn failures_are_named_in_words() {
        use hickory_resolver::net::NoRecords;
        use hickory_resolver::proto::op::ResponseCode;
        let none = |code| {
            let query = Query::query(Name::root(), RecordType::A);
            problem(NetError::Dns(DnsError::NoRecordsFound(NoRecords::new(
                query, code,
            ))))
        };
        assert_eq!(
            none(ResponseCode::NXDomain).to_string(),
            "no such name (NXDOMAIN)"
        );
        assert!(matches!(none(ResponseCode::NoError), DnsProblem::NoAddress));
        assert!(matches!(problem(NetError::Timeout), DnsProblem::Timeout));
    }
}
