//! `credentialName`: what a Secret says is what the peer sees, and what it does not say fails
//! (ISTIO.md S, T7 to T12), with Istio's own matrix of client credentials (S8).

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::sortie::model::{MeshIdentity, ProxyFacts};
use tempfile::TempDir;

use crate::harness::{Authority, Identity, Lab, Load, Nginx, Origin, Sortie, eventually};

/// A lab whose client credential is the Secret `default/bank`, mounted in a folder.
struct Shop {
    lab: Lab,
    mounted: TempDir,
}

/// The keys of a Secret.
type Keys<'a> = Vec<(&'a str, &'a str)>;

impl Shop {
    fn new() -> Shop {
        Shop {
            lab: Lab::new(),
            mounted: tempfile::tempdir().unwrap(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.mounted.path().join("default/bank")
    }

    /// Mounts `keys` as the kubelet does: a new folder, and `..data` renamed over.
    fn mount(&self, keys: &Keys<'_>) {
        mount(&self.folder(), keys);
    }

    /// What makes the bank answer.
    fn good(&self) -> Keys<'_> {
        vec![
            ("tls.crt", &self.lab.client.chain),
            ("tls.key", &self.lab.client.key),
            ("ca.crt", &self.lab.servers.pem),
        ]
    }

    /// sortie with these documents and the folder of Secrets.
    fn sortie(&self, documents: &str) -> Sortie {
        started(documents, |facts| {
            facts.credentials = [self.mounted.path().into()].into()
        })
    }
}

fn started(documents: &str, change: impl FnOnce(&mut ProxyFacts)) -> Sortie {
    let mut facts = ProxyFacts::default();
    change(&mut facts);
    let documents = format!("rotation: {{poll: 300ms}}\n---\n{documents}");
    Sortie::builder(&documents)
        .with(|options| options.load.facts = Arc::new(facts))
        .start()
}

fn mount(folder: &Path, keys: &Keys<'_>) {
    std::fs::create_dir_all(folder).unwrap();
    let round = std::fs::read_dir(folder).unwrap().count();
    let name = format!("..2026_{round}");
    std::fs::create_dir(folder.join(&name)).unwrap();
    for (key, text) in keys {
        std::fs::write(folder.join(&name).join(key), text).unwrap();
        let _ = symlink(Path::new("..data").join(key), folder.join(key));
    }
    symlink(&name, folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

/// `bank.example` on port 80, which is `port` of this machine, and a DestinationRule with `tls`.
fn manifests(port: u16, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank}}\n\
         spec:\n  hosts: [bank.example]\n  resolution: STATIC\n  ports:\n  \
         - {{number: 80, name: http, protocol: HTTP, targetPort: {port}}}\n  \
         endpoints: [{{address: 127.0.0.1}}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: bank}}\n\
         spec:\n  host: bank.example\n  trafficPolicy:\n    tls: {tls}\n"
    )
}

const MUTUAL: &str = "{mode: MUTUAL, credentialName: bank}";
const SIMPLE: &str = "{mode: SIMPLE, credentialName: bank}";

