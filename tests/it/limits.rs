//! What runs out: places, descriptors, ports, disk. Said plainly; nothing crashes, nothing spins.

use std::time::Duration;

use crate::harness::{Lab, Process, Sortie, Wire, eventually, get, needs};

#[test]
fn a_connection_over_the_limit_waits_and_is_served_when_a_place_is_free() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = "limits: {maxConnections: 2}\n".to_string() + &lab.config(bank.port());
    let sortie = Sortie::builder(&config)
        .with(|options| options.workers = Some(1))
        .start();
    let mut first = sortie.wire();
    let mut second = sortie.wire();
    first.get("bank.example", "/").expect(200);
    second.get("bank.example", "/").expect(200);
    let mut third = sortie.wire();
    third.send("GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    assert!(
        third.hears(Duration::from_millis(200)).is_empty(),
        "it was served beyond the limit"
    );
    drop(first);
    third.answer().expect(200);
}

#[test]
fn an_upstream_over_its_limit_answers_503_uo_at_once() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::start(&lab.config_with(bank.port(), "pool: {maxRequests: 1}", ""));
    let mut busy = sortie.wire();
    busy.send("GET /slow/1000 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("the bank has the request", || {
        (bank.asked().len() == 1).then_some(())
    });
    sortie.get("bank.example", "/").expect(503);
    sortie.logged(&[" 503 UO"]);
    busy.answer().expect(200);
    sortie.get("bank.example", "/").expect(200);
}

#[test]
fn a_port_that_is_taken_is_said_and_ends_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let lab = Lab::new();
    let started = Sortie::builder(&lab.config(1))
        .with(|o| o.listen = vec![address])
        .try_start();
    let Err(words) = started else {
        panic!("it started on a port that is taken")
    };
    assert!(
        words.contains(&address.to_string()) && words.contains("in use"),
        "{words}"
    );
}

#[test]
fn descriptors_that_run_out_are_survived_without_spinning() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.path().join("sortie.yaml");
    std::fs::write(&config, lab.config(bank.port())).unwrap();
    let process = Process::run(&config, "ulimit -n 64", &["--workers", "1"]);
    get(process.address, "bank.example", "/").expect(200);
    let held: Vec<Wire> = (0..120).map(|_| Wire::connect(process.address)).collect();
    eventually("the shortage is said", || {
        process.said().contains("ulimit").then_some(())
    });
    let before = process.processor_time();
    // A time and not a fact: what is measured is how much is done in it.
    std::thread::sleep(Duration::from_millis(1500));
    let spent = process.processor_time() - before;
    assert!(
        spent < Duration::from_millis(700),
        "it spins: {spent:?} of processor time in 1.5 s"
    );
    drop(held);
    eventually("it serves again", || {
        (get(process.address, "bank.example", "/").status == 200).then_some(())
    });
}

#[test]
fn an_access_log_on_a_full_disk_costs_lines_and_no_request() {
    let Some(_) = needs("sh").filter(|_| std::path::Path::new("/dev/full").exists()) else {
        return crate::harness::skip("this machine has no /dev/full");
    };
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = Sortie::builder(&lab.config(bank.port()))
        .with(|options| options.access_log = Some("/dev/full".into()))
        .start();
    for _ in 0..20 {
        sortie.get("bank.example", "/").expect(200);
    }
    eventually("lost lines are counted", || {
        let lost = [
            "sortie_access_log_dropped_lines_total",
            "sortie_access_log_write_errors_total",
        ];
        lost.iter()
            .any(|name| sortie.metric(&[name]) > 0.0)
            .then_some(())
    });
}

#[test]
fn an_access_log_that_cannot_be_opened_is_said_and_ends_the_start() {
    let lab = Lab::new();
    let file = lab.path().join("no such folder").join("access.log");
    let started = Sortie::builder(&lab.config(1))
        .with(|o| o.access_log = Some(file.clone()))
        .try_start();
    let Err(words) = started else {
        panic!("it started without its access log")
    };
    assert!(words.contains(&file.display().to_string()), "{words}");
}
