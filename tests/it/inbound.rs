//! The inbound side of a sidecar: who is let in to the application beside it, and how the others
//! are turned away. Clients are curl, openssl and bare TCP; none shares code with sortie.

use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{
    Authority, Front, Identity, Mesh, Origin, SHOP, Sidecar, WEB, capitals, closing, eventually,
    guarded, needs, spiffe,
};

/// A client that must not get in.
struct Bad<'a> {
    pair: &'a str,
    /// The reason, as the metric has it.
    reason: &'a str,
    /// The alert that it hears (RFC 8446 section 6.2).
    alert: u8,
    /// curl's exit code where it hears it during the handshake, as under TLS 1.2.
    exit: i32,
    /// What the log says.
    says: &'a str,
}

#[test]
fn bad_clients_of_a_strict_port_hear_the_alert_that_says_why_and_are_never_served() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "STRICT");
    let id = spiffe("full", "sleep");
    let mesh = &sidecar.mesh;
    sidecar.client("other", &Authority::new("other root").server(&[&id]));
    sidecar.client("expired", &mesh.root.expired("late", &[&id]));
    let foreign = "spiffe://other.mesh/ns/full/sa/sleep";
    sidecar.client("foreign", &mesh.root.server(&[foreign]));
    sidecar.client("nameless", &mesh.root.client("nobody"));
    let bad = [
        Bad {
            pair: "",
            reason: "no_certificate",
            alert: 116,
            exit: 35,
            says: "no certificate",
        },
        Bad {
            pair: "other",
            reason: "unknown_ca",
            alert: 48,
            exit: 35,
            says: "other root",
        },
        Bad {
            pair: "expired",
            reason: "expired",
            alert: 45,
            exit: 60,
            says: "expired",
        },
        Bad {
            pair: "foreign",
            reason: "trust_domain",
            alert: 49,
            exit: 35,
            says: foreign,
        },
        Bad {
            pair: "nameless",
            reason: "trust_domain",
            alert: 49,
            exit: 35,
            says: "cluster.local",
        },
    ];
    for client in &bad {
        refused(&sidecar, client);
    }
    assert_eq!(app.seen().len(), 0, "nothing reached the application");
    // And the good one still gets in.
    let (code, text) = sidecar.curl("sleep", &[]);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
}

/// 5.6: under TLS 1.2 the handshake fails, under TLS 1.3 the first read does. For one alert curl
/// has an exit code of its own.
#[track_caller]
fn refused(sidecar: &Sidecar, bad: &Bad<'_>) {
    let Bad { pair, reason, .. } = bad;
    let before = sidecar.failures(reason);
    for (version, expected) in [("1.2", bad.exit), ("1.3", 56)] {
        let (code, text) = sidecar.curl(pair, &["--tls-max", version]);
        assert_eq!(code, expected, "\"{pair}\" in TLS {version}: {text}");
        assert!(text.starts_with("\n000"), "{text}");
    }
    sidecar.fails(reason, before + 2.0);
    // The line says why, and who it was.
    sidecar
        .front
        .says(&["handshake", bad.says, "peer=127.0.0.1:"]);
    let at = |end: &str| {
        let file = sidecar.front.path().join(format!("{pair}.{end}"));
        file.display().to_string()
    };
    let (cert, key) = (at("crt"), at("key"));
    let mut all = vec!["-tls1_3"];
    if !pair.is_empty() {
        all.extend(["-cert", &cert, "-key", &key]);
    }
    let input = closing("web.shop", "/");
    if let Some(told) = sidecar.front.s_client(sidecar.port(), &all, &input) {
        assert_eq!(told.alert(), Some(bad.alert), "\"{pair}\": {told:?}");
        assert!(!told.text.contains("HTTP/1.1"), "\"{pair}\": {told:?}");
        sidecar.fails(reason, before + 3.0);
    }
}

#[test]
fn plaintext_to_a_strict_port_is_reset_and_named_in_the_log() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "STRICT");
    let (code, text) = sidecar.plain(&[]);
    assert_eq!(code, 56, "P7, 5.6: {text}");
    assert!(text.starts_with("\n000"), "{text}");
    sidecar.front.says(&["plaintext HTTP to a TLS port"]);
    sidecar.rejects("plaintext_on_tls", 1.0);
    assert_eq!(app.seen().len(), 0);
}

#[test]
fn tls_to_a_plaintext_port_is_named_in_the_log() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "DISABLE");
    let (code, text) = sidecar.curl("sleep", &[]);
    assert_eq!(code, 35, "P10: {text}");
    sidecar.front.says(&["TLS to a plaintext port"]);
    sidecar.rejects("tls_on_plaintext", 1.0);
    let (code, text) = sidecar.plain(&[]);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
}