/// A Secret document.
fn document(name: &str, keys: &Keys<'_>) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: Opaque\nstringData:\n"
    );
    for (key, value) in keys {
        text.push_str(&format!("  {key}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// 503 whose body has all of these words.
#[track_caller]
fn refused(sortie: &Sortie, words: &[&str]) {
    let text = sortie.get("bank.example", "/").expect(503).text();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[track_caller]
fn becomes(sortie: &Sortie, status: u16) -> String {
    eventually(&format!("the bank answers {status}"), || {
        let answer = sortie.get("bank.example", "/");
        (answer.status == status).then(|| answer.text())
    })
}

#[test]
fn s8_a_valid_secret_answers_and_the_bank_sees_its_certificate() {
    let shop = Shop::new();
    for from_document in [false, true] {
        let bank = shop.lab.bank().start();
        let mut documents = manifests(bank.port(), MUTUAL);
        if from_document {
            documents += &document("bank", &shop.good());
        } else {
            shop.mount(&shop.good());
        }
        let sortie = match from_document {
            true => started(&documents, |_| ()),
            false => shop.sortie(&documents),
        };
        sortie.get("bank.example", "/").expect(200);
        let seen = &bank.seen()[0];
        assert_eq!(seen.serial, shop.lab.client.serial());
        assert_eq!(seen.sni.as_deref(), Some("bank.example"));
        // T11: SIMPLE and MUTUAL offer nothing for HTTP/1.
        assert_eq!(seen.alpn, [""; 0]);
        let page = sortie.admin_get("/certs").expect(200).text();
        assert!(
            page.contains("kubernetes://bank\"") && page.contains("kubernetes://bank-cacert\"")
        );
        assert!(!page.contains("PRIVATE"));
    }
}

#[test]
fn s8_a_secret_with_the_wrong_ca_is_503_with_the_name_of_the_resource() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    let mut keys = shop.good();
    keys[2].1 = &shop.lab.clients.pem;
    shop.mount(&keys);
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    refused(
        &sortie,
        &[
            "no chain to a CA in kubernetes://bank-cacert",
            "into that Secret",
        ],
    );
    sortie.logged(&["503", "UF"]);
    assert!(bank.asked().is_empty());
}

#[test]
fn s8_a_missing_secret_is_503_at_once_and_heals_when_it_appears() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    refused(&sortie, &["secret default/bank not found"]);
    assert!(bank.seen().is_empty(), "nothing was dialled");
    shop.mount(&shop.good());
    becomes(&sortie, 200);
    assert_eq!(bank.seen()[0].serial, shop.lab.client.serial());
}

#[test]
fn s8_a_key_of_another_certificate_is_503() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    let other = shop.lab.clients.client("other");
    let mut keys = shop.good();
    keys[1].1 = &other.key;
    shop.mount(&keys);
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    refused(&sortie, &["the key does not match the certificate"]);
    assert!(bank.seen().is_empty(), "nothing was dialled");
}

#[test]
fn s8_a_server_that_demands_a_certificate_and_gets_none_is_503() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    shop.mount(&vec![("cacert", &shop.lab.servers.pem)]);
    // S6: SIMPLE takes the CA alone.
    let sortie = shop.sortie(&manifests(bank.port(), SIMPLE));
    refused(&sortie, &["the server demands a client certificate"]);
    assert_eq!(bank.seen()[0].client, None);
}

#[test]
fn s6_mutual_with_a_secret_without_a_ca_is_503_and_never_the_systems_store() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    let mut keys = shop.good();
    keys.pop();
    shop.mount(&keys);
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    refused(
        &sortie,
        &["found secret, but didn't have expected keys cacert or ca.crt; found: tls.crt, tls.key"],
    );
    assert!(bank.seen().is_empty(), "nothing was dialled");
}

#[test]
fn s8_a_server_certificate_that_the_secrets_list_revokes_is_503() {
    let shop = Shop::new();
    let identity = shop.lab.servers.server(&["bank.example"]);
    let bank = shop.lab.bank().identity(&identity).start();
    let (clean, revoking) = (
        shop.lab.servers.crl(&[]),
        shop.lab.servers.crl(&[&identity]),
    );
    let mut keys = shop.good();
    keys.push(("ca.crl", &clean));
    shop.mount(&keys);
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    sortie.get("bank.example", "/").expect(200);
    keys[3].1 = &revoking;
    shop.mount(&keys);
    let text = becomes(&sortie, 503);
    assert!(
        text.contains("is revoked: the list kubernetes://bank-cacert names it"),
        "{text}"
    );
}

#[test]
fn s8_disable_to_a_tls_port_brings_nginxs_own_400() {
    let shop = Shop::new();
    let identity = shop.lab.servers.server(&["bank.example"]);
    let Some(nginx) = Nginx::start(&identity, &shop.lab.clients, "TLSv1.2 TLSv1.3") else {
        return;
    };
    let sortie = shop.sortie(&manifests(nginx.port(), "{mode: DISABLE}"));
    let text = sortie.get("bank.example", "/").expect(400).text();
    assert!(
        text.contains("The plain HTTP request was sent to HTTPS port"),
        "{text}"
    );
}

