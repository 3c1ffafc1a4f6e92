//! What it costs to find a route, with ten hosts, 1,000 and 100,000.
//!
//! Owns: the promise that the cost of a find does not grow with the hosts, and the time of a build.
//! Never: a substitute for the tests beside the table.
//! Called by: `cargo bench --bench route_find`.
//!
//! Beside each size stand the same three questions: an exact host, a host that only a wildcard
//! knows, and one that nobody knows. `head` is the control: what a find needs before it begins.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must say so"
)]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sortie::message::RequestHead;
use sortie::model::{
    Action, Destination, HostPattern, HostRoutes, MatchSpec, Place, RuleSpec, StringMatch,
    UpstreamSpec, Weighted,
};
use sortie::route::{RouteTable, Scheme};
use sortie::telemetry::Metrics;
use sortie::upstream::{OwnAddrs, Resolver, Upstream, UpstreamContext, UpstreamTls};

const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn host(number: usize) -> String {
    format!("api-{number}.service.example.com")
}

/// A group with a rule of its own, as a configuration writes them.
fn group(pattern: &str, place: &Place) -> HostRoutes {
    let under_api = MatchSpec {
        path: Some(StringMatch::Prefix("/".into())),
        ..MatchSpec::default()
    };
    let to_bank = Action::Forward(vec![Weighted::new("bank", 1)]);
    HostRoutes {
        hosts: vec![HostPattern::parse(pattern).unwrap()].into(),
        port: None,
        rules: vec![RuleSpec {
            matches: vec![under_api],
            ..RuleSpec::new(to_bank, place.clone())
        }]
        .into(),
        object: None,
        place: place.clone(),
    }
}

fn groups(count: usize) -> Vec<HostRoutes> {
    let place = Place::default();
    let exact = (0..count).map(|number| group(&host(number), &place));
    exact.chain([group("*.wild.example.com", &place)]).collect()
}

fn upstreams(cold: &tokio::runtime::Runtime) -> HashMap<Arc<str>, Arc<Upstream>> {
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(cold.handle().clone()),
        own: OwnAddrs::new(),
        metrics: Metrics::new(1),
    };
    let bank = Upstream::new(UpstreamSpec::new("bank"), UpstreamTls::Plain, &context);
    HashMap::from([("bank".into(), bank)])
}

fn head() -> RequestHead {
    let request = http::Request::get("/v1/accounts?limit=10").header("accept", "*/*");
    request.body(()).unwrap().into_parts().0.into()
}

fn find(c: &mut Criterion) {
    let cold = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let upstreams = upstreams(&cold);
    let parts = head();
    let mut bench = c.benchmark_group("find");
    for size in SIZES {
        let table = RouteTable::build(&groups(size), &upstreams).ok().unwrap();
        let middle = host(size / 2);
        let asked = [
            ("exact", middle.as_str()),
            ("wildcard", "a.b.wild.example.com"),
            ("unknown", "nobody.knows.this.example.org"),
        ];
        for (name, host) in asked {
            let destination = Destination::parse(host, 80).unwrap();
            bench.bench_function(BenchmarkId::new(name, size), |b| {
                b.iter(|| {
                    let (destination, parts) = (black_box(&destination), black_box(&parts));
                    black_box(table.find(destination, parts, Scheme::Http))
                });
            });
        }
    }
    bench.bench_function("head", |b| {
        b.iter(|| Destination::parse(black_box("api-5.service.example.com"), 80));
    });
    bench.finish();
}

fn build(c: &mut Criterion) {
    let cold = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let upstreams = upstreams(&cold);
    let mut bench = c.benchmark_group("build");
    bench.sample_size(10);
    for size in SIZES {
        let groups = groups(size);
        bench.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| RouteTable::build(black_box(&groups), &upstreams).ok());
        });
    }
    bench.finish();
}

criterion_group!(benches, find, build);
criterion_main!(benches);