/// A ClientHello as openssl writes it, caught on its way.
fn client_hello() -> Option<Vec<u8>> {
    use std::io::Read;
    needs("openssl")?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let caught = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = vec![0; 5];
        stream.read_exact(&mut hello).unwrap();
        let length = usize::from(u16::from_be_bytes([hello[3], hello[4]]));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        hello.extend(body);
        hello
    });
    crate::harness::s_client(to, &["-servername", "web.shop"], "");
    Some(caught.join().unwrap())
}

#[test]
fn garbage_and_broken_hellos_are_closed_and_named_and_half_a_hello_is_waited_for_so_long() {
    let Some(hello) = client_hello() else {
        return;
    };
    let app = Origin::plain().named("web").start();
    let limits = "---\nlimits: {headTimeout: 400ms, idleTimeout: 2s}\n";
    let sidecar = Sidecar::with(
        app.address,
        &(guarded(app.address, "http", "STRICT") + limits),
    );
    // Not even the beginning of TLS, and of no HTTP.
    let mut wire = sidecar.front.wire(sidecar.port());
    assert!(wire.send([0xff; 512]).is_closed());
    // TLS's first bytes, and then nonsense.
    let mut broken = hello[..9].to_vec();
    broken.extend([0xee; 700]);
    let mut wire = sidecar.front.wire(sidecar.port());
    wire.send(&broken);
    wire.rest();
    sidecar.rejects("malformed_hello", 1.0);
    // Half of one, and silence: the time of a head is all it gets.
    let began = Instant::now();
    let mut wire = sidecar.front.wire(sidecar.port());
    wire.send(&hello[..hello.len() / 2]);
    wire.rest();
    let waited = began.elapsed();
    assert!(
        (Duration::from_millis(300)..Duration::from_secs(5)).contains(&waited),
        "{waited:?}"
    );
    sidecar.front.says(&["took too long"]);
    // A whole one, and silence where the client's answer has to come.
    let began = Instant::now();
    let mut wire = sidecar.front.wire(sidecar.port());
    wire.send(&hello);
    wire.rest();
    assert!(
        began.elapsed() < Duration::from_secs(18),
        "G12's 15 s are the most"
    );
    assert_eq!(app.seen().len(), 0);
    let (code, text) = sidecar.curl("sleep", &[]);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
}

#[test]
fn a_client_hello_that_comes_byte_by_byte_is_a_client_hello() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "STRICT");
    let slow = slow_relay(sidecar.front.at(sidecar.port()));
    let to = format!("::{slow}");
    let (cert, key) = ("sleep.crt", "sleep.key");
    let all = [
        "--insecure",
        "--cert",
        cert,
        "--key",
        key,
        "--connect-to",
        &to,
    ];
    let (code, text) = sidecar
        .front
        .curl(sidecar.port(), "https://web.shop/", &all);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
    assert_eq!(app.asked().len(), 1);
}

/// Hands the client's first 600 bytes on one by one, each in a packet of its own.
fn slow_relay(to: SocketAddr) -> SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = std::net::TcpStream::connect(to).unwrap();
        server.set_nodelay(true).unwrap();
        let (mut from, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut back));
        let mut byte = [0];
        for _ in 0..300 {
            if client.read_exact(&mut byte).is_err() || server.write_all(&byte).is_err() {
                return;
            }
        }
        let _ = std::io::copy(&mut client, &mut server);
    });
    at
}

/// The identity's folder as the kubelet keeps it: links into `..data`.
fn mount(folder: &Path, generation: &str, mesh: &Mesh, identity: &Identity) {
    mesh.write(&folder.join(generation), identity);
    let next = folder.join("..data_tmp");
    symlink(generation, &next).unwrap();
    std::fs::rename(next, folder.join("..data")).unwrap();
}

/// The first certificate that the port shows, as PEM.
fn shown(front: &Front, port: u16) -> Option<String> {
    let told = front.s_client(port, &["-showcerts"], "")?.text;
    let begin = told.find("-----BEGIN CERTIFICATE-----")?;
    let end = told.find("-----END CERTIFICATE-----")?;
    Some(told[begin..end].trim().to_owned())
}

