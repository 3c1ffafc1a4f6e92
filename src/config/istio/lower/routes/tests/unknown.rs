//! What becomes of destinations that nobody names.

use super::*;

fn mesh(mode: &str) -> String {
    format!(
        "---\napiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nmetadata: {{name: \
         i}}\nspec: {{meshConfig: {{outboundTrafficPolicy: {{mode: {mode}}}}}}}\n"
    )
}

fn sidecar(namespace: &str, policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: s, \
         namespace: {namespace}}}\nspec: {{egress: [{{hosts: ['*/*']}}]{policy}}}\n"
    )
}

#[track_caller]
fn captured(text: &str) -> UnknownHosts {
    let loaded = load(&(entry("bank", "bank.example", &["80/HTTP"]) + text));
    assert_eq!(loaded.config.unknown_hosts, Refuse, "direct listeners");
    loaded.config.unknown_captured
}

use UnknownHosts::{PassThrough, Refuse};

#[test]
fn o1_silence_allows_captured_connections_to_anywhere() {
    assert_eq!(captured(""), PassThrough);
    assert_eq!(captured(&sidecar("default", "")), PassThrough);
}

#[test]
fn x15_a_secret_beside_native_documents_opens_nothing() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: YQ==}\n---\n\
                  apiVersion: batch/v1\nkind: Job\nmetadata: {name: j}\n";
    let loaded = load_files(&[("a.yaml", secret), ("b.yaml", "limits: {maxHeaders: 7}\n")]);
    assert_eq!(loaded.config.unknown_captured, Refuse);
}

#[test]
fn o1_the_sidecar_decides_before_the_mesh() {
    assert_eq!(captured(&mesh("REGISTRY_ONLY")), Refuse);
    assert_eq!(captured(&mesh("ALLOW_ANY")), PassThrough);
    let only = ", outboundTrafficPolicy: {mode: REGISTRY_ONLY}";
    let any = ", outboundTrafficPolicy: {mode: ALLOW_ANY}";
    assert_eq!(captured(&sidecar("default", only)), Refuse);
    assert_eq!(
        captured(&(mesh("REGISTRY_ONLY") + &sidecar("default", any))),
        PassThrough
    );
    assert_eq!(
        captured(&(mesh("REGISTRY_ONLY") + &sidecar("default", ""))),
        Refuse
    );
    assert_eq!(
        captured(&sidecar("other", only)),
        PassThrough,
        "somebody else's Sidecar"
    );
    assert_eq!(
        captured(&sidecar("istio-system", only)),
        Refuse,
        "the mesh's own"
    );
    let empty = ", outboundTrafficPolicy: {}";
    assert_eq!(
        captured(&sidecar("default", empty)),
        Refuse,
        "mode 0 is REGISTRY_ONLY"
    );
}

#[test]
fn x15_a_native_document_that_says_it_decides() {
    let both = |said: &str, mode: &str| {
        let istio = entry("bank", "bank.example", &["80/HTTP"]) + &mesh(mode);
        let native = format!("unknownHosts: {said}\n");
        let loaded = load_files(&[("a.yaml", &istio), ("b.yaml", &native)]);
        (loaded.config.unknown_hosts, loaded.config.unknown_captured)
    };
    assert_eq!(both("refuse", "ALLOW_ANY"), (Refuse, Refuse));
    assert_eq!(
        both("pass-through", "REGISTRY_ONLY"),
        (PassThrough, PassThrough)
    );
}

#[test]
fn x15_a_flag_decides_before_all() {
    let mut options = options();
    options.unknown_hosts = Some(Refuse);
    let text = entry("bank", "bank.example", &["80/HTTP"]) + &mesh("ALLOW_ANY");
    let loaded = load_texts_with(&[("a.yaml", &text)], &options).unwrap();
    assert_eq!(loaded.config.unknown_captured, Refuse);
}

#[test]
fn x1_a_refused_sidecar_of_ours_or_mesh_configuration_refuses_the_unknown() {
    let typo = |text: String| text.replacen("spec: {", "spec: {typo: 1, ", 1);
    let any = ", outboundTrafficPolicy: {mode: ALLOW_ANY}";
    let text = |more: &str| entry("bank", "bank.example", &["80/HTTP"]) + more;
    for refused in [
        typo(sidecar("default", any)),
        typo(sidecar("istio-system", any)),
    ] {
        assert_eq!(captured(&refused), Refuse);
        let loaded = load(&text(&refused));
        assert_eq!(loaded.config.refused.len(), 1);
        assert_eq!(
            table(&loaded),
            ["bank.example:80 > outbound|80||bank.example"]
        );
    }
    assert_eq!(captured(&typo(sidecar("other", any))), PassThrough);
    let native = ("b.yaml", "unknownHosts: pass-through\n");
    let loaded = load_files(&[("a.yaml", &text(&typo(sidecar("default", any)))), native]);
    let unknown = (loaded.config.unknown_hosts, loaded.config.unknown_captured);
    assert_eq!(unknown, (Refuse, Refuse));
}
