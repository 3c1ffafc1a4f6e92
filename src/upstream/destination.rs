//! Where a request goes whose upstream names no endpoints: where the client meant to go, or to the
//! host that it asks for.
//!
//! Owns: the choice between the two (ISTIO.md E2), and each worker's answers of name servers.
//! Never: connects, or balances.
//! Called by: `Upstream`.
//!
//! Why each worker remembers for itself: a table of the whole process would be a lock that every
//! core takes for every request.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::discover::label;
use super::error::{DnsFailure, NoEndpoint, UpstreamError};
use super::pool::Slot;
use super::seam::Ask;
use crate::model::{EndpointAddr, OriginalDst, Resolution};

/// Names remembered; the one that came first makes room for a new one.
const MOST_NAMES: usize = 256;
/// After a failed look-up the answer before is used for so long before the next one (E5).
const STALE_FOR: Duration = Duration::from_secs(5);

/// One worker's answers.
#[derive(Default)]
pub(super) struct Answers {
    by_name: HashMap<Arc<str>, Answer>,
    order: VecDeque<Arc<str>>,
}

struct Answer {
    addresses: Arc<[IpAddr]>,
    until: Instant,
}

/// An address, and another one of the other family.
pub(super) type Destination = (EndpointAddr, Option<EndpointAddr>);

/// The upstream has endpoints of its own.
pub(super) fn is_balanced(slot: &Slot) -> bool {
    matches!(
        slot.core.spec.resolution,
        Resolution::Static | Resolution::Dns | Resolution::DnsOne
    )
}

/// Where `ask` goes; `None` where the upstream has endpoints of its own.
///
/// # Errors
/// There is no host to look up, or it has no address.
pub(super) async fn find(slot: &Slot, ask: &Ask<'_>) -> Result<Option<Destination>, UpstreamError> {
    let (port, lack) = match (slot.core.spec.resolution, ask.original_dst) {
        (Resolution::Static | Resolution::Dns | Resolution::DnsOne, _) => return Ok(None),
        (Resolution::OriginalDst { port }, Some(OriginalDst(mut to))) => {
            to.set_port(port.unwrap_or(to.port()));
            return Ok(Some((EndpointAddr(to), None)));
        }
        (Resolution::OriginalDst { port }, None) => (port, NoEndpoint::NoOriginalDst),
        (Resolution::RequestHost { port }, _) => (port, NoEndpoint::NoHost),
    };
    if ask.host.is_empty() {
        return Err(none(slot, lack));
    }
    let addresses = look_up(slot, ask.host).await?;
    let port = port.unwrap_or(ask.port);
    let fit = || {
        let all = addresses
            .iter()
            .map(|ip| EndpointAddr(SocketAddr::new(*ip, port)));
        all.filter(|to| !ask.avoid.contains(to))
    };
    // The order is the resolver's; what just failed is used only where there is no other.
    let any = addresses
        .first()
        .map(|ip| EndpointAddr(SocketAddr::new(*ip, port)));
    let first = fit()
        .next()
        .or(any)
        .ok_or_else(|| none(slot, NoEndpoint::None))?;
    let other = fit().find(|to| to.0.is_ipv6() != first.0.is_ipv6());
    Ok(Some((first, other)))
}

fn none(slot: &Slot, reason: NoEndpoint) -> UpstreamError {
    UpstreamError::NoEndpoint {
        upstream: Arc::clone(&slot.core.spec.name),
        reason,
    }
}

async fn look_up(slot: &Slot, host: &str) -> Result<Arc<[IpAddr]>, UpstreamError> {
    let core = &slot.core;
    let lock = || slot.answers.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(fresh) = lock().fresh(host) {
        return Ok(fresh);
    }
    let (name, within): (Arc<str>, _) = (host.into(), core.spec.connect_timeout);
    let failure = match timeout(within, core.resolver.lookup(Arc::clone(&name))).await {
        Ok(Ok(found)) => {
            let addresses: Arc<[IpAddr]> = found.addresses.into();
            lock().learn(name, Arc::clone(&addresses), found.ttl);
            return Ok(addresses);
        }
        Ok(Err(problem)) => {
            core.stats.dns_failed(label(&problem));
            UpstreamError::Dns(DnsFailure {
                upstream: Arc::clone(&core.spec.name),
                name,
                problem,
            })
        }
        Err(_) => {
            core.stats.dns_failed("timeout");
            none(slot, NoEndpoint::NotResolved(within))
        }
    };
    match lock().stale(host) {
        Some(last) => {
            tracing::debug!(upstream = %core.spec.name, host, "{failure}; the last answer is used");
            Ok(last)
        }
        None => Err(failure),
    }
}

impl Answers {
    fn fresh(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        let answer = self.by_name.get(host)?;
        (answer.until > Instant::now()).then(|| Arc::clone(&answer.addresses))
    }

    /// The last good answer, which counts for a moment again (E5).
    fn stale(&mut self, host: &str) -> Option<Arc<[IpAddr]>> {
        let answer = self.by_name.get_mut(host)?;
        answer.until = Instant::now() + STALE_FOR;
        Some(Arc::clone(&answer.addresses))
    }

