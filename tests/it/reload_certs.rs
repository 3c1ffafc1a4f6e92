//! Certificates that rotate by themselves: every way of writing them, under traffic.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::harness::{Authority, Identity, Lab, Load, Origin, Sortie, eventually};

/// A poll so short that a test need not wait, and still not the first to know: that is the watch.
const POLL: &str = "rotation: {poll: 300ms}\n";

fn sortie(lab: &Lab, bank: &Origin) -> Sortie {
    Sortie::start(&(POLL.to_string() + &lab.config(bank.port())))
}

fn next(lab: &Lab) -> Identity {
    lab.clients.client("next")
}

/// Asks until the bank sees this identity, then checks that no request still goes out under
/// another one. A session of another identity that was resumed would show as that identity.
#[track_caller]
fn taken(sortie: &Sortie, bank: &Origin, identity: &Identity) {
    let serial = identity.serial();
    let is_new = |connection: &str| {
        let connection: usize = connection.parse().unwrap();
        bank.seen()[connection - 1].serial == serial
    };
    eventually("the bank sees the new certificate", || {
        let answer = sortie.get("bank.example", "/").expect(200);
        is_new(answer.header("x-connection").unwrap()).then_some(())
    });
    for _ in 0..10 {
        let answer = sortie.get("bank.example", "/").expect(200);
        assert!(
            is_new(answer.header("x-connection").unwrap()),
            "a request under the old one"
        );
    }
}

/// Runs `write` under traffic and expects the new identity to be taken and nothing lost.
#[track_caller]
fn rotates(prepare: impl FnOnce(&Lab), write: impl FnOnce(&Path, &Identity)) {
    let lab = Lab::new();
    prepare(&lab);
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    let load = Load::start(sortie.address(), &["bank.example", "bank.example"]);
    eventually("there is traffic", || {
        (bank.asked().len() > 10).then_some(())
    });
    let fresh = next(&lab);
    write(lab.path(), &fresh);
    taken(&sortie, &bank, &fresh);
    let (answered, lost) = load.stop();
    assert!(
        lost.is_empty(),
        "{} of {answered} lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
}

#[test]
fn r3_rename_over_is_taken() {
    rotates(|_| {}, rename_over);
}

fn rename_over(folder: &Path, fresh: &Identity) {
    fresh.write(folder, ".new");
    std::fs::rename(folder.join(".new.key"), folder.join("client.key")).unwrap();
    std::fs::rename(folder.join(".new.crt"), folder.join("client.crt")).unwrap();
}

#[test]
fn r3_truncate_and_write_is_taken() {
    rotates(|_| {}, |folder, fresh| drop(fresh.write(folder, "client")));
}

#[test]
fn r3_truncate_and_write_in_small_pieces_is_taken() {
    use std::io::Write;
    rotates(
        |_| {},
        |folder, fresh| {
            for (name, text) in [("client.crt", &fresh.chain), ("client.key", &fresh.key)] {
                let mut file = std::fs::File::create(folder.join(name)).unwrap();
                for piece in text.as_bytes().chunks(100) {
                    file.write_all(piece).unwrap();
                    file.sync_data().unwrap();
                }
            }
        },
    );
}

#[test]
fn r3_the_data_link_of_kubernetes_is_followed() {
    rotates(
        |lab| {
            mount(lab.path(), "..2026_01", &lab.client);
            symlink("..2026_01", lab.path().join("..data")).unwrap();
            for name in ["client.crt", "client.key"] {
                let seen = lab.path().join(name);
                std::fs::remove_file(&seen).unwrap();
                symlink(Path::new("..data").join(name), seen).unwrap();
            }
        },
        swap,
    );
}

fn mount(folder: &Path, generation: &str, identity: &Identity) {
    let generation = folder.join(generation);
    std::fs::create_dir(&generation).unwrap();
    identity.write(&generation, "client");
}

/// What the kubelet does: a new folder, a new link, and the link renamed over `..data`.
fn swap(folder: &Path, fresh: &Identity) {
    mount(folder, "..2026_02", fresh);
    symlink("..2026_02", folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    std::fs::remove_dir_all(folder.join("..2026_01")).unwrap();
}

#[test]
fn r3_certificate_then_key_with_a_gap_is_taken_when_both_are_there() {
    rotates(
        |_| {},
        |folder, fresh| {
            std::fs::write(folder.join("client.crt"), &fresh.chain).unwrap();
            // The gap is what is tested: long enough for the watch and a poll to look into it.
            std::thread::sleep(Duration::from_millis(800));
            std::fs::write(folder.join("client.key"), &fresh.key).unwrap();
        },
    );
}

#[test]
fn r3_key_then_certificate_with_a_gap_is_taken_when_both_are_there() {
    rotates(
        |_| {},
        |folder, fresh| {
            std::fs::write(folder.join("client.key"), &fresh.key).unwrap();
            std::thread::sleep(Duration::from_millis(800));
            std::fs::write(folder.join("client.crt"), &fresh.chain).unwrap();
        },
    );
}

#[test]
fn r2_the_third_and_every_further_rotation_is_taken() {
    // Istio's watcher forgets after the second (istio#59912).
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    for nth in 0..6 {
        let fresh = next(&lab);
        match nth % 3 {
            0 => rename_over(lab.path(), &fresh),
            1 => drop(fresh.write(lab.path(), "client")),
            _ => {
                std::fs::remove_file(lab.path().join("client.crt")).unwrap();
                std::fs::remove_file(lab.path().join("client.key")).unwrap();
                fresh.write(lab.path(), "client");
            }
        }
        taken(&sortie, &bank, &fresh);
    }
}

#[test]
fn r12_a_broken_rotation_keeps_the_last_good_one_and_is_counted_and_shown() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = POLL.to_string() + &lab.config(bank.port());
    let sortie = Sortie::builder(&config)
        .with(|o| o.workers = Some(1))
        .start();
    sortie.get("bank.example", "/").expect(200);
    let foreign = lab.clients.client("somebody else");
    let broken: [(&str, &str, &str); 4] = [
        ("garbage", "not PEM at all", &lab.client.key),
        ("an empty file", "", &lab.client.key),
        (
            "half a certificate",
            &lab.client.chain[..200],
            &lab.client.key,
        ),
        (
            "a certificate of another key",
            &foreign.chain,
            &lab.client.key,
        ),
    ];
    for (what, certificate, key) in broken {
        let failures = || sortie.metric(&["sortie_cert_reload_failures_total", "client.crt"]);
        let (before, seen) = (failures(), bank.seen().len());
        std::fs::write(lab.path().join("client.crt"), certificate).unwrap();
        std::fs::write(lab.path().join("client.key"), key).unwrap();
        eventually(&format!("{what} is counted"), || {
            (failures() > before).then_some(())
        });
        sortie.get("bank.example", "/").expect(200);
        let shown = sortie.admin_get("/certs").text();
        assert!(shown.contains("reload failed"), "{what}: {shown}");
        assert_eq!(
            bank.seen().len(),
            seen,
            "{what}: a warm connection was given up"
        );
        // And it recovers.
        let fresh = next(&lab);
        fresh.write(lab.path(), "client");
        taken(&sortie, &bank, &fresh);
        eventually(&format!("{what} is shown no more"), || {
            let shown = sortie.admin_get("/certs").text();
            (!shown.contains("reload failed")).then_some(())
        });
    }
}

#[test]
fn r14_files_that_vanish_are_no_rotation() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    for name in ["client.crt", "client.key", "ca.crt"] {
        std::fs::remove_file(lab.path().join(name)).unwrap();
    }
    eventually("it is noticed", || {
        let shown = sortie.admin_get("/certs").text();
        shown.contains("reload failed").then_some(())
    });
    sortie.get("bank.example", "/").expect(200);
}

