//! Warm connections: which requests share them, and what happens when one is dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Lab, Sortie, Step, eventually, within};

fn one_worker(config: &str) -> Sortie {
    Sortie::builder(config)
        .with(|options| options.workers = Some(1))
        .start()
}

#[test]
fn requests_of_different_clients_share_one_warm_connection() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = one_worker(&lab.config(bank.port()));
    for _ in 0..10 {
        sortie.get("bank.example", "/").expect(200);
    }
    assert_eq!(bank.only().requests.len(), 10);
}

#[test]
fn requests_at_the_same_time_get_a_connection_each_over_http_1() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = one_worker(&lab.config(bank.port()));
    at_once(5, || {
        drop(sortie.get("bank.example", "/slow/300").expect(200))
    });
    let together = bank.seen().len();
    assert!((2..=5).contains(&together), "{together}");
}

#[test]
fn requests_at_the_same_time_share_one_connection_over_http_2() {
    let lab = Lab::new();
    let bank = lab.bank().alpn(&["h2"]).start();
    let sortie = one_worker(&lab.config(bank.port()));
    sortie.get("bank.example", "/").expect(200);
    at_once(20, || {
        drop(sortie.get("bank.example", "/slow/100").expect(200))
    });
    assert_eq!(bank.only().requests.len(), 21);
}

#[test]
fn a_warm_connection_that_the_peer_closed_loses_no_request() {
    let lab = Lab::new();
    let bank = lab.bank().closes_after(3).start();
    let sortie = one_worker(&lab.config(bank.port()));
    for _ in 0..30 {
        sortie.get("bank.example", "/").expect(200);
    }
    assert!(bank.seen().len() >= 10, "{}", bank.seen().len());
}

#[test]
fn a_warm_connection_that_dies_on_a_get_is_replaced_without_the_client_noticing() {
    let lab = Lab::new();
    let bank = lab.bank().script(dies_on_its_second_request).start();
    let sortie = one_worker(&lab.config(bank.port()));
    sortie.get("bank.example", "/1").expect(200);
    sortie.get("bank.example", "/2").expect(200);
    assert_eq!(bank.seen().len(), 2);
}

#[test]
fn a_warm_connection_that_dies_on_a_post_is_not_tried_again() {
    // The peer may have done what the POST asked for; only the client can know whether twice is fine.
    let lab = Lab::new();
    let bank = lab.bank().script(dies_on_its_second_request).start();
    let sortie = one_worker(&lab.config(bank.port()));
    sortie.get("bank.example", "/1").expect(200);
    let post = "POST /2 HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 3\r\n\r\npay";
    let answer = sortie.wire().send(post).answer();
    assert_eq!(answer.status, 503, "{answer:?}");
    sortie.logged(&["POST /2", " 503 UC"]);
    let posts = bank
        .asked()
        .iter()
        .filter(|asked| asked.method == "POST")
        .count();
    assert_eq!(posts, 1);
}

fn dies_on_its_second_request(nth: usize, _: &str) -> Vec<Step> {
    match nth {
        0 => vec![Step::send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")],
        _ => vec![Step::Cut],
    }
}

#[test]
fn an_answer_that_says_close_ends_its_connection() {
    let lab = Lab::new();
    let bank = lab.bank().script(|_, _| {
        vec![Step::send(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        )]
    });
    let bank = bank.start();
    let sortie = one_worker(&lab.config(bank.port()));
    let mut wire = sortie.wire();
    for _ in 0..3 {
        // It concerns the other hop: the client's connection stays.
        let answer = wire.get("bank.example", "/").expect(200);
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(bank.seen().len(), 3);
}

#[test]
fn a_client_that_leaves_in_the_middle_frees_its_upstream_connection() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = one_worker(&lab.config(bank.port()));
    let mut wire = sortie.wire();
    wire.send("GET /drip/1000/50 HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        .head();
    drop(wire);
    within(
        Duration::from_secs(5),
        "the bank's connection is closed",
        || (bank.open() == 0).then_some(()),
    );
    sortie.logged(&["/drip/1000/50", "DC"]);
    sortie.get("bank.example", "/").expect(200);
}

#[test]
fn upstreams_with_other_identities_share_no_connection() {
    let lab = Lab::new();
    lab.clients.client("other shop").write(lab.path(), "other");
    let bank = lab
        .bank()
        .identity(&lab.servers.server(&["a.example", "b.example"]))
        .start();
    let other = lab.mutual().replace("client.", "other.");
    let config = format!(
        "upstreams:\n  - {{name: a, endpoints: [\"{at}\"], tls: {mutual}}}\n  \
         - {{name: b, endpoints: [\"{at}\"], tls: {other}}}\n\
         routes:\n  - {{host: a.example, upstream: a}}\n  - {{host: b.example, upstream: b}}\n",
        at = bank.address,
        mutual = lab.mutual(),
    );
    let sortie = one_worker(&config);
    for _ in 0..3 {
        sortie.get("a.example", "/").expect(200);
        sortie.get("b.example", "/").expect(200);
    }
    for seen in bank.seen() {
        let expected = if seen.client.as_deref() == Some("CN=shop") {
            "a"
        } else {
            "b"
        };
        assert!(!seen.resumed, "a session of one identity served another");
        for request in &seen.requests {
            assert_eq!(
                request.one("host"),
                Some(format!("{expected}.example").as_str())
            );
        }
    }
    assert_eq!(bank.seen().len(), 2);
}

#[test]
fn every_request_gets_its_own_answer_when_many_run_at_once() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    let wrong = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (sortie, wrong) = (&sortie, Arc::clone(&wrong));
            scope.spawn(move || {
                let mut wire = sortie.wire();
                for nth in 0..50 {
                    let mine = format!("client {client} request {nth}");
                    let post = format!(
                        "PUT /echo HTTP/1.1\r\nHost: bank.example\r\nContent-Length: {}\r\n\r\n{mine}",
                        mine.len()
                    );
                    if wire.send(post).answer().text() != mine {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

#[test]
fn idle_connections_are_closed_before_the_process_ends() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie.get("bank.example", "/").expect(200);
    sortie.stop();
    eventually("no connection is left", || (bank.open() == 0).then_some(()));
}

fn at_once(count: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(&work);
        }
    });
}