    fn learn(&mut self, name: Arc<str>, addresses: Arc<[IpAddr]>, ttl: Duration) {
        let until = Instant::now() + ttl;
        let answer = Answer { addresses, until };
        if self.by_name.insert(Arc::clone(&name), answer).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > MOST_NAMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_name.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::super::discover::tests::{Fake, found};
    use super::super::error::DnsProblem;
    use super::super::own::OwnAddrs;
    use super::super::resolve::{Found, Lookup, Resolver};
    use super::super::{Upstream, UpstreamContext, UpstreamTls};
    use super::*;
    use crate::model::UpstreamSpec;
    use crate::telemetry::Metrics;

    fn fake(answers: Vec<Result<Found, DnsProblem>>) -> Arc<Fake> {
        Arc::new(Fake {
            answers: std::sync::Mutex::new(answers.into()),
            ..Fake::default()
        })
    }

    fn upstream(resolution: Resolution, fake: &Arc<Fake>) -> Arc<Upstream> {
        let mut spec = UpstreamSpec::new("any");
        spec.resolution = resolution;
        let lookup: Arc<dyn Lookup> = Arc::clone(fake) as _;
        let context = UpstreamContext {
            workers: 1,
            resolver: Resolver::with(Handle::current(), lookup),
            own: OwnAddrs::new(),
            metrics: Metrics::new(1),
        };
        Upstream::new(spec, UpstreamTls::Plain, &context)
    }

    fn ask<'a>(host: &'a str, original: Option<&str>) -> Ask<'a> {
        Ask {
            worker: 0,
            host,
            port: 80,
            original_dst: original.map(|to| OriginalDst(to.parse().unwrap())),
            from: None,
            avoid: &[],
            fresh: false,
        }
    }

    /// Where it goes, in words.
    async fn goes(upstream: &Arc<Upstream>, ask: &Ask<'_>) -> String {
        let (slot, _under) = upstream.admit(0).unwrap();
        match find(slot, ask).await {
            Ok(to) => to.unwrap().0.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn e2_the_original_destination_may_get_another_port_and_a_host_stands_in_for_it() {
        let fake = fake(vec![found(&["10.0.0.1"], 30)]);
        for (port, original, host) in [
            (None, "10.9.9.9:443", "10.0.0.1:80"),
            (Some(8443), "10.9.9.9:8443", "10.0.0.1:8443"),
        ] {
            let upstream = upstream(Resolution::OriginalDst { port }, &fake);
            let redirected = ask("bank.example", Some("10.9.9.9:443"));
            assert_eq!(goes(&upstream, &redirected).await, original);
            assert_eq!(goes(&upstream, &ask("bank.example", None)).await, host);
            assert_eq!(
                goes(&upstream, &ask("", None)).await,
                "upstream \"any\" has no endpoint: the connection was not redirected, so it has no \
                 original destination"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn e5_a_requests_host_is_looked_up_and_remembered_for_its_ttl() {
        let answers = vec![
            found(&["10.0.0.1"], 30),
            found(&["10.0.0.2", "10.0.0.3"], 30),
            Err(DnsProblem::Timeout),
        ];
        let fake = fake(answers);
        let upstream = upstream(Resolution::RequestHost { port: Some(8443) }, &fake);
        // Captured or not: the host decides.
        let host = ask("api.bank.example", Some("10.9.9.9:443"));
        for _ in 0..3 {
            assert_eq!(goes(&upstream, &host).await, "10.0.0.1:8443");
        }
        assert_eq!(fake.asked.lock().unwrap().len(), 1);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(goes(&upstream, &host).await, "10.0.0.2:8443");
        let avoid = ["10.0.0.2:8443".parse().map(EndpointAddr).unwrap()];
        let again = Ask {
            avoid: &avoid,
            ..host
        };
        assert_eq!(goes(&upstream, &again).await, "10.0.0.3:8443");
        // The last good answer outlives failed look-ups, and they are not made for every request.
        tokio::time::sleep(Duration::from_secs(31)).await;
        for _ in 0..3 {
            assert_eq!(goes(&upstream, &host).await, "10.0.0.2:8443");
        }
        assert_eq!(fake.asked.lock().unwrap().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_has_no_address_or_is_none_is_told() {
        let fake = fake(vec![Err(DnsProblem::NoSuchName)]);
        let upstream = upstream(Resolution::RequestHost { port: None }, &fake);
        assert_eq!(
            goes(&upstream, &ask("no.example", None)).await,
            "the name \"no.example\" of upstream \"any\" cannot be resolved: no such name (NXDOMAIN)"
        );
        assert_eq!(
            goes(&upstream, &ask("", None)).await,
            "upstream \"any\" has no endpoint: no host was asked for that could be looked up"
        );
    }

    #[test]
    fn the_names_remembered_are_bounded() {
        let _inside = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut answers = Answers::default();
        for n in 0..=MOST_NAMES {
            let addresses = [IpAddr::from([10, 0, 0, 1])].into();
            answers.learn(n.to_string().into(), addresses, Duration::from_secs(60));
        }
        assert_eq!(answers.by_name.len(), MOST_NAMES);
        assert!(answers.fresh("0").is_none() && answers.fresh("1").is_some());
    }
}