#[test]
fn r15_a_new_ca_is_asked_for_every_new_connection_and_idle_ones_are_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    sortie.get("bank.example", "/").expect(200);
    std::fs::write(lab.path().join("ca.crt"), Authority::new("another CA").pem).unwrap();
    eventually("the old server is no longer trusted", || {
        (sortie.get("bank.example", "/").status == 503).then_some(())
    });
    eventually("its idle connections are closed", || {
        (bank.open() == 0).then_some(())
    });
    std::fs::write(lab.path().join("ca.crt"), &lab.servers.pem).unwrap();
    eventually("it is trusted again", || {
        (sortie.get("bank.example", "/").status == 200).then_some(())
    });
}

#[test]
fn r16_a_request_under_way_finishes_on_its_old_connection_which_is_then_closed() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    let mut wire = sortie.wire();
    wire.send("GET /drip/20/100 HTTP/1.1\r\nHost: bank.example\r\n\r\n");
    eventually("it has begun", || (bank.asked().len() == 1).then_some(()));
    let fresh = next(&lab);
    rename_over(lab.path(), &fresh);
    taken(&sortie, &bank, &fresh);
    assert!(wire.answer().expect(200).text().ends_with("line 19\n"));
    eventually("the old connection is not kept", || {
        (!bank.seen()[0].open).then_some(())
    });
    assert_eq!(bank.seen()[0].requests.len(), 1);
}

#[test]
fn r17_the_expiry_of_every_certificate_is_a_gauge() {
    let lab = Lab::new();
    let soon = Duration::from_secs(3600);
    lab.clients
        .ending_in("shop", &[], soon)
        .write(lab.path(), "client");
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let expected = (now + soon).as_secs_f64();
    let shown = sortie.metric(&["sortie_cert_expiry_timestamp_seconds", "client.crt"]);
    assert!(
        (shown - expected).abs() < 120.0,
        "{shown} instead of {expected}"
    );
}

#[test]
fn a_thousand_rotations_under_load_lose_no_request() {
    const ROTATIONS: usize = 1000;
    let lab = Lab::new();
    let bank = lab.bank().start();
    let sortie = sortie(&lab, &bank);
    let identities: Vec<Identity> = (0..25).map(|_| next(&lab)).collect();
    let load = Load::start(sortie.address(), &["bank.example"; 4]);
    eventually("there is traffic", || {
        (bank.asked().len() > 10).then_some(())
    });
    let mut changes = 0;
    for nth in 0..ROTATIONS {
        let identity = &identities[nth % identities.len()];
        if nth % 2 == 0 {
            rename_over(lab.path(), identity);
        } else {
            identity.write(lab.path(), "client");
        }
        // The watch and the poll look as well, at moments of their own; this look is certain.
        let said = sortie.admin_post("/reload").expect(200).text();
        changes += usize::from(said.contains("client.crt"));
    }
    let (answered, lost) = load.stop();
    assert!(
        lost.is_empty(),
        "{} of {answered} lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
    let shown: std::collections::BTreeSet<_> =
        bank.seen().iter().map(|s| s.serial.clone()).collect();
    println!("{ROTATIONS} rotations, {changes} seen by /reload itself, {answered} requests");
    assert!(
        changes > ROTATIONS / 2,
        "only {changes} rotations were taken"
    );
    assert!(
        answered > ROTATIONS,
        "only {answered} requests in {ROTATIONS} rotations"
    );
    assert_eq!(
        shown.len(),
        identities.len() + 1,
        "every identity was shown to the bank"
    );
}