#[test]
fn s8_nginx_answers_a_secret_and_sees_its_subject() {
    let shop = Shop::new();
    let identity = shop.lab.servers.server(&["bank.example"]);
    let Some(nginx) = Nginx::start(&identity, &shop.lab.clients, "TLSv1.2 TLSv1.3") else {
        return;
    };
    shop.mount(&shop.good());
    let sortie = shop.sortie(&manifests(nginx.port(), MUTUAL));
    let answer = sortie.get("bank.example", "/").expect(200);
    assert_eq!(answer.header("x-verify"), Some("SUCCESS"));
    assert_eq!(answer.header("x-dn"), Some("CN=shop"));
    assert_eq!(answer.header("x-sni"), Some("bank.example"));
    assert_eq!(answer.header("x-host"), Some("bank.example"));
}

#[test]
fn s8_a_secret_that_rotates_to_a_wrong_one_is_503_and_to_a_right_one_200() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    shop.mount(&shop.good());
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    sortie.get("bank.example", "/").expect(200);
    let stranger = Authority::new("another CA").client("stranger");
    let mut wrong = shop.good();
    (wrong[0].1, wrong[1].1) = (&stranger.chain, &stranger.key);
    shop.mount(&wrong);
    let text = becomes(&sortie, 503);
    assert!(
        text.contains("the server refused our client certificate"),
        "{text}"
    );
    assert!(text.contains("kubernetes://bank"), "{text}");
    shop.mount(&shop.good());
    becomes(&sortie, 200);
}

#[test]
fn s8_a_secret_document_that_changes_is_taken_by_the_reload_of_the_documents() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    let documents = |keys: &Keys<'_>| {
        let rotation = "rotation: {poll: 300ms}\n---\n";
        format!(
            "{rotation}{}{}",
            manifests(bank.port(), MUTUAL),
            document("bank", keys)
        )
    };
    let sortie = Sortie::start(&documents(&shop.good()));
    sortie.get("bank.example", "/").expect(200);
    let next = shop.lab.clients.client("next");
    let mut keys = shop.good();
    (keys[0].1, keys[1].1) = (&next.chain, &next.key);
    sortie.configure(&documents(&keys));
    taken(&sortie, &bank, &next);
    // A pair that does not belong together leaves the one before in use (R12).
    keys[1].1 = &shop.lab.client.key;
    sortie.configure(&documents(&keys));
    eventually("the store says what is wrong", || {
        let page = sortie.admin_get("/certs").expect(200).text();
        page.contains("secret default/bank[tls.key]").then_some(())
    });
    taken(&sortie, &bank, &next);
}

/// Asks until the bank sees this identity, and then sees no other.
#[track_caller]
fn taken(sortie: &Sortie, bank: &Origin, identity: &Identity) {
    let serial = identity.serial();
    let is_new = || {
        let answer = sortie.get("bank.example", "/").expect(200);
        let connection: usize = answer.header("x-connection").unwrap().parse().unwrap();
        bank.seen()[connection - 1].serial == serial
    };
    eventually("the bank sees the new certificate", || {
        is_new().then_some(())
    });
    assert!((0..10).all(|_| is_new()), "a request under the old one");
}

#[test]
fn r3_a_mounted_secret_rotates_under_traffic_and_nothing_is_lost() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    shop.mount(&shop.good());
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    let load = Load::start(sortie.address(), &["bank.example", "bank.example"]);
    eventually("there is traffic", || {
        (bank.asked().len() > 10).then_some(())
    });
    for round in 0..3 {
        let next = shop.lab.clients.client(&format!("next {round}"));
        let mut keys = shop.good();
        (keys[0].1, keys[1].1) = (&next.chain, &next.key);
        shop.mount(&keys);
        taken(&sortie, &bank, &next);
    }
    let (answered, lost) = load.stop();
    let some = &lost[..lost.len().min(5)];
    assert!(
        lost.is_empty(),
        "{} of {answered} lost: {some:?}",
        lost.len()
    );
    let rotated = ["sortie_cert_rotations_total", "kubernetes://bank\""];
    assert!(
        sortie.metric(&rotated) >= 3.0,
        "{}",
        sortie.admin_get("/metrics").text()
    );
}

