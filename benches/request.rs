//! What one request costs besides its route and its handshake: reading its head strictly, cleaning
//! its headers, and borrowing a warm connection.
//!
//! Owns: the promise that a head costs a look at each of its bytes, and a check-out no system call.
//! Never: measures TLS (`handshake` does) or a route (`route_find`).
//! Called by: `cargo bench --bench request`.
//!
//! `exchange/socket` is the control: the same question and answer over a socket of its own. What
//! `exchange/upstream` takes beyond it is the pool, the balancer, the client and the counters.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must say so"
)]

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::Version;
use http_body_util::BodyExt;
use sortie::message::Fields;
use sortie::model::{EndpointSpec, Host, Resolution, UpstreamSpec};
use sortie::proxy::headers::clean_request;
use sortie::proxy::strict::{Strict, StrictLimits};
use sortie::telemetry::Metrics;
use sortie::upstream::{
    Ask, OwnAddrs, RequestBody, Resolver, Upstream, UpstreamContext, UpstreamTls,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const USUAL: [(&str, &str); 7] = [
    ("host", "api-5.service.example.com"),
    ("user-agent", "payments/4.2 (linux; x86_64)"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate, br"),
    ("connection", "keep-alive"),
    ("x-request-id", "0f8fad5b-d9cb-469f-a165-70867728950e"),
    (
        "authorization",
        "Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkw",
    ),
];
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nhost: bank.example\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// The usual headers, and `more` of the application's own.
fn lines(more: usize) -> Vec<(String, String)> {
    let usual = USUAL.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let own = (0..more).map(|number| {
        (
            format!("x-own-{number}"),
            format!("value number {number} of a usual length"),
        )
    });
    usual.into_iter().chain(own).collect()
}

fn head(c: &mut Criterion) {
    let mut bench = c.benchmark_group("head");
    for more in [0, 24, 90] {
        let mut text = "GET /v1/accounts?limit=10 HTTP/1.1\r\n".to_owned();
        for (name, value) in lines(more) {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        text.push_str("\r\n");
        let mut strict = Strict::new(StrictLimits {
            max_head_bytes: 64 * 1024,
            max_headers: 100,
        });
        bench.bench_function(format!("strict/{}", USUAL.len() + more), |b| {
            b.iter(|| strict.inspect(black_box(text.as_bytes())));
        });
    }
    bench.finish();
}

/// As they are once they were read.
fn came(lines: &[(String, String)]) -> Fields {
    let mut text = String::new();
    let mut places = Vec::new();
    for (name, value) in lines {
        let begin = text.len();
        write!(text, "{name}: {value}\r\n").unwrap();
        places.push((
            begin..begin + name.len(),
            begin + name.len() + 2..text.len() - 2,
        ));
    }
    let mut fields = Fields::of(text.into());
    for (name, value) in places {
        fields.came(name, value);
    }
    fields
}

fn headers(c: &mut Criterion) {
    let mut bench = c.benchmark_group("headers");
    for more in [0, 24, 90] {
        let map: Fields = came(&lines(more));
        let count = USUAL.len() + more;
        bench.bench_function(format!("clean/{count}"), |b| {
            b.iter_batched_ref(
                || map.clone(),
                |map| clean_request(map, Version::HTTP_11, None).ok(),
                BatchSize::SmallInput,
            );
        });
        bench.bench_function(format!("size/{count}"), |b| {
            b.iter(|| black_box(&map).wire_size());
        });
        let mut out = Vec::with_capacity(64 * 1024);
        bench.bench_function(format!("write/{count}"), |b| {
            b.iter(|| {
                out.clear();
                black_box(&map).write(&mut out, |_| true);
            });
        });
    }
    bench.finish();
}

/// Answers every head that arrives whole, in as many bytes as it takes.
async fn serve(listener: TcpListener, accepted: Arc<AtomicUsize>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut room = [0; 4096];
            while let Ok(1..) = stream.read(&mut room).await {
                if stream.write_all(ANSWER).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn upstream(endpoint: SocketAddr) -> Arc<Upstream> {
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(tokio::runtime::Handle::current()),
        own: OwnAddrs::new(),
        metrics: Metrics::new(1),
    };
    let mut spec = UpstreamSpec::new("bank");
    let host = Host::parse(&endpoint.ip().to_string()).unwrap();
    spec.endpoints = vec![EndpointSpec::new(host, endpoint.port())];
    spec.resolution = Resolution::Static;
    Upstream::new(spec, UpstreamTls::Plain, &context)
}

async fn through(upstream: &Arc<Upstream>) -> usize {
    let ask = Ask {
        worker: 0,
        host: "bank.example",
        port: 80,
        original_dst: None,
        from: None,
        avoid: &[],
        fresh: false,
    };
    let request = http::Request::get("/").header("host", "bank.example");
    let request = request.body(RequestBody::Empty).unwrap();
    let answer = upstream.send(&ask, request.into()).await.ok().unwrap();
    let body = answer.response.body.collect().await.unwrap();
    body.to_bytes().len()
}

async fn beside(stream: &mut TcpStream, room: &mut [u8]) -> usize {
    stream.write_all(QUESTION).await.unwrap();
    stream.read(room).await.unwrap()
}

fn exchange(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (upstream, mut stream) = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::clone(&accepted)));
        let stream = TcpStream::connect(endpoint).await.unwrap();
        stream.set_nodelay(true).unwrap();
        (upstream(endpoint), stream)
    });
    let mut bench = c.benchmark_group("exchange");
    bench.bench_function("upstream", |b| {
        b.iter(|| assert_eq!(runtime.block_on(through(&upstream)), 5));
    });
    let mut room = [0; 4096];
    bench.bench_function("socket", |b| {
        b.iter(|| {
            assert_eq!(
                runtime.block_on(beside(&mut stream, &mut room)),
                ANSWER.len()
            )
        });
    });
    bench.finish();
    let accepted = accepted.load(Ordering::Relaxed);
    assert_eq!(accepted, 2, "a check-out opened a connection");
}

criterion_group!(benches, head, headers, exchange);
criterion_main!(benches);
