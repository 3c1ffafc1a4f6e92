//! HTTP/1 as clients may speak it: cut anywhere, one request behind the other, slowly, and not to
//! the end.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::ErrorKind;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::*;
use crate::model::{Limits, Respond};

const POST: &str = "POST /x HTTP/1.1\r\nHost: a.example\r\n";
const GET: &str = "GET /x HTTP/1.1\r\nHost: a.example\r\n";

/// sortie before `there`, which is `a.example`; `own.example` it answers itself.
fn before(there: SocketAddr, change: impl FnOnce(&mut Limits)) -> Bench {
    Bench::new(&bounded(there, change))
}

/// The configuration of one that is [`before`] `there`.
fn bounded(there: SocketAddr, change: impl FnOnce(&mut Limits)) -> Config {
    let mut config = config(vec![upstream("a", there)], Vec::new());
    let mut own = host(there.port(), "own.example", "a");
    own.rules = vec![RuleSpec::new(
        Action::Respond(Respond {
            status: 200,
            body: "own".into(),
        }),
        Place::default(),
    )]
    .into();
    config.hosts = vec![host(there.port(), "a.example", "a"), own];
    change(&mut config.limits);
    config
}

/// An origin that says back what it was asked: method, target, body and trailers.
async fn echo() -> SocketAddr {
    let (listener, there) = origin().await;
    tokio::spawn(async move {
        loop {
            let stream = TokioIo::new(accept(&listener).await);
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap();
                let mut said = format!("{} {}", parts.method, parts.uri);
                for (name, value) in body.trailers().into_iter().flatten() {
                    write!(said, " {name}={}", value.to_str().unwrap()).unwrap();
                }
                let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
                said = format!("{said} [{body}]");
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
            });
            let serving =
                hyper::server::conn::http1::Builder::new().serve_connection(stream, service);
            tokio::spawn(serving);
        }
    });
    there
}

/// An answer with a length.
async fn answer(client: &mut TcpStream) -> (String, String) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        seen.push(client.read_u8().await.unwrap());
    }
    let head = String::from_utf8(seen).unwrap();
    let lower = head.to_ascii_lowercase();
    let length = lower.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    client.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Until what was written has been seen by whoever waits for it.
async fn seen() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

async fn head_of(served: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(served.read_u8().await.unwrap());
    }
}

