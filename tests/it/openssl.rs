//! OpenSSL as the external service: another TLS library, with its own alerts and its own timing.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::{Authority, Lab, Sortie, eventually, free_address, needs};

/// `openssl s_server -www`: answers every request with a page about the TLS session.
struct Openssl {
    child: Child,
    port: u16,
}

impl Openssl {
    /// `None` where it is not installed.
    fn start(lab: &Lab, certificate: (PathBuf, PathBuf), more: &[&str]) -> Option<Openssl> {
        let program = needs("openssl")?;
        let address = free_address();
        std::fs::write(lab.path().join("clients.crt"), &lab.clients.pem).unwrap();
        let child = Command::new(program)
            .args([
                "s_server",
                "-www",
                "-quiet",
                "-accept",
                &address.to_string(),
            ])
            .arg("-cert")
            .arg(&certificate.0)
            .arg("-key")
            .arg(&certificate.1)
            .arg("-CAfile")
            .arg(lab.path().join("clients.crt"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("openssl listens", || TcpStream::connect(address).ok());
        let port = address.port();
        Some(Openssl { child, port })
    }
}

impl Drop for Openssl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const DEMANDING: &[&str] = &["-Verify", "1", "-verify_return_error"];

fn bank(lab: &Lab) -> (PathBuf, PathBuf) {
    lab.servers
        .server(&["bank.example"])
        .write(lab.path(), "bank")
}

fn with(more: &[&'static str]) -> Vec<&'static str> {
    DEMANDING.iter().chain(more).copied().collect()
}

#[test]
fn a_session_is_made_and_the_next_connection_resumes_it() {
    let lab = Lab::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(openssl) = Openssl::start(&lab, bank(&lab), &with(&[version])) else {
            return;
        };
        let sortie = lab.sortie(openssl.port);
        let first = sortie.get("bank.example", "/").expect(200).text();
        assert!(first.contains("New, TLSv1."), "{first}");
        // The page ends with its connection, so that each request is a handshake.
        let second = sortie.get("bank.example", "/").expect(200).text();
        assert!(second.contains("Reused, TLSv1."), "{second}");
    }
}

#[test]
fn a_refused_client_certificate_is_named_as_that_in_both_versions() {
    let lab = Lab::new();
    let stranger = Authority::new("Stranger CA").client("stranger");
    let (certificate, key) = stranger.write(lab.path(), "stranger");
    for (version, flags) in [("-tls1_2", " 503 UF"), ("-tls1_3", " 503 UC")] {
        let Some(openssl) = Openssl::start(&lab, bank(&lab), &with(&[version])) else {
            return;
        };
        let mut tls = String::new();
        let ca = lab.path().join("ca.crt");
        let (cert, key, ca) = (certificate.display(), key.display(), ca.display());
        write!(
            tls,
            "{{mode: mutual, certificate: {cert}, key: {key}, ca: {ca}}}"
        )
        .unwrap();
        let config = lab.config(openssl.port).replace(&lab.mutual(), &tls);
        let sortie = Sortie::start(&config);
        let words = [
            "the server refused our client certificate (\"CN=stranger\"",
            &certificate.display().to_string(),
            "alert unknown_ca: it does not trust the CA that signed it",
        ];
        sortie.get("bank.example", "/").expect(503).says(&words);
        sortie.logged(&[flags]);
    }
}

#[test]
fn a_missing_client_certificate_is_named_as_that_in_both_versions() {
    let lab = Lab::new();
    for version in ["-tls1_2", "-tls1_3"] {
        let Some(openssl) = Openssl::start(&lab, bank(&lab), &with(&[version])) else {
            return;
        };
        let simple = format!(
            "{{mode: simple, ca: {}}}",
            lab.path().join("ca.crt").display()
        );
        let sortie = Sortie::start(&lab.config(openssl.port).replace(&lab.mutual(), &simple));
        let words = "the server demands a client certificate";
        sortie.get("bank.example", "/").expect(503).says(&[words]);
    }
}

#[test]
fn an_old_server_is_told_that_its_version_is_too_old() {
    let lab = Lab::new();
    let old = ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    let Some(openssl) = Openssl::start(&lab, bank(&lab), &old) else {
        return;
    };
    let answer = lab
        .sortie(openssl.port)
        .get("bank.example", "/")
        .expect(503);
    answer.says(&[
        "protocol_version",
        "it speaks no TLS version that this upstream allows",
    ]);
}

#[test]
fn w1_a_certificate_of_version_1_as_openssl_makes_it_is_named_as_that() {
    let lab = Lab::new();
    let Some(program) = needs("openssl") else {
        return;
    };
    let file = |name: &str| lab.path().join(name).display().to_string();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=OldCA -keyout old-ca.key -out old-ca.crt",
        "req -newkey rsa:2048 -nodes -subj /CN=bank.example -keyout old.key -out old.csr",
        "x509 -req -in old.csr -CA old-ca.crt -CAkey old-ca.key -CAcreateserial -days 2 -out old.crt",
    ] {
        let mut command = Command::new(&program);
        command.args(arguments.split(' ')).current_dir(lab.path());
        let made = command.output().unwrap();
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
    }
    let certificate = (file("old.crt").into(), file("old.key").into());
    let openssl = Openssl::start(&lab, certificate, &[]).unwrap();
    let simple = format!("{{mode: simple, ca: {}}}", file("old-ca.crt"));
    let sortie = Sortie::start(&lab.config(openssl.port).replace(&lab.mutual(), &simple));
    let words = "\"CN=bank.example\" is an X.509 certificate of version 1";
    sortie.get("bank.example", "/").expect(503).says(&[words]);
}
