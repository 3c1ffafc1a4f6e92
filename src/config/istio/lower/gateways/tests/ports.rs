//! Where a gateway listens, and for whom it is.

use super::*;

#[test]
fn g1_a_gateway_is_for_the_proxies_that_have_all_of_its_labels_in_any_namespace() {
    let text = gateway("edge", &server(HTTP, "'*'", ""))
        .replace("{name: edge}", "{name: edge, namespace: far}");
    assert_eq!(listeners(&lab(&[&text])), ["[::]:80 80"]);
    let other = lab(&[&text]).facts(|facts| facts.labels.clear());
    assert_eq!(listeners(&other), Vec::<String>::new());
    let two = text.replace("istio: edge}", "istio: edge, app: x}");
    assert_eq!(listeners(&lab(&[&two])), Vec::<String>::new());
}

#[test]
fn x13_a_sidecar_with_the_labels_opens_it_too_but_not_one_that_selects_everybody() {
    let text = gateway("edge", &server(HTTP, "'*'", ""));
    let sidecar = |text: &str| lab(&[text]).facts(|facts| facts.role = Role::Sidecar);
    assert_eq!(listeners(&sidecar(&text)), ["[::]:80 80"]);
    let empty = text.replace("{istio: edge}", "{}");
    assert_eq!(listeners(&sidecar(&empty)), Vec::<String>::new());
    assert_eq!(listeners(&lab(&[&empty])), ["[::]:80 80"]);
}

#[test]
fn ist0145_protocols_that_contradict_each_other_on_a_port_are_not_mixed() {
    let tls = server(
        "port: {number: 80, name: x, protocol: HTTPS}",
        "'*'",
        "mode: ISTIO_MUTUAL",
    );
    let bytes = server("port: {number: 80, name: y, protocol: TCP}", "'*'", "");
    let first = gateway("one", &server(HTTP, "'*'", ""));
    let lab = lab(&[&first, &gateway("two", &(tls + &bytes))]);
    assert_eq!(entrances(&lab), ["gateway|80|http [] clear"]);
    let said = said(&lab, "IST0145");
    assert_eq!(said.len(), 2);
    assert!(
        said[0].contains("is TLS, and HTTP in the clear there"),
        "{said:?}"
    );
}

#[test]
fn ist0145_two_numbers_are_not_bound_to_one_port() {
    let two = server(
        "port: {number: 8443, name: x, protocol: HTTPS}",
        "'*'",
        "mode: ISTIO_MUTUAL",
    );
    let text = gateway("one", &(server(HTTPS, "'*'", "mode: ISTIO_MUTUAL") + &two));
    let lab = lab(&[&text]).options(|options| {
        options.gateway_ports.insert(443, 8443);
    });
    assert_eq!(listeners(&lab), ["[::]:8443 443"]);
    assert_eq!(said(&lab, "IST0145").len(), 1);
}

#[test]
fn g11_the_service_of_the_gateway_says_where_a_port_is_bound() {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: edge}
spec:
  selector: {istio: edge}
  ports: [{port: 443, name: https, targetPort: 8443}, {port: 80, name: http, targetPort: web}]
---
apiVersion: v1
kind: Pod
metadata: {name: edge, labels: {istio: edge}}
spec: {containers: [{name: a, ports: [{name: web, containerPort: 8080}]}]}
";
    let more = server("port: {number: 9000, name: x, protocol: HTTP}", "'*'", "");
    let servers = server(HTTPS, "'*'", "mode: ISTIO_MUTUAL") + &server(HTTP, "'*'", "") + &more;
    let lab = lab(&[service, &gateway("edge", &servers)]);
    assert_eq!(
        listeners(&lab),
        ["[::]:8080 80", "[::]:8443 443", "[::]:9000 9000"]
    );
    let said = said(&lab, "IST0162");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("port 9000 is none of the ports of the gateway's Service default/edge")
    );
    let everywhere = server(HTTP, "'*'", "").replace("hosts:", "bind: 0.0.0.0, hosts:");
    let lab_of = |text: &str| super::lab(&[text]);
    assert_eq!(
        listeners(&lab_of(&gateway("edge", &everywhere))),
        ["[::]:80 80"]
    );
    let bound = lab.options(|options| options.gateway_bind = Some([127, 0, 0, 2].into()));
    assert_eq!(listeners(&bound)[0], "127.0.0.2:8080 80");
}

#[test]
fn x13_a_gateway_that_no_document_selects_is_told_which_labels_they_want() {
    let text = gateway("edge", &server(HTTP, "'*'", ""));
    let words = |lab: Lab| lab.config().0.no_gateway;
    let other = lab(&[&text]).facts(|facts| {
        facts.labels.clear();
        facts.labels.insert("app".into(), "x".into());
    });
    assert_eq!(
        words(other).as_deref(),
        Some(
            "no Gateway selects this proxy by its labels (app=x): Gateway default/edge at t.yaml:2 \
             wants istio=edge; give --labels, or the Gateway's document"
        )
    );
    assert_eq!(words(lab(&[&text])), None);
    let sidecar = lab(&[]).facts(|facts| facts.role = Role::Sidecar);
    assert_eq!(words(sidecar), None);
}
