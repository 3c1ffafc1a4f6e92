//! Keeps the endpoints of one upstream up to date.
//!
//! Owns: [`Endpoints`]: the current set, and the task on the cold runtime that looks names up.
//! Never: forgets an answer because a later look-up failed (ISTIO.md E5).
//! Called by: `Upstream`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use super::balance::{Endpoint, EndpointSet, Families};
use super::error::{DnsFailure, DnsProblem, NoEndpoint, UpstreamError};
use super::resolve::{Found, Resolver};
use crate::model::{EndpointAddr, Resolution, UpstreamSpec};
use crate::telemetry::UpstreamStats;

/// The first pause after a failed look-up; it doubles ...
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// ... up to this.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// The endpoints of one upstream.
pub(super) struct Endpoints {
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

struct Shared {
    current: ArcSwap<EndpointSet>,
    /// What is known of the names.
    state: watch::Sender<State>,
}

#[derive(Clone, Debug)]
enum State {
    /// No look-up has ended yet.
    Waiting,
    /// There are endpoints, or it is known that none was configured.
    Known,
    /// Every name was looked up and none has an address.
    Failed(DnsFailure),
}

impl Endpoints {
    /// Begins with what needs no look-up or is `known` from before, and looks the rest up in the
    /// background.
    pub(super) fn start(
        spec: &UpstreamSpec,
        resolver: &Resolver,
        stats: &Arc<UpstreamStats>,
        known: Option<&EndpointSet>,
    ) -> Endpoints {
        let shared = Arc::new(Shared {
            current: ArcSwap::default(),
            state: watch::Sender::new(State::Waiting),
        });
        let mut names = Names::new(spec, Arc::clone(stats), known);
        if matches!(
            spec.resolution,
            Resolution::OriginalDst { .. } | Resolution::RequestHost { .. }
        ) {
            names.sources.clear();
        }
        names.publish(&shared);
        let task = names.next_due().map(|_| {
            let (resolver, shared) = (resolver.clone(), Arc::clone(&shared));
            let handle = resolver.handle().clone();
            handle.spawn(names.keep(resolver, shared)).abort_handle()
        });
        Endpoints { shared, task }
    }

    /// The set as of now. Costs one load of a pointer that is rarely written.
    pub(super) fn current(&self) -> arc_swap::Guard<Arc<EndpointSet>> {
        self.shared.current.load()
    }

    /// Looks nothing up any more.
    pub(super) fn stop(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }

