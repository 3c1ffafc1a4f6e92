//! Ten thousand ServiceEntries with their rules: loaded in bounded time, reloaded under traffic.
//!
//! The bound of two seconds is for an optimised build, where it is measured; here, unoptimised and
//! beside other tests, a bound that only a quadratic step would break.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::{Lab, Load, Sortie, eventually};

const MANY: usize = 10_000;
const BOUND: Duration = Duration::from_secs(30);

/// A ServiceEntry, a VirtualService and a DestinationRule for each of `MANY` hosts, in ten files.
/// The first host is the lab's bank on this port.
fn write(folder: &Path, lab: &Lab, port: u16, weight: u32) {
    let at = lab.path().display();
    for part in 0..10 {
        let mut text = String::new();
        for n in (part..MANY).step_by(10) {
            let host = if n == 0 {
                "bank.example".to_owned()
            } else {
                format!("h{n}.example")
            };
            let subset = format!("v{weight}");
            write!(
                text,
                "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: e{n}, namespace: default}}
spec:
  hosts: [{host}]
  location: MESH_EXTERNAL
  ports: [{{number: 8443, name: https, protocol: TLS, targetPort: {port}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: v{n}, namespace: default}}
spec:
  hosts: [{host}]
  http:
  - match: [{{port: 80, uri: {{prefix: /}}}}]
    route: [{{destination: {{host: {host}, subset: {subset}, port: {{number: 8443}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: d{n}, namespace: default}}
spec:
  host: {host}
  subsets:
  - name: {subset}
    trafficPolicy:
      tls:
        mode: MUTUAL
        clientCertificate: {at}/client.crt
        privateKey: {at}/client.key
        caCertificates: {at}/ca.crt
        sni: bank.example
"
            )
            .unwrap();
        }
        let file = folder.join(format!("part{part}.yaml"));
        let next = folder.join(".next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, file).unwrap();
    }
}

#[test]
fn ten_thousand_service_entries_load_and_are_reloaded_without_a_pause_in_traffic() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &lab, bank.port(), 1);
    let began = Instant::now();
    let sortie = Sortie::builder("")
        .with(|options| options.config = vec![folder.path().to_owned()])
        .start();
    let took = began.elapsed();
    assert!(took < BOUND, "loading took {took:?}");
    sortie.get("bank.example", "/").expect(200);
    let version = |sortie: &Sortie| sortie.metric(&["sortie_config_version"]);
    let before = version(&sortie);
    let load = Load::start(sortie.address(), &["bank.example", "bank.example"]);
    // Every upstream changes: the name of each subset is another.
    write(folder.path(), &lab, bank.port(), 2);
    sortie.reload();
    eventually("the new table is in use", || {
        (version(&sortie) > before).then_some(())
    });
    let slowest = load.slowest();
    let (answered, lost) = load.stop();
    assert!(lost.is_empty(), "{lost:?}");
    assert!(answered > 0);
    // A worker that waited for the load would show it: that takes seconds here.
    assert!(
        slowest < Duration::from_secs(1),
        "an answer took {slowest:?}"
    );
}