#[test]
fn r3_the_identity_rotates_under_traffic_and_no_request_is_lost() {
    if needs("openssl").is_none() {
        return;
    }
    let app = Origin::plain().named("web").start();
    let mesh = Mesh::new();
    let builder = Front::builder();
    builder.pair("sleep", &mesh.identity("full", "sleep"));
    let folder = builder.path().join("identity");
    mesh.write(&folder.join("..1"), &mesh.identity(SHOP, WEB));
    symlink("..1", folder.join("..data")).unwrap();
    for file in ["cert-chain.pem", "key.pem", "root-cert.pem"] {
        symlink(Path::new("..data").join(file), folder.join(file)).unwrap();
    }
    let fresh = mesh.identity(SHOP, WEB);
    let identity = folder.display().to_string();
    let rotation = "---\nrotation: {poll: 300ms}\n";
    let front = builder
        .with(&["--identity", &identity, "--namespace", SHOP])
        .with(&["--labels", "app=web"])
        .inbound(app.address)
        .start(&(guarded(app.address, "http", "STRICT") + rotation));
    let front = Arc::new(front);
    let port = app.port();
    let (done, lost) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let traffic = {
        let (front, done, lost) = (Arc::clone(&front), Arc::clone(&done), Arc::clone(&lost));
        std::thread::spawn(move || {
            let mut answered = 0;
            while !done.load(Ordering::Relaxed) {
                let pair = ["--insecure", "--cert", "sleep.crt", "--key", "sleep.key"];
                let (code, text) = front.curl(port, "https://web.shop/", &pair);
                match code == 0 && text.contains("\n200") {
                    true => answered += 1,
                    false => drop(lost.fetch_add(1, Ordering::Relaxed)),
                }
            }
            answered
        })
    };
    let before = shown(&front, port).expect("it shows a certificate");
    mount(&folder, "..2", &mesh, &fresh);
    let now = eventually("new handshakes use the new pair", || {
        shown(&front, port).filter(|now| *now != before)
    });
    let leaf = fresh.chain.replace("\r\n", "\n");
    assert!(leaf.contains(&now), "{now} is not of {leaf}");
    done.store(true, Ordering::Relaxed);
    let answered = traffic.join().unwrap();
    assert!(answered > 0);
    assert_eq!(lost.load(Ordering::Relaxed), 0, "of {answered}");
}

#[test]
fn a_new_policy_holds_for_connections_that_are_open_already() {
    let app = Origin::plain().named("web").start();
    let sidecar = Sidecar::new(app.address, "http", "PERMISSIVE");
    let mut kept = sidecar.front.wire(sidecar.port());
    kept.get("web.shop", "/").expect(200);
    let strict = guarded(app.address, "http", "STRICT");
    sidecar.front.configure(&strict);
    let served = app.asked().len();
    kept.send("GET / HTTP/1.1\r\nHost: web.shop\r\n\r\n");
    let answer = kept.answer();
    assert!(answer.status >= 400, "{answer:?}");
    assert!(kept.is_closed(), "and it is closed");
    assert_eq!(app.asked().len(), served, "the application heard nothing");
    // And back: what PERMISSIVE admits is let in again.
    sidecar
        .front
        .configure(&guarded(app.address, "http", "PERMISSIVE"));
    let (code, text) = sidecar.plain(&[]);
    assert_eq!((code, text.contains("\n200")), (0, true), "{text}");
}

#[test]
fn p9_tls_of_the_applications_own_passes_a_permissive_tcp_port_untouched() {
    let ca = Authority::new("the application's CA");
    let app = Origin::tls(&ca.server(&["web.shop"])).named("own").start();
    let sidecar = Sidecar::new(app.address, "tcp", "PERMISSIVE");
    let (code, text) = sidecar.curl("", &[]);
    assert_eq!((code, text.contains("hello from own")), (0, true), "{text}");
    let seen = app.only();
    assert_eq!(seen.sni.as_deref(), Some("web.shop"));
    assert_eq!(seen.alpn, ["h2", "http/1.1"], "curl's own");
}

#[test]
fn p11_an_application_that_speaks_first_is_heard_where_the_port_is_strict_or_disabled() {
    let app = capitals("hello\n");
    let sidecar = Sidecar::new(app, "tcp", "DISABLE");
    let mut wire = sidecar.front.wire(sidecar.port());
    assert_eq!(wire.bytes(6), b"hello\n");
    drop(wire);
    sidecar.front.configure(&guarded(app, "tcp", "STRICT"));
    let at = |file: &str| sidecar.front.path().join(file).display().to_string();
    let (cert, key) = (at("sleep.crt"), at("sleep.key"));
    let all = ["-cert", &cert, "-key", &key, "-quiet"];
    let Some(told) = sidecar.front.s_client(sidecar.port(), &all, "over\n") else {
        return;
    };
    told.says("hello").says("OVER");
}