#[test]
fn s4_a_ca_secret_of_its_own_is_the_only_source() {
    let shop = Shop::new();
    let bank = shop.lab.bank().start();
    shop.mount(&shop.good());
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    sortie.get("bank.example", "/").expect(200);
    // It is there now and has no CA: no fallback to the one that has.
    let own = shop.mounted.path().join("default/bank-cacert");
    let broken = started(&manifests(bank.port(), MUTUAL), |facts| {
        mount(&own, &vec![("tls.crt", "x")]);
        facts.credentials = [shop.mounted.path().into()].into();
    });
    refused(
        &broken,
        &["secret default/bank-cacert: found secret, but didn't have expected keys cacert or"],
    );
    mount(&own, &vec![("cacert", &shop.lab.servers.pem)]);
    becomes(&broken, 200);
}

#[test]
fn t7_insecure_skip_verify_needs_no_ca_and_shows_the_certificate() {
    let shop = Shop::new();
    let stranger = Authority::new("unknown CA").server(&["other.example"]);
    let bank = shop.lab.bank().identity(&stranger).start();
    let at = shop.lab.path().display();
    let tls = format!(
        "{{mode: MUTUAL, clientCertificate: {at}/client.crt, privateKey: {at}/client.key, \
         insecureSkipVerify: true}}"
    );
    let sortie = shop.sortie(&manifests(bank.port(), &tls));
    sortie.get("bank.example", "/").expect(200);
    assert_eq!(bank.seen()[0].serial, shop.lab.client.serial());
}

/// The mesh identity of the lab's client, with the servers' authority as the root of the mesh.
fn mesh(lab: &Lab) -> MeshIdentity {
    MeshIdentity {
        certificate: lab.path().join("client.crt"),
        key: lab.path().join("client.key"),
        ca: lab.path().join("ca.crt"),
    }
}

#[test]
fn t5_istio_mutual_sends_istios_server_name_and_alpn_and_verifies_the_chain() {
    let lab = Lab::new();
    // A workload of the mesh: a SPIFFE name and no DNS name.
    let workload = lab
        .servers
        .server(&["spiffe://cluster.local/ns/default/sa/bank"]);
    let bank = lab
        .bank()
        .identity(&workload)
        .alpn(&["istio-http/1.1"])
        .start();
    let tls = "{mode: ISTIO_MUTUAL}";
    let sortie = started(&manifests(bank.port(), tls), |facts| {
        facts.identity = Some(mesh(&lab))
    });
    sortie.get("bank.example", "/").expect(200);
    let seen = &bank.seen()[0];
    assert_eq!(seen.sni.as_deref(), Some("outbound_.80_._.bank.example"));
    assert_eq!(seen.alpn, ["istio-http/1.1", "istio", "http/1.1"]);
    assert_eq!(seen.serial, lab.client.serial());
    let stranger = Authority::new("another mesh").server(&["bank.example"]);
    let other = lab.bank().identity(&stranger).start();
    let sortie = started(&manifests(other.port(), tls), |facts| {
        facts.identity = Some(mesh(&lab))
    });
    refused(&sortie, &["no chain to a CA in"]);
}

#[test]
fn t12_istio_mutual_with_names_takes_the_workload_that_has_one_and_no_other() {
    let lab = Lab::new();
    let workload = lab
        .servers
        .server(&["spiffe://cluster.local/ns/default/sa/bank"]);
    let bank = lab.bank().identity(&workload).start();
    for (account, status) in [("bank", 200), ("thief", 503)] {
        let name = format!("spiffe://cluster.local/ns/default/sa/{account}");
        let tls = format!("{{mode: ISTIO_MUTUAL, subjectAltNames: [\"{name}\"]}}");
        let sortie = started(&manifests(bank.port(), &tls), |facts| {
            facts.identity = Some(mesh(&lab))
        });
        sortie.get("bank.example", "/").expect(status);
    }
}

#[test]
fn t7_with_sni_a_wrong_name_passes_and_is_counted_and_without_it_fails() {
    let shop = Shop::new();
    let other = shop.lab.servers.server(&["other.example"]);
    let bank = shop.lab.bank().identity(&other).closes_after(1).start();
    shop.mount(&shop.good());
    let named = "{mode: MUTUAL, credentialName: bank, sni: front.example}";
    let sortie = shop.sortie(&manifests(bank.port(), named));
    for _ in 0..3 {
        sortie.get("bank.example", "/").expect(200);
    }
    assert_eq!(bank.seen()[0].sni.as_deref(), Some("front.example"));
    assert!(sortie.metric(&["sortie_upstream_name_unchecked_total"]) >= 3.0);
    let sortie = shop.sortie(&manifests(bank.port(), MUTUAL));
    refused(&sortie, &["it is for another name", "DNS:other.example"]);
}

