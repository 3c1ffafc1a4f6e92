//! The image and the compose files, as a person runs them, on a real Docker engine.
//!
//! What is asserted is what the far end saw: nginx's log of server name, client and verdict.

use std::path::Path;

use crate::harness::{Compose, IMAGE, docker, eventually, image, within};
use std::time::Duration;

/// Containers take their time beside all the other tests.
const PATIENCE: Duration = Duration::from_secs(60);
/// The promise of the image's size, in bytes.
const LARGEST: u64 = 15_500_000;

/// What `docker inspect` says of the image.
fn image_fact(format: &str) -> String {
    let said = docker(&["inspect", "--format", format, IMAGE]);
    said.good().trim().to_owned()
}

#[test]
fn the_image_is_one_small_static_program_that_runs_as_1337() {
    if image().is_none() {
        return;
    }
    let size: u64 = image_fact("{{.Size}}").parse().unwrap();
    assert!(size < LARGEST, "{size} bytes");
    assert_eq!(image_fact("{{.Config.User}}"), "1337:1337");
    assert_eq!(image_fact("{{.Config.Entrypoint}}"), "[/sortie]");
    let title = image_fact(r#"{{index .Config.Labels "org.opencontainers.image.title"}}"#);
    assert_eq!(title, "sortie");

    let folder = tempfile::tempdir().unwrap();
    let id = docker(&["create", IMAGE]).good();
    let id = id.trim();
    let to = folder.path().join("image");
    let copied = docker(&["cp", &format!("{id}:/"), &to.display().to_string()]);
    docker(&["rm", id]).good();
    copied.good();
    let mut files = Vec::new();
    list(&to, &to, &mut files);
    // What the engine itself puts into every container is empty.
    assert_eq!(files, ["etc/ssl/certs/ca-certificates.crt", "sortie"]);
    let elf = std::fs::read(to.join("sortie")).unwrap();
    assert!(elf.starts_with(b"\x7fELF"));
    assert_eq!(interpreters(&elf), 0, "it needs no dynamic linker");
}

/// Program headers of a 64-bit ELF file that name a dynamic linker (PT_INTERP).
fn interpreters(elf: &[u8]) -> usize {
    let number = |at: usize, size: usize| {
        let bytes = elf[at..at + size].iter().rev();
        bytes.fold(0, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    let kinds = (0..count).map(|nth| number(headers + nth * size, 4));
    assert!(count > 0);
    kinds.filter(|kind| *kind == 3).count()
}

/// The files under `folder` that hold something, relative to `root`, sorted.
fn list(root: &Path, folder: &Path, files: &mut Vec<String>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::path);
    for entry in entries {
        let kind = entry.metadata().unwrap();
        if kind.is_dir() {
            list(root, &entry.path(), files);
        } else if kind.len() > 0 && !entry.file_type().unwrap().is_symlink() {
            let path = entry.path();
            files.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}

#[test]
fn the_image_runs_the_demo_without_a_root_a_network_or_a_place_to_write_but_tmp() {
    if image().is_none() {
        return;
    }
    let arguments = [
        "run",
        "--rm",
        "--read-only",
        "--tmpfs=/tmp",
        "--network=none",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        IMAGE,
        "demo",
        "--once",
    ];
    let said = docker(&arguments).good();
    assert!(said.contains("hello over mutual TLS"), "{said}");
}

#[test]
fn the_compose_files_name_the_image_of_this_version() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if !name.starts_with("compose.") {
            continue;
        }
        let text = std::fs::read_to_string(entry.path()).unwrap();
        let images = text.lines().filter(|line| line.contains("image: sortie:"));
        for line in images {
            seen += 1;
            let wanted = format!(
                "image: sortie:${{SORTIE_VERSION:-{}}}",
                env!("CARGO_PKG_VERSION")
            );
            assert_eq!(line.trim(), wanted, "{name}");
        }
    }
    assert!(seen > 0);
}

#[test]
fn compose_gateway_proves_itself_and_the_bank_saw_mutual_tls_alone() {
    let Some(compose) = Compose::new("compose.gateway.yaml") else {
        return;
    };
    let said = compose.prove();
    for text in [
        "hello from the bank",
        "server name (SNI)   bank.example",
        "client certificate  CN=sortie-client,O=shop",
        "verified            SUCCESS",
        "no route names elsewhere.example",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    let log = compose.log("bank");
    let (accounts, others): (Vec<_>, Vec<_>) = requests(&log)
        .into_iter()
        .partition(|line| line.contains("/account"));
    assert_eq!(accounts.len(), 2, "{log}");
    for line in accounts {
        assert!(line.starts_with("443 "), "{line}");
        assert!(line.contains("SNI=\"bank.example\""), "{line}");
        assert!(
            line.contains("client=\"CN=sortie-client,O=shop\""),
            "{line}"
        );
        assert!(line.contains("verify=SUCCESS TLSv1.3"), "{line}");
    }
    // The outsider: no certificate, somebody else's, and plaintext on the TLS port.
    assert_eq!(others.len(), 3, "{log}");
    assert!(others.iter().all(|line| line.contains(" 400 ")), "{log}");
    assert!(!log.contains("\n80 "), "nothing came in plaintext: {log}");
}

#[test]
fn compose_gateway_takes_a_new_certificate_without_a_restart_and_stops_politely() {
    let Some(compose) = Compose::up("compose.gateway.yaml", &["gateway", "shop"]) else {
        return;
    };
    compose.healthy("gateway");
    let account = || compose.curl("shop", &["http://bank.example/"]).good();
    let serial = || field(&account(), "serial ");
    let before = serial();
    let started = compose.fact("gateway", "{{.State.StartedAt}}");
    compose.run(&["run", "--rm", "certs", "client"]).good();
    let after = within(PATIENCE, "a new serial", || {
        let now = serial();
        (now != before).then_some(now)
    });
    assert!(compose.log("bank").contains(&after), "the bank saw it");
    assert_eq!(compose.fact("gateway", "{{.State.StartedAt}}"), started);

    compose.run(&["stop", "-t", "20", "gateway"]).good();
    assert_eq!(compose.fact("gateway", "{{.State.ExitCode}}"), "0");
    assert_eq!(compose.fact("gateway", "{{.State.OOMKilled}}"), "false");
    let alone = compose.curl("shop", &["--max-time", "2", "http://bank.example/"]);
    assert_ne!(
        alone.code, 0,
        "there is no other way to the bank: {alone:?}"
    );

    compose.run(&["start", "gateway"]).good();
    compose.healthy("gateway");
    eventually("the gateway serves again", || {
        account()
            .contains("verified            SUCCESS")
            .then_some(())
    });
}

/// The word behind `label`.
fn field(text: &str, label: &str) -> String {
    let (_, rest) = text
        .split_once(label)
        .unwrap_or_else(|| panic!("{label} in {text}"));
    rest.split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn compose_mesh_proves_itself_and_each_side_saw_the_other() {
    let Some(compose) = Compose::new("compose.mesh.yaml") else {
        return;
    };
    let said = compose.prove();
    for text in [
        "hello from side B",
        "verified SUCCESS, issued by O=cluster.local",
        "who came to it      CN=sortie-client,O=shop",
        "certificate required",
        "unknown ca",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    let log = compose.log("helloworld");
    let requests = requests(&log);
    assert_eq!(requests.len(), 1, "the uninvited never came so far: {log}");
    assert!(requests[0].contains("verify=SUCCESS"), "{log}");
    let ingress = compose.log("ingress");
    for reason in [
        "the client showed no certificate",
        "client certificate \"CN=stranger,O=somebody else\"",
    ] {
        assert!(ingress.contains(reason), "{reason} in {ingress}");
    }
}

#[test]
fn compose_sidecar_proves_itself_and_captured_traffic_reached_the_bank_as_mutual_tls_alone() {
    let Some(compose) = Compose::new("compose.sidecar.yaml") else {
        return;
    };
    let said = compose.prove();
    for text in [
        "client certificate  CN=sortie-client,O=shop",
        "verified            SUCCESS",
        "no route names elsewhere.example",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    assert_eq!(compose.fact("capture", "{{.State.ExitCode}}"), "0");
    let log = compose.log("bank");
    let requests = requests(&log);
    assert_eq!(requests.len(), 1, "the others stayed inside: {log}");
    assert!(requests[0].starts_with("443 "), "{log}");
    assert!(
        requests[0].contains("SNI=\"bank.example\" client=\"CN=sortie-client,O=shop\""),
        "{log}"
    );
    assert!(requests[0].contains("verify=SUCCESS TLSv1.3"), "{log}");
}

#[test]
fn compose_sidecar_an_application_that_restarts_is_captured_and_without_its_proxy_reaches_nobody() {
    let Some(compose) = Compose::up("compose.sidecar.yaml", &["shop"]) else {
        return;
    };
    compose.healthy("sortie");
    let account = || compose.curl("shop", &["http://bank.example/account"]);
    let mutual = || account().good().contains("verified            SUCCESS");
    assert!(mutual());
    compose.run(&["restart", "-t", "1", "shop"]).good();
    assert!(
        mutual(),
        "an application that restarts is captured as before"
    );
    compose.run(&["stop", "-t", "20", "sortie"]).good();
    assert_eq!(compose.fact("sortie", "{{.State.ExitCode}}"), "0");
    let alone = account();
    assert_eq!(alone.code, 7, "refused, not sent in plaintext: {alone:?}");
    let log = compose.log("bank");
    assert_eq!(requests(&log).len(), 2, "{log}");
    compose.run(&["start", "sortie"]).good();
    compose.healthy("sortie");
    assert!(mutual());
}

/// The lines of nginx's access log.
fn requests(log: &str) -> Vec<&str> {
    let requests = log.lines().filter(|line| line.contains("HTTP/1.1\""));
    requests.collect()
}