    /// Returns once there are endpoints.
    ///
    /// # Errors
    /// Every name failed, none is configured, or `within` has passed.
    pub(super) async fn wait(
        &self,
        upstream: &Arc<str>,
        within: Duration,
    ) -> Result<(), UpstreamError> {
        let none = |reason| UpstreamError::NoEndpoint {
            upstream: Arc::clone(upstream),
            reason,
        };
        let mut state = self.shared.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Waiting));
        match tokio::time::timeout(within, known).await {
            Err(_) => Err(none(NoEndpoint::NotResolved(within))),
            // The sender lives as long as we do.
            Ok(Err(_)) => Err(none(NoEndpoint::None)),
            Ok(Ok(state)) => match &*state {
                State::Failed(failure) => Err(UpstreamError::Dns(failure.clone())),
                State::Waiting | State::Known => match self.current().endpoints.is_empty() {
                    true => Err(none(NoEndpoint::None)),
                    false => Ok(()),
                },
            },
        }
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One host and port of the specification.
struct Source {
    host: Arc<str>,
    port: u16,
    weight: u32,
    plaintext: bool,
    families: Arc<Families>,
    addresses: Vec<IpAddr>,
    failure: Option<DnsFailure>,
    retry: Duration,
    /// When it is looked up next; `None` for an address, which never is.
    due: Option<Instant>,
}

struct Names {
    upstream: Arc<str>,
    stats: Arc<UpstreamStats>,
    sources: Vec<Source>,
    /// Each name has one address in use at a time (ISTIO.md E3).
    one: bool,
}

impl Names {
    fn new(spec: &UpstreamSpec, stats: Arc<UpstreamStats>, known: Option<&EndpointSet>) -> Names {
        // A new certificate must not cost the addresses: the name server may be gone just now.
        let remembered = |host: &str, port: u16| -> Vec<IpAddr> {
            let known = known.into_iter().flat_map(|set| &set.endpoints);
            let same = known.filter(|e| e.name.as_ref() == host && e.address.0.port() == port);
            same.map(|e| e.address.0.ip()).collect()
        };
        let source = |endpoint: &crate::model::EndpointSpec| {
            let ip = endpoint.host.ip();
            let host = endpoint.host.as_str();
            Source {
                host: host.into(),
                port: endpoint.port,
                weight: endpoint.weight.max(1),
                plaintext: endpoint.plaintext,
                families: Arc::default(),
                addresses: ip.map_or_else(|| remembered(host, endpoint.port), |ip| vec![ip]),
                failure: None,
                retry: FIRST_RETRY,
                due: ip.is_none().then(Instant::now),
            }
        };
        Names {
            upstream: Arc::clone(&spec.name),
            stats,
            sources: spec.endpoints.iter().map(source).collect(),
            one: spec.resolution == Resolution::DnsOne,
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.sources.iter().filter_map(|source| source.due).min()
    }

    async fn keep(mut self, resolver: Resolver, shared: Arc<Shared>) {
        while let Some(due) = self.next_due() {
            tokio::time::sleep_until(due).await;
            let now = Instant::now();
            let mut lookups = JoinSet::new();
            for (index, source) in self.sources.iter().enumerate() {
                if source.due.is_some_and(|due| due <= now) {
                    let (resolver, host) = (resolver.clone(), Arc::clone(&source.host));
                    lookups.spawn(async move { (index, resolver.lookup(host).await) });
                }
            }
            // Each is published as it comes: a slow name must not hold up the others.
            while let Some(done) = lookups.join_next().await {
                if let Ok((index, answer)) = done {
                    self.learn(index, answer);
                    self.publish(&shared);
                }
            }
        }
    }

    fn learn(&mut self, index: usize, answer: Result<Found, DnsProblem>) {
        let Some(source) = self.sources.get_mut(index) else {
            return;
        };
        match answer {
            Ok(found) => {
                if source.failure.take().is_some() {
                    tracing::info!(upstream = %self.upstream, name = %source.host,
                        "the name can be resolved again");
                }
                source.retry = FIRST_RETRY;
                source.due = Some(Instant::now() + found.ttl);
                let before = std::mem::replace(&mut source.addresses, found.addresses);
                source.addresses.sort_unstable();
                source.addresses.dedup();
                if self.one {
                    // The one in use stays while it is among the answers, in whatever order.
                    let kept = before.first().filter(|ip| source.addresses.contains(ip));
                    let one = kept.or(source.addresses.first()).copied();
                    source.addresses = one.into_iter().collect();
                }
            }
            Err(problem) => {
                self.stats.dns_failed(label(&problem));
                let failure = DnsFailure {
                    upstream: Arc::clone(&self.upstream),
                    name: Arc::clone(&source.host),
                    problem,
                };
                // Once, until it works again: a name that is gone stays gone for long.
                if source.failure.is_none() {
                    let kept = source.addresses.len();
                    tracing::warn!(kept, "{failure}; the last good addresses stay in use");
                }
                source.failure = Some(failure);
                source.due = Some(Instant::now() + source.retry);
                source.retry = (source.retry * 2).min(LAST_RETRY);
            }
        }
    }

    /// Publishes what is known, where it differs from what is published.
    fn publish(&self, shared: &Shared) {
        let old = shared.current.load();
        let known: HashMap<EndpointAddr, &Arc<Endpoint>> =
            old.endpoints.iter().map(|e| (e.address, e)).collect();
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        for source in &self.sources {
            for ip in &source.addresses {
                let address = EndpointAddr(SocketAddr::new(*ip, source.port));
                if endpoints.iter().any(|e| e.address == address) {
                    continue;
                }
                let plaintext = self.is_plaintext(address);
                let kept = known
                    .get(&address)
                    .filter(|known| known.plaintext == plaintext && known.weight == source.weight);
                endpoints.push(match kept {
                    Some(same) => Arc::clone(same),
                    None => {
                        let families = Arc::clone(&source.families);
                        let new = Endpoint::new(address, Arc::clone(&source.host), families);
                        Arc::new(new.marked(source.weight, plaintext))
                    }
                });
            }
        }
        let marks = |e: &Arc<Endpoint>| (e.address, e.plaintext, e.weight);
        let same = endpoints
            .iter()
            .map(marks)
            .eq(old.endpoints.iter().map(marks));
        let any = !endpoints.is_empty();
        if !same {
            shared.current.store(Arc::new(EndpointSet::new(endpoints)));
        }
        if let Some(state) = self.state(any) {
            shared.state.send_replace(state);
        }
    }

    /// Only where every name that leads to the address says so: one that means TLS is never spoken
    /// to in plaintext because another one, that does not, has the same address (ISTIO.md P4).
    fn is_plaintext(&self, EndpointAddr(address): EndpointAddr) -> bool {
        let mut leading = self.sources.iter().filter(|source| {
            source.port == address.port() && source.addresses.contains(&address.ip())
        });
        leading.all(|source| source.plaintext)
    }

    fn state(&self, any: bool) -> Option<State> {
        if any || self.sources.is_empty() {
            return Some(State::Known);
        }
        // All of them must have failed; the first one's failure speaks for them.
        let failures: Option<Vec<_>> = self.sources.iter().map(|s| s.failure.clone()).collect();
        failures
            .and_then(|all| all.into_iter().next())
            .map(State::Failed)
    }
}

/// A word for metrics.
pub(super) fn label(problem: &DnsProblem) -> &'static str {
    match problem {
        DnsProblem::NoSuchName => "no_such_host",
        DnsProblem::NoAddress => "no_address",
        DnsProblem::Timeout => "timeout",
        DnsProblem::Failed(_) => "failed",
        DnsProblem::Configuration(_) => "configuration",
        DnsProblem::NotAName => "not_a_name",
        DnsProblem::Stopped => "stopped",
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use tokio::runtime::Handle;

    use super::super::resolve::{Lookup, LookupFuture};
    use super::*;
    use crate::model::{EndpointSpec, Host};
    use crate::telemetry::Metrics;

    /// Answers from a list, the last one for ever; counts the questions.
    #[derive(Default)]
    pub(crate) struct Fake {
        pub(crate) answers: Mutex<VecDeque<Result<Found, DnsProblem>>>,
        pub(crate) asked: Mutex<Vec<Instant>>,
    }

    impl Lookup for Fake {
        fn lookup(&self, _name: Arc<str>) -> LookupFuture {
            self.asked.lock().unwrap().push(Instant::now());
            let mut answers = self.answers.lock().unwrap();
            let answer = match answers.len() {
                0 => None,
                1 => answers.front().cloned(),
                _ => answers.pop_front(),
            };
            Box::pin(async move {
                match answer {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            })
        }
    }

    pub(crate) fn found(addresses: &[&str], ttl: u64) -> Result<Found, DnsProblem> {
        Ok(Found {
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ttl: Duration::from_secs(ttl),
        })
    }

    fn start(fake: &Arc<Fake>) -> (Endpoints, UpstreamSpec, Arc<UpstreamStats>) {
        let mut spec = UpstreamSpec::new("bank");
        spec.endpoints = vec![EndpointSpec::new(Host::parse("bank.example").unwrap(), 443)];
        let stats = Metrics::new(1).upstream("bank");
        let lookup: Arc<dyn Lookup> = Arc::clone(fake) as _;
        let resolver = Resolver::with(Handle::current(), lookup);
        (
            Endpoints::start(&spec, &resolver, &stats, None),
            spec,
            stats,
        )
    }

    fn fake(answers: Vec<Result<Found, DnsProblem>>) -> Arc<Fake> {
        Arc::new(Fake {
            answers: Mutex::new(answers.into()),
            ..Fake::default()
        })
    }

    fn addresses(endpoints: &Endpoints) -> Vec<String> {
        endpoints
            .current()
            .endpoints
            .iter()
            .map(|e| e.address.to_string())
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn e5_the_last_good_answer_is_kept_when_a_later_look_up_fails() {
        let fake = fake(vec![found(&["10.0.0.1"], 30), Err(DnsProblem::NoSuchName)]);
        let (endpoints, spec, _) = start(&fake);
        endpoints
            .wait(&spec.name, Duration::from_secs(10))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(3000)).await;
        assert_eq!(addresses(&endpoints), ["10.0.0.1:443"]);
        assert!(fake.asked.lock().unwrap().len() > 2);
        endpoints.wait(&spec.name, Duration::ZERO).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn e5_an_upstream_that_replaces_another_begins_with_the_addresses_that_it_knew() {
        let before = fake(vec![found(&["10.0.0.1"], 30)]);
        let (old, spec, stats) = start(&before);
        old.wait(&spec.name, Duration::from_secs(10)).await.unwrap();
        let silent: Arc<dyn Lookup> = fake(vec![]) as _;
        let resolver = Resolver::with(Handle::current(), silent);
        let new = Endpoints::start(&spec, &resolver, &stats, Some(&**old.current()));
        new.wait(&spec.name, Duration::ZERO).await.unwrap();
        assert_eq!(addresses(&new), ["10.0.0.1:443"]);
    }

    #[tokio::test(start_paused = true)]
    async fn e5_the_ttl_decides_when_a_name_is_looked_up_again() {
        let begin = Instant::now();
        let fake = fake(vec![
            found(&["10.0.0.1"], 30),
            found(&["10.0.0.2", "10.0.0.1"], 3600),
        ]);
        let (endpoints, spec, _) = start(&fake);
        endpoints
            .wait(&spec.name, Duration::from_secs(10))
            .await
            .unwrap();
        let kept = Arc::clone(&endpoints.current().endpoints[0]);
        tokio::time::sleep(Duration::from_secs(31)).await;
        assert_eq!(addresses(&endpoints), ["10.0.0.1:443", "10.0.0.2:443"]);
        assert!(
            Arc::ptr_eq(&kept, &endpoints.current().endpoints[0]),
            "health is kept"
        );
        let asked: Vec<u64> = (fake.asked.lock().unwrap().iter())
            .map(|at| at.duration_since(begin).as_secs())
            .collect();
        assert_eq!(asked, [0, 30]);
    }

    #[tokio::test(start_paused = true)]
    async fn e5_failed_look_ups_are_tried_again_ever_more_rarely_up_to_a_minute() {
        let begin = Instant::now();
        let fake = fake(vec![Err(DnsProblem::Timeout)]);
        let (_endpoints, _, _) = start(&fake);
        tokio::time::sleep(Duration::from_secs(200)).await;
        let asked: Vec<u64> = (fake.asked.lock().unwrap().iter())
            .map(|at| at.duration_since(begin).as_secs())
            .collect();
        assert_eq!(asked, [0, 5, 15, 35, 75, 135, 195]);
    }

    /// Endpoints of two names, the first marked as plaintext where told, in `resolution`.
    fn started(
        fake: &Arc<Fake>,
        resolution: Resolution,
        marked: &[bool],
    ) -> (Endpoints, UpstreamSpec) {
        let mut spec = UpstreamSpec::new("bank");
        spec.resolution = resolution;
        spec.endpoints = marked
            .iter()
            .enumerate()
            .map(|(n, plaintext)| EndpointSpec {
                plaintext: *plaintext,
                weight: 3,
                ..EndpointSpec::new(Host::parse(&format!("bank-{n}.example")).unwrap(), 443)
            })
            .collect();
        let lookup: Arc<dyn Lookup> = Arc::clone(fake) as _;
        let resolver = Resolver::with(Handle::current(), lookup);
        let stats = Metrics::new(1).upstream("bank");
        (Endpoints::start(&spec, &resolver, &stats, None), spec)
    }

    #[tokio::test(start_paused = true)]
    async fn p4_an_address_is_plaintext_only_where_every_name_that_leads_there_says_so() {
        for (marked, expected) in [
            (&[true][..], true),
            (&[true, true], true),
            (&[true, false], false),
            (&[false, true], false),
            (&[false], false),
        ] {
            let fake = fake(vec![found(&["10.0.0.1"], 30)]);
            let (endpoints, spec) = started(&fake, Resolution::Dns, marked);
            let within = Duration::from_secs(10);
            endpoints.wait(&spec.name, within).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
            let set = endpoints.current();
            let [endpoint] = set.endpoints.as_slice() else {
                panic!("{set:?}")
            };
            assert_eq!(
                (endpoint.plaintext, endpoint.weight),
                (expected, 3),
                "{marked:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p4_an_address_that_comes_to_mean_tls_is_another_endpoint() {
        // The second name is not known at first, and then leads to the first one's address.
        let fake = fake(vec![
            found(&["10.0.0.1"], 30),
            Err(DnsProblem::NoSuchName),
            found(&["10.0.0.1"], 30),
        ]);
        let (endpoints, spec) = started(&fake, Resolution::Dns, &[true, false]);
        let within = Duration::from_secs(10);
        endpoints.wait(&spec.name, within).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(endpoints.current().endpoints[0].plaintext);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!endpoints.current().endpoints[0].plaintext);
        assert_eq!(endpoints.current().endpoints.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn e3_one_address_is_in_use_and_stays_while_it_is_among_the_answers() {
        let fake = fake(vec![
            found(&["10.0.0.2", "10.0.0.3"], 30),
            found(&["10.0.0.1", "10.0.0.2"], 30),
            found(&["10.0.0.4", "10.0.0.5"], 3000),
        ]);
        let (endpoints, spec) = started(&fake, Resolution::DnsOne, &[false]);
        let within = Duration::from_secs(10);
        endpoints.wait(&spec.name, within).await.unwrap();
        for expected in ["10.0.0.2:443", "10.0.0.2:443", "10.0.0.4:443"] {
            assert_eq!(addresses(&endpoints), [expected]);
            tokio::time::sleep(Duration::from_secs(31)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_does_not_exist_is_named_in_words() {
        let fake = fake(vec![Err(DnsProblem::NoSuchName)]);
        let (endpoints, spec, _) = start(&fake);
        let error = endpoints
            .wait(&spec.name, Duration::from_secs(10))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the name \"bank.example\" of upstream \"bank\" cannot be resolved: \
             no such name (NXDOMAIN)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_for_the_first_look_up_but_not_for_ever() {
        let (endpoints, spec, _) = start(&fake(vec![]));
        let error = endpoints
            .wait(&spec.name, Duration::from_secs(10))
            .await
            .unwrap_err();
        let UpstreamError::NoEndpoint { reason, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(reason, NoEndpoint::NotResolved(Duration::from_secs(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn looking_up_ends_with_its_upstream() {
        let fake = fake(vec![found(&["10.0.0.1"], 1)]);
        let (endpoints, spec, _) = start(&fake);
        endpoints
            .wait(&spec.name, Duration::from_secs(10))
            .await
            .unwrap();
        drop(endpoints);
        let asked = fake.asked.lock().unwrap().len();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(fake.asked.lock().unwrap().len(), asked);
    }
}