#[test]
fn t4_a_sidecar_never_falls_back_to_plaintext_where_istio_would() {
    let shop = Shop::new();
    let plain = Origin::plain().start();
    shop.mount(&shop.good());
    let sortie = shop.sortie(&manifests(plain.port(), MUTUAL));
    refused(&sortie, &["does not speak TLS on this port"]);
    assert!(plain.asked().is_empty());
}

#[test]
fn p4_one_service_has_workloads_with_and_without_a_sidecar() {
    let lab = Lab::new();
    let workload = lab
        .servers
        .server(&["spiffe://cluster.local/ns/default/sa/bank"]);
    let sidecar = lab.bank().identity(&workload).named("sidecar").start();
    let bare = Origin::plain().named("bare").start();
    let documents = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: bank}}\n\
         spec:\n  hosts: [bank.example]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  \
         - address: 127.0.0.1\n    ports: {{http: {}}}\n    \
         labels: {{security.istio.io/tlsMode: istio}}\n  \
         - address: 127.0.0.1\n    ports: {{http: {}}}\n",
        sidecar.port(),
        bare.port()
    );
    let sortie = started(&documents, |facts| facts.identity = Some(mesh(&lab)));
    let mut met = std::collections::BTreeMap::new();
    for _ in 0..20 {
        let answer = sortie.get("bank.example", "/").expect(200);
        *met.entry(answer.header("x-origin").unwrap().to_owned())
            .or_insert(0) += 1;
    }
    assert_eq!(met.len(), 2, "{met:?}");
    let seen = sidecar.seen();
    assert!(
        seen.iter().all(|seen| seen.serial == lab.client.serial()),
        "{seen:?}"
    );
    assert_eq!(seen[0].alpn, ["istio-http/1.1", "istio", "http/1.1"]);
    assert!(bare.seen().iter().all(|seen| seen.version.is_none()));
}

#[test]
fn t5_a_real_nginx_takes_istios_server_name_and_alpn() {
    let lab = Lab::new();
    let identity = lab.servers.server(&["nginx-mtls.common-ca.local"]);
    let Some(nginx) = Nginx::start(&identity, &lab.clients, "TLSv1.2 TLSv1.3") else {
        return;
    };
    let documents = manifests(nginx.port(), "{mode: ISTIO_MUTUAL}");
    let documents = documents.replace("bank.example", "nginx-mtls.common-ca.local");
    let sortie = started(&documents, |facts| facts.identity = Some(mesh(&lab)));
    let answer = sortie.get("nginx-mtls.common-ca.local", "/").expect(200);
    let sni = "outbound_.80_._.nginx-mtls.common-ca.local";
    assert_eq!(answer.header("x-sni"), Some(sni));
    assert_eq!(answer.header("x-dn"), Some("CN=shop"));
}

#[test]
fn x9_names_of_a_service_entry_count_beside_the_requests_host() {
    let shop = Shop::new();
    shop.mount(&shop.good());
    for (names, tls, status) in [
        (&["bank.example", "payments.bank"][..], MUTUAL, 200),
        (&["bank.example"], MUTUAL, 503),
        (&["payments.bank"], MUTUAL, 503),
        // With sni no host is compared, and the names stand alone.
        (
            &["payments.bank"],
            "{mode: MUTUAL, credentialName: bank, sni: front.example}",
            200,
        ),
        (
            &["front.example"],
            "{mode: MUTUAL, credentialName: bank, sni: front.example}",
            503,
        ),
    ] {
        let identity = shop.lab.servers.server(names);
        let bank = shop.lab.bank().identity(&identity).start();
        let documents = manifests(bank.port(), tls).replacen(
            "spec:\n",
            "spec:\n  subjectAltNames: [payments.bank]\n",
            1,
        );
        let sortie = shop.sortie(&documents);
        let answer = sortie.get("bank.example", "/");
        assert_eq!(answer.status, status, "{names:?} {tls}: {}", answer.text());
    }
}