#[tokio::test]
async fn a_request_is_the_same_wherever_it_is_cut() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let bodies = [
        ("Content-Length: 5\r\n\r\nhello", "POST /x [hello]"),
        (
            "Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nhe\r\n03;a=b\r\nllo\r\n0\r\nX-Sum: 5\r\n\r\n",
            "POST /x x-sum=5 [hello]",
        ),
    ];
    for (rest, said) in bodies {
        let request = format!("{POST}{rest}");
        let mut client = bench.captured(there).await;
        for cut in 1..request.len() {
            let (first, second) = request.as_bytes().split_at(cut);
            client.write_all(first).await.unwrap();
            seen().await;
            client.write_all(second).await.unwrap();
            assert_eq!(answer(&mut client).await.1, said, "{cut}");
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_is_answered() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let request =
        format!("{POST}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
    for byte in request.as_bytes() {
        client.write_all(&[*byte]).await.unwrap();
        seen().await;
    }
    assert_eq!(answer(&mut client).await.1, "POST /x [hello]");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_their_order() {
    let there = echo().await;
    let bench = before(there, |_| ());
    for count in [2, 3, 100] {
        let mut client = bench.captured(there).await;
        let mut packet = String::new();
        for number in 0..count {
            match number % 2 {
                0 => write!(packet, "GET /{number} HTTP/1.1\r\nHost: a.example\r\n\r\n"),
                _ => write!(
                    packet,
                    "POST /{number} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\nxy"
                ),
            }
            .unwrap();
        }
        client.write_all(packet.as_bytes()).await.unwrap();
        for number in 0..count {
            let (method, body) = [("GET", ""), ("POST", "xy")][number % 2];
            let said = format!("{method} /{number} [{body}]");
            assert_eq!(answer(&mut client).await.1, said);
        }
    }
}

#[tokio::test]
async fn a_request_behind_a_bad_one_is_never_read() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let packet = format!("{GET}\r\nGET / HTTP/1.1\nHost: a.example\r\n\r\n{GET}\r\n");
    client.write_all(packet.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut client).await.1, "GET /x []");
    let (head, body) = answer(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
    assert!(body.contains("LF"), "{body}");
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn http_1_0_goes_on_where_the_client_asks_for_it_and_ends_where_not() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let kept = "GET /x HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n";
    for _ in 0..2 {
        client.write_all(kept.as_bytes()).await.unwrap();
        let (head, body) = answer(&mut client).await;
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: keep-alive\r\n"), "{head}");
        assert_eq!(body, "GET /x []");
    }
    let last = "GET /x HTTP/1.0\r\nHost: a.example\r\n\r\n";
    client.write_all(last.as_bytes()).await.unwrap();
    let (head, _) = answer(&mut client).await;
    assert!(!head.contains("connection"), "{head}");
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn a_client_that_says_close_is_told_so_and_the_connection_ends() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let request = format!("{GET}Connection: close\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let (head, _) = answer(&mut client).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn an_unread_body_ends_the_connection_after_the_answer_and_a_read_one_does_not() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let own = "POST /x HTTP/1.1\r\nHost: own.example\r\nContent-Length: 4\r\n\r\n";
    let mut client = bench.captured(there).await;
    // It came with the head: read away, and the connection goes on.
    client
        .write_all(format!("{own}body").as_bytes())
        .await
        .unwrap();
    let (head, body) = answer(&mut client).await;
    assert!(!head.contains("connection"), "{head}");
    assert_eq!(body, "own");
    client.write_all(own.as_bytes()).await.unwrap();
    let (head, body) = answer(&mut client).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(body, "own");
    // What comes late is no request.
    client
        .write_all(format!("body{GET}\r\n").as_bytes())
        .await
        .unwrap();
    assert_eq!(rest(&mut client).await, b"");
}

#[tokio::test]
async fn who_waits_to_be_asked_for_a_body_is_asked_once_it_is_read_and_not_before() {
    let there = echo().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let expects = "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    client
        .write_all(format!("{POST}{expects}").as_bytes())
        .await
        .unwrap();
    assert_eq!(answer(&mut client).await.0, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    assert_eq!(answer(&mut client).await.1, "POST /x [body]");
    let own = format!("POST /x HTTP/1.1\r\nHost: own.example\r\n{expects}");
    client.write_all(own.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut client).await.1, "own");
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_takes_its_request_back() {
    let (listener, there) = origin().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    client
        .write_all(format!("{GET}\r\n").as_bytes())
        .await
        .unwrap();
    let mut served = accept(&listener).await;
    head_of(&mut served).await;
    drop(client);
    // Whichever way: it is over for the upstream too.
    assert!(matches!(served.read(&mut [0]).await, Ok(0) | Err(_)));
    let line = bench.line().await;
    assert!(
        line.contains(" 0 DC downstream_remote_disconnect "),
        "{line}"
    );
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_answer_ends_it() {
    let (listener, there) = origin().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    client
        .write_all(format!("{GET}\r\n").as_bytes())
        .await
        .unwrap();
    let mut served = accept(&listener).await;
    head_of(&mut served).await;
    served
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"half") {
        client.read_buf(&mut got).await.unwrap();
    }
    drop(client);
    assert!(matches!(served.read(&mut [0]).await, Ok(0) | Err(_)));
    let line = bench.line().await;
    assert!(
        line.contains(" 200 DC downstream_remote_disconnect "),
        "{line}"
    );
}

#[tokio::test]
async fn an_answer_that_is_cut_off_resets_its_client() {
    for framing in [
        "Content-Length: 100\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (listener, there) = origin().await;
        let bench = before(there, |_| ());
        let mut client = bench.captured(there).await;
        client
            .write_all(format!("{GET}\r\n").as_bytes())
            .await
            .unwrap();
        let mut served = accept(&listener).await;
        head_of(&mut served).await;
        served
            .write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes())
            .await
            .unwrap();
        let mut got = Vec::new();
        while !got.windows(4).any(|window| window == b"half") {
            client.read_buf(&mut got).await.unwrap();
        }
        drop(served);
        let ended = client.read_to_end(&mut got).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn bytes_behind_a_request_for_another_protocol_are_its_first() {
    let (listener, there) = origin().await;
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    let switch = "Connection: upgrade\r\nUpgrade: chat\r\n\r\n";
    // They look like no request, and nobody takes them for one.
    client
        .write_all(format!("{GET}{switch}\0\nearly").as_bytes())
        .await
        .unwrap();
    let mut served = accept(&listener).await;
    head_of(&mut served).await;
    let said = format!("HTTP/1.1 101 Switching Protocols\r\n{switch}first");
    served.write_all(said.as_bytes()).await.unwrap();
    exactly(&mut served, b"\0\nearly").await;
    let (head, _) = answer(&mut client).await;
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    exactly(&mut client, b"first").await;
    client.write_all(b"later").await.unwrap();
    exactly(&mut served, b"later").await;
}

#[tokio::test]
async fn the_drain_ends_a_connection_that_waits_and_lets_a_request_finish() {
    let (listener, there) = origin().await;
    let bench = before(there, |_| ());
    let (mut idle, mut busy) = (bench.captured(there).await, bench.captured(there).await);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: own.example\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer(&mut idle).await.1, "own");
    busy.write_all(format!("{GET}\r\n").as_bytes())
        .await
        .unwrap();
    let mut served = accept(&listener).await;
    head_of(&mut served).await;
    bench.drain.start();
    assert_eq!(rest(&mut idle).await, b"");
    served
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .await
        .unwrap();
    let (head, body) = answer(&mut busy).await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    assert_eq!(body, "ok");
    assert_eq!(rest(&mut busy).await, b"");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_waits_has_its_time_after_each_answer() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |limits| {
        limits.idle_timeout = Duration::from_secs(60)
    });
    let mut client = bench.captured(there).await;
    for _ in 0..3 {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: own.example\r\n\r\n")
            .await
            .unwrap();
        assert_eq!(answer(&mut client).await.1, "own");
        tokio::time::sleep(Duration::from_secs(59)).await;
    }
    let left = Instant::now();
    assert_eq!(rest(&mut client).await, b"");
    assert_eq!(left.elapsed().as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_from_its_first_byte() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |limits| {
        limits.head_timeout = Duration::from_secs(10)
    });
    let mut client = bench.captured(there).await;
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: own.example\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(answer(&mut client).await.1, "own");
    tokio::time::sleep(Duration::from_secs(59)).await;
    let began = Instant::now();
    client.write_all(b"GET /").await.unwrap();
    tokio::time::sleep(Duration::from_secs(9)).await;
    client.write_all(b" HTTP/1.1\r\n").await.unwrap();
    let (head, _) = answer(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(bench.rejected("head_timeout"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_is_reset_and_its_upstream_is_not_read_ahead() {
    let (listener, there) = origin().await;
    let bench = before(there, |limits| {
        limits.stream_idle_timeout = Duration::from_secs(30)
    });
    let small = |socket: SockRef<'_>| {
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_send_buffer_size(4096).unwrap();
    };
    let mut client = bench
        .arrive_by(ListenerKind::Capture, |_| Some(there), small)
        .await;
    client
        .write_all(format!("{GET}\r\n").as_bytes())
        .await
        .unwrap();
    let mut served = accept(&listener).await;
    SockRef::from(&served).set_send_buffer_size(4096).unwrap();
    head_of(&mut served).await;
    served
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let mut taken = 0;
    while let Ok(count @ 1..) = served.write(&[0; 64 * 1024]).await {
        taken += count;
    }
    assert_eq!(began.elapsed().as_secs(), 30);
    assert!(taken < 16 << 20, "{taken}");
    let mut got = Vec::new();
    let ended = client.read_to_end(&mut got).await;
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

const OWN: &[u8] = b"GET / HTTP/1.1\r\nHost: own.example\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_served_once_it_speaks_and_ends_when_it_never_does() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |limits| {
        limits.idle_timeout = Duration::from_secs(60)
    });
    let (mut late, mut never) = (bench.captured(there).await, bench.captured(there).await);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(59)).await;
    late.write_all(OWN).await.unwrap();
    assert_eq!(answer(&mut late).await.1, "own");
    assert_eq!(rest(&mut never).await, b"");
    assert_eq!(began.elapsed().as_secs(), 60);
    assert_eq!(bench.context.metrics.downstream.connections.value(), 1);
    tokio::time::sleep(Duration::from_secs(58)).await;
    late.write_all(OWN).await.unwrap();
    assert_eq!(answer(&mut late).await.1, "own");
    drop(late);
    bench.drain.start();
    bench.drain.finished().await;
    assert_eq!(bench.context.metrics.downstream.connections.value(), 0);
    assert_eq!(bench.context.places.available_permits(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_shorter_time_of_silence_after_a_reload_ends_newcomers_before_those_that_wait_longer() {
    let there = address("127.0.0.1:9");
    let idle =
        |seconds| move |limits: &mut Limits| limits.idle_timeout = Duration::from_secs(seconds);
    let bench = before(there, idle(60));
    let began = Instant::now();
    let mut early = bench.captured(there).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    bench.reload(&bounded(there, idle(5)), &Credentials::default());
    let mut late = bench.captured(there).await;
    assert_eq!(rest(&mut late).await, b"");
    assert_eq!(began.elapsed().as_secs(), 15);
    assert_eq!(rest(&mut early).await, b"");
    assert_eq!(began.elapsed().as_secs(), 60);
}

/// Clients that have each asked once.
async fn a_hundred(bench: &Bench, there: SocketAddr) -> Vec<TcpStream> {
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let mut client = bench.captured(there).await;
        client.write_all(OWN).await.unwrap();
        assert_eq!(answer(&mut client).await.1, "own");
        waiting.push(client);
    }
    waiting
}

#[tokio::test]
async fn of_many_connections_that_asked_once_few_stay_tasks_and_all_are_served_again() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |_| ());
    let runtime = Handle::current();
    let tasks = || runtime.metrics().num_alive_tasks();
    let others = tasks();
    let mut waiting = a_hundred(&bench, there).await;
    seen().await;
    // The crowd, and those who watch the rest.
    let alive = tasks() - others;
    assert!(alive <= 48 + 2, "{alive}");
    for _ in 0..3 {
        for client in &mut waiting {
            client.write_all(OWN).await.unwrap();
            assert_eq!(answer(client).await.1, "own");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_drain_ends_connections_that_have_waited_long() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |_| ());
    let mut waiting = a_hundred(&bench, there).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let last = &mut waiting[50];
    last.write_all(OWN).await.unwrap();
    assert_eq!(answer(last).await.1, "own");
    bench.drain.start();
    for client in &mut waiting {
        assert_eq!(rest(client).await, b"");
    }
    bench.drain.finished().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_waited_long_and_is_left_lets_its_place_go() {
    let there = address("127.0.0.1:9");
    let bench = before(there, |_| ());
    let mut client = bench.captured(there).await;
    client.write_all(OWN).await.unwrap();
    assert_eq!(answer(&mut client).await.1, "own");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(bench.context.places.available_permits(), 99);
    drop(client);
    seen().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(bench.context.places.available_permits(), 100);
}
