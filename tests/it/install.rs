//! `sortie install`: manifests that Kubernetes takes, and whose arguments sortie takes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{
    Authority, Mesh, PROGRAM, eventually, free_address, get, kubernetes_mistakes,
    kubernetes_validate, kubernetes_validate_for, program, yaml_documents,
};

/// An egress gateway of Istio's: mutual TLS on both sides.
const EGRESS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: egress}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [bank.example]
    tls: {mode: ISTIO_MUTUAL}
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: [bank.example]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bank}
spec:
  hosts: [bank.example]
  location: MESH_EXTERNAL
  resolution: DNS
  ports:
  - {number: 443, name: https, protocol: HTTPS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: bank}
spec:
  host: bank.example
  trafficPolicy:
    portLevelSettings:
    - port: {number: 443}
      tls:
        mode: MUTUAL
        credentialName: bank-credential
        sni: bank.example
        subjectAltNames: [bank.example]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bank}
spec:
  hosts: [bank.example]
  gateways: [egress]
  http:
  - route: [{destination: {host: bank.example, port: {number: 443}}}]
";

/// A configuration of sortie's own.
const NATIVE: &str = "\
listeners: [{address: \"0.0.0.0:8080\"}]
upstreams:
  - name: bank
    endpoints: [bank.example:443]
    tls: {mode: mutual, certificate: /etc/bank/tls.crt, key: /etc/bank/tls.key, ca: /etc/bank/ca.crt}
routes: [{host: bank.example, upstream: bank}]
";

struct Ground {
    folder: TempDir,
}

impl Ground {
    fn new(name: &str, text: &str) -> Ground {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        Ground { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `install gateway --config` this folder.
    fn gateway(&self, more: &[&str]) -> (i32, String, String) {
        let folder = self.path().display().to_string();
        program(&[&["install", "gateway", "--config", &folder], more].concat())
    }

    #[track_caller]
    fn printed(&self, more: &[&str]) -> String {
        let (code, out, err) = self.gateway(more);
        assert_eq!(code, 0, "{err}");
        out
    }

    #[track_caller]
    fn refused(&self, more: &[&str]) -> (i32, String) {
        let (code, out, err) = self.gateway(more);
        assert_eq!(out, "", "what is refused prints nothing");
        (code, err)
    }
}

/// The document of a kind.
#[track_caller]
fn of<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = documents.iter().filter(|one| one["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "documents of kind {kind}");
    found[0]
}

fn kinds(documents: &[Value]) -> Vec<&str> {
    documents
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect()
}

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one.as_str().unwrap())
        .collect()
}

const POD: &str = "/spec/template/spec";

#[test]
fn every_document_of_a_gateway_is_one_that_kubernetes_takes() {
    let ground = Ground::new("egress.yaml", EGRESS);
    let out = ground.printed(&[
        "--set",
        "identity=egress-identity",
        "--set",
        "createNamespace=true",
    ]);
    if !kubernetes_validate(&out) {
        return;
    }
    let documents = yaml_documents(&out).unwrap();
    assert_eq!(
        kinds(&documents),
        [
            "Namespace",
            "ServiceAccount",
            "ConfigMap",
            "Deployment",
            "Service",
            "PodDisruptionBudget",
            "HorizontalPodAutoscaler",
            "NetworkPolicy"
        ]
    );
}

#[test]
fn every_setting_leaves_documents_that_kubernetes_takes() {
    let ground = Ground::new("native.yaml", NATIVE);
    let sets = [
        "name=edge",
        "istio=ingressgateway",
        "labels=example.com/team=payments,tier=1",
        "image=registry.example:5000/sortie@sha256:0123",
        "image.pullPolicy=Always",
        "image.pullSecrets=registry,other",
        "ports=http:80:8080,admin-ui:8000",
        "listen=3128",
        "credentials=a,b-cacert",
        "identity=mesh",
        "identity.format=tls",
        "mounts=bank:/etc/bank,more:/etc/more",
        "replicas=3",
        "autoscaling.maxReplicas=20",
        "autoscaling.targetCPU=50",
        "maxUnavailable=2",
        "requests.cpu=0.5",
        "requests.memory=1Gi",
        "limits.cpu=2",
        "limits.memory=none",
        "drainTimeout=60",
        "preStop=10",
        "service.type=LoadBalancer",
        "service.annotations=cloud.example/internal=true,note=on",
        "service.externalTrafficPolicy=Local",
        "networkPolicy.clients=team=payments",
        "networkPolicy.egress=10.0.0.0/8,fd00::/8",
        "networkPolicy.egressExcept=10.1.0.0/16",
        "nodeSelector=kubernetes.io/arch=amd64,disk=true",
        "podAnnotations=note=1337,other=12:30",
        "priorityClass=system-cluster-critical",
        "runAsUser=2000",
        "accessLog=false",
        "logLevel=info,sortie::tls=debug",
        "logFormat=text",
        "trustDomain=td.example",
        "env=SORTIE_NAME_CHECK=enforce",
        "env=SORTIE_LABELS=a=b,c=d",
    ];
    let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    let out = ground.printed(&arguments);
    if !kubernetes_validate(&out) {
        return;
    }
    let documents = yaml_documents(&out).unwrap();
    let deployment = of(&documents, "Deployment");
    let pod = deployment.pointer(POD).unwrap();
    assert_eq!(pod["securityContext"]["runAsUser"], 2000);
    assert_eq!(pod["terminationGracePeriodSeconds"], 75);
    let annotations = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["other"], "12:30", "text stays text");
    assert_eq!(
        of(&documents, "Service")["spec"]["externalTrafficPolicy"],
        "Local"
    );
    let secret = &pod["volumes"][2]["secret"];
    assert_eq!(secret["items"][0]["path"], "cert-chain.pem");
    let policy = of(&documents, "NetworkPolicy");
    let to = &policy["spec"]["egress"][1]["to"];
    assert_eq!(to[0]["ipBlock"]["except"][0], "10.1.0.0/16");
    assert_eq!(
        to[1]["ipBlock"].get("except"),
        None,
        "it is not inside fd00::/8"
    );
}

#[test]
fn older_kubernetes_takes_it_without_the_sleep_before_the_end() {
    let ground = Ground::new("egress.yaml", EGRESS);
    let with = ground.printed(&[]);
    let Some(mistakes) = kubernetes_mistakes(&["1.28"], &with) else {
        return;
    };
    assert!(mistakes.contains("sleep"), "{mistakes}");
    let without = ground.printed(&["--set", "preStop=0"]);
    assert!(kubernetes_validate_for(&["1.25", "1.28"], &without));
}

#[test]
fn a_mistake_in_a_manifest_would_be_seen() {
    let out = Ground::new("egress.yaml", EGRESS).printed(&[]);
    let broken = out.replace("enableServiceLinks:", "enableServiceLink:");
    let Some(mistakes) = kubernetes_mistakes(&["1.37"], &broken) else {
        return;
    };
    assert!(mistakes.contains("enableServiceLink"), "{mistakes}");
    let twice = out.replace(
        "  type: ClusterIP\n",
        "  type: ClusterIP\n  type: NodePort\n",
    );
    assert!(
        yaml_documents(&twice).is_some(),
        "which Python lets pass by itself"
    );
}

#[test]
fn a_gateway_has_no_right_that_it_does_not_need() {
    let out = Ground::new("egress.yaml", EGRESS).printed(&[]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    assert!(
        !out.contains("kind: Role") && !out.contains("ClusterRole"),
        "it asks no API server"
    );
    assert_eq!(
        of(&documents, "ServiceAccount")["automountServiceAccountToken"],
        false
    );
    let pod = of(&documents, "Deployment").pointer(POD).unwrap();
    assert_eq!(pod["automountServiceAccountToken"], false);
    let security = &pod["securityContext"];
    assert_eq!(security["runAsUser"], 1337);
    assert_eq!(security["runAsNonRoot"], true);
    assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
    let security = &pod["containers"][0]["securityContext"];
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(
        security["capabilities"],
        serde_json::json!({"drop": ["ALL"]})
    );
}

#[test]
fn g11_ports_are_those_of_the_gateway_documents_and_bound_where_any_user_may() {
    let out = Ground::new("egress.yaml", EGRESS).printed(&["--set", "identity=egress"]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let ports = &of(&documents, "Service")["spec"]["ports"];
    let port = |nth: usize| {
        (
            ports[nth]["name"].as_str().unwrap(),
            ports[nth]["port"].as_u64().unwrap(),
        )
    };
    assert_eq!([port(0), port(1)], [("http-80", 80), ("https-443", 443)]);
    let container = &of(&documents, "Deployment").pointer(POD).unwrap()["containers"][0];
    assert_eq!(container["ports"][1]["containerPort"], 8443);
    let arguments = texts(&container["args"]);
    for expected in [
        "--gateway-port=80=8080",
        "--gateway-port=443=8443",
        "--role=gateway",
    ] {
        assert!(arguments.contains(&expected), "{arguments:?}");
    }
}

#[test]
fn s2_secrets_that_documents_name_are_mounted_and_may_come_later() {
    let out = Ground::new("egress.yaml", EGRESS).printed(&[]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let pod = of(&documents, "Deployment").pointer(POD).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let secrets: Vec<&Value> = volumes
        .iter()
        .filter(|one| one["secret"].is_object())
        .collect();
    assert_eq!(secrets.len(), 1);
    assert_eq!(secrets[0]["secret"]["secretName"], "bank-credential");
    assert_eq!(secrets[0]["secret"]["optional"], true);
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|one| one["name"] == secrets[0]["name"])
        .unwrap();
    assert_eq!(
        mount["mountPath"],
        "/etc/sortie/credentials/bank-credential"
    );
}

#[test]
fn the_configuration_arrives_byte_for_byte_whatever_is_in_it() {
    let odd =
        "# on: no\r\n#\ttab and ünïcode \u{1f512} and a very odd \u{2028} line\n#  trailing  \n";
    let text = format!("{NATIVE}{odd}\n\n");
    let ground = Ground::new("native.yaml", &text);
    std::fs::write(
        ground.path().join("z.json"),
        "{\n  \"unknownHosts\": \"refuse\"\n}",
    )
    .unwrap();
    let out = ground.printed(&["--set", "mounts=bank:/etc/bank"]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let data = &of(&documents, "ConfigMap")["data"];
    assert_eq!(data["native.yaml"], text.as_str());
    assert_eq!(data["z.json"], "{\n  \"unknownHosts\": \"refuse\"\n}");
}

#[test]
fn the_same_input_prints_the_same_manifests() {
    let ground = Ground::new("egress.yaml", EGRESS);
    assert_eq!(ground.printed(&[]), ground.printed(&[]));
    let file = ground.path().join("out.yml.txt").display().to_string();
    assert_eq!(ground.printed(&["--output", &file]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), ground.printed(&[]));
}

#[test]
fn a_configuration_with_mistakes_is_told_and_nothing_printed() {
    let ground = Ground::new(
        "egress.yaml",
        &EGRESS.replace("mode: MUTUAL", "mode: MUTUALL"),
    );
    let (code, err) = ground.refused(&[]);
    assert_eq!(code, 1);
    assert!(
        err.contains("egress.yaml:32") && err.contains("MUTUALL"),
        "{err}"
    );
}

#[test]
fn what_cannot_work_in_the_cluster_is_refused_in_words() {
    let key = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: bank-credential}\n\
               stringData: {cacert: x}\n";
    for (text, sets, expected) in [
        (EGRESS.to_owned() + key, "accessLog=true", "kind Secret"),
        (
            EGRESS.to_owned(),
            "istio=ingressgateway",
            "no port to serve",
        ),
        (
            EGRESS.to_owned(),
            "ports=a:443,b:444:8443",
            "both are container port 8443",
        ),
        (
            EGRESS.to_owned(),
            "listen=8080",
            "ports 80 (http-80) and 8080 (http-8080)",
        ),
        (EGRESS.to_owned(), "ports=a:15021", "the status port"),
        (
            format!("{EGRESS}# {}\n", "x".repeat(1 << 20)),
            "accessLog=true",
            "1048576",
        ),
    ] {
        let (code, err) = Ground::new("egress.yaml", &text).refused(&["--set", sets]);
        assert_eq!(code, 1, "{err}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_64() {
    let ground = Ground::new("egress.yaml", EGRESS);
    for (more, expected) in [
        (&["--set", "replica=3"][..], "did you mean replicas?"),
        (&["--set", "replicas=many"], "a whole number"),
        (&["--set", "config=other"], "in one way"),
        (&["--namespace", "A"], "a namespace"),
    ] {
        let (code, err) = ground.refused(more);
        assert_eq!(code, 64, "{err}");
        assert!(err.contains(expected), "{expected}: {err}");
    }
    assert_eq!(program(&["install", "gateway"]).0, 64, "it serves nothing");
}

#[test]
fn a_config_map_that_exists_is_mounted_and_its_ports_are_said() {
    let base = ["install", "gateway", "--set", "config=mesh"];
    let (code, _, err) = program(&base);
    assert_eq!(code, 1);
    assert!(err.contains("--set ports="), "{err}");
    let (code, out, err) = program(&[&base[..], &["--set", "ports=https:443"]].concat());
    assert_eq!(code, 0, "{err}");
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    assert!(!kinds(&documents).contains(&"ConfigMap"));
    let pod = of(&documents, "Deployment").pointer(POD).unwrap();
    assert_eq!(pod["volumes"][0]["configMap"]["name"], "mesh");
}

#[test]
fn every_key_is_listed_with_its_default_and_in_the_help() {
    let (code, out, _) = program(&["install", "gateway", "--set", "list"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("KEY "), "{out}");
    let (_, help, _) = program(&["install", "gateway", "--help"]);
    for key in ["drainTimeout", "networkPolicy.clients", "image.pullSecrets"] {
        assert!(out.contains(key) && help.contains(key), "{key}");
    }
}

#[test]
fn files_that_no_volume_brings_are_warned_of() {
    let ground = Ground::new("native.yaml", NATIVE);
    let (code, _, err) = ground.gateway(&[]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("/etc/bank/tls.key") && err.contains("mounts=SECRET:/etc/bank"),
        "{err}"
    );
    let (_, _, err) = ground.gateway(&["--set", "mounts=bank:/etc/bank"]);
    assert!(!err.contains("warning: nothing"), "{err}");
}

/// A container of a manifest, run here: its arguments and variables as they are, its mounts in a
/// folder, its ports somewhere else. It is killed when dropped.
struct Contained {
    child: Child,
    status: SocketAddr,
}

impl Contained {
    fn start(deployment: &Value, root: &Path, more: &BTreeMap<String, String>) -> Contained {
        let template = &deployment["spec"]["template"];
        let pod = &template["spec"];
        let container = &pod["containers"][0];
        let info = root.join("etc/sortie/pod");
        std::fs::create_dir_all(&info).unwrap();
        let labels = template["metadata"]["labels"].as_object().unwrap();
        let line = |(key, value): (&String, &Value)| format!("{key}={value}\n");
        std::fs::write(
            info.join("labels"),
            labels.iter().map(line).collect::<String>(),
        )
        .unwrap();
        let status = free_address();
        let here = |argument: &str| {
            let (head, tail) = argument.rsplit_once('=').unwrap_or(("", argument));
            let port = tail.rsplit(':').next().unwrap();
            let port = match (head, port) {
                (_, "15021") => status.port(),
                _ => free_address().port(),
            };
            match (head, tail.parse::<u16>().is_ok()) {
                ("--drain-timeout", _) => argument.to_owned(),
                (_, true) => format!("{head}={port}"),
                _ if tail.starts_with("[::]:") || tail.starts_with("127.0.0.1:") => {
                    format!("{head}=127.0.0.1:{port}")
                }
                _ => argument.replace("=/etc/", &format!("={}/etc/", root.display())),
            }
        };
        let mut command = Command::new(PROGRAM);
        command.args(texts(&container["args"]).into_iter().map(here));
        for variable in container["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.namespace") => deployment["metadata"]["namespace"].as_str(),
                Some("spec.serviceAccountName") => pod["serviceAccountName"].as_str(),
                _ => variable["value"].as_str(),
            };
            command.env(variable["name"].as_str().unwrap(), value.unwrap());
        }
        let quiet = command
            .envs(more)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Contained {
            child: quiet.spawn().unwrap(),
            status,
        }
    }

    /// Asks as the kubelet does, by the paths of the manifest.
    fn probed(&mut self, deployment: &Value) {
        let container = &deployment.pointer(POD).unwrap()["containers"][0];
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let path = container[probe]["httpGet"]["path"].as_str().unwrap();
            eventually(probe, || {
                let ended = self.child.try_wait().unwrap();
                assert!(ended.is_none(), "it ended: {ended:?}");
                std::net::TcpStream::connect(self.status).ok()?;
                (get(self.status, "localhost", path).status == 200).then_some(())
            });
        }
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_runs_with_what_the_manifest_of_a_gateway_gives_it() {
    let out = Ground::new("egress.yaml", EGRESS).printed(&["--set", "identity=egress"]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let at = |folder: &str| root.path().join("etc/sortie").join(folder);
    let mesh = Mesh::new();
    mesh.write(
        &at("identity"),
        &mesh.identity("sortie-system", "sortie-egressgateway"),
    );
    let bank = Authority::new("bank CA");
    let secret = at("credentials/bank-credential");
    std::fs::create_dir_all(&secret).unwrap();
    let client = bank.client("shop");
    for (key, value) in [
        ("tls.crt", &client.chain),
        ("tls.key", &client.key),
        ("ca.crt", &bank.pem),
    ] {
        std::fs::write(secret.join(key), value).unwrap();
    }
    std::fs::create_dir_all(at("config")).unwrap();
    for (name, text) in of(&documents, "ConfigMap")["data"].as_object().unwrap() {
        std::fs::write(at("config").join(name), text.as_str().unwrap()).unwrap();
    }
    let deployment = of(&documents, "Deployment");
    Contained::start(deployment, root.path(), &BTreeMap::new()).probed(deployment);
}

/// `install injector` with cert-manager.
fn injector(more: &[&str]) -> (i32, String, String) {
    program(
        &[
            &["install", "injector", "--set", "certManager=selfSigned"],
            more,
        ]
        .concat(),
    )
}

#[test]
fn every_document_of_an_injector_is_one_that_kubernetes_takes() {
    let sets = [
        "image=registry.example/sortie:1",
        "createNamespace=true",
        "failurePolicy=Ignore",
        "revision=canary",
        "excludeNamespaces=kube-system,ops",
        "limits.cpu=1",
        "podAnnotations=a=b",
        "sidecar.native=true",
        "sidecar.credentials=a,b",
        "sidecar.interception=NONE",
        "env=SORTIE_INJECT_KEEP_PROBES=true",
        "certManager=ClusterIssuer/ca",
    ];
    let sets: Vec<&str> = sets.iter().flat_map(|set| ["--set", *set]).collect();
    for more in [&[][..], &sets] {
        let (code, out, err) = injector(more);
        assert_eq!(code, 0, "{err}");
        if !kubernetes_validate(&out) {
            return;
        }
        let documents = yaml_documents(&out).unwrap();
        let hook = of(&documents, "MutatingWebhookConfiguration");
        let annotation = "cert-manager.io/inject-ca-from";
        let from = &hook["metadata"]["annotations"][annotation];
        assert_eq!(from, "sortie-system/sortie-injector");
        assert_eq!(
            of(&documents, "Certificate")["spec"]["secretName"],
            "sortie-injector-cert"
        );
    }
}

#[test]
fn i1_the_api_server_asks_about_pods_that_asked_and_no_others() {
    let (_, out, _) = injector(&[]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let hooks = of(&documents, "MutatingWebhookConfiguration")["webhooks"]
        .as_array()
        .unwrap();
    assert_eq!(hooks.len(), 2);
    for hook in hooks {
        let namespaces = hook["namespaceSelector"]["matchExpressions"][0].clone();
        assert_eq!(namespaces["operator"], "NotIn");
        let never = texts(&namespaces["values"]);
        for namespace in [
            "kube-system",
            "kube-public",
            "kube-node-lease",
            "sortie-system",
        ] {
            assert!(never.contains(&namespace), "{never:?}");
        }
        assert_eq!(hook["failurePolicy"], "Fail");
        assert_eq!(hook["sideEffects"], "None");
        assert_eq!(hook["reinvocationPolicy"], "IfNeeded");
        assert_eq!(
            hook["rules"][0]["operations"],
            serde_json::json!(["CREATE"])
        );
        let condition = hook["matchConditions"][0]["expression"].as_str().unwrap();
        assert!(condition.contains("hostNetwork"));
    }
    let pods = |nth: usize| &hooks[nth]["objectSelector"]["matchExpressions"][0];
    let namespaces = |nth: usize| &hooks[nth]["namespaceSelector"]["matchExpressions"][1];
    assert_eq!(namespaces(0)["values"], serde_json::json!(["enabled"]));
    assert_eq!(pods(0)["operator"], "NotIn", "a pod may say no");
    assert_eq!(
        namespaces(1)["operator"],
        "NotIn",
        "no pod is asked about twice"
    );
    assert_eq!(pods(1)["values"], serde_json::json!(["true"]));
}

#[test]
fn an_injector_that_nobody_could_trust_is_not_printed() {
    let (code, out, err) = program(&["install", "injector"]);
    assert_eq!((code, out.as_str()), (64, ""));
    assert!(
        err.contains("certManager") && err.contains("caBundle=@"),
        "{err}"
    );
    let (code, _, err) = injector(&["--set", "caBundle=@/nowhere/ca.pem"]);
    assert!(code == 64 && err.contains("/nowhere/ca.pem"), "{err}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, &Authority::new("CA").pem).unwrap();
    let bundle = format!("caBundle=@{}", file.display());
    let (code, _, err) = injector(&["--set", &bundle]);
    assert!(code == 64 && err.contains("exclude each other"), "{err}");
    let (code, out, err) = program(&["install", "injector", "--set", &bundle]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("caBundle: ") && !out.contains("cert-manager"),
        "{out}"
    );
    kubernetes_validate(&out);
}

#[test]
fn the_program_runs_with_what_the_manifest_of_an_injector_gives_it() {
    let (_, out, _) = injector(&["--set", "sidecar.native=true"]);
    let Some(documents) = yaml_documents(&out) else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/sortie/webhook");
    std::fs::create_dir_all(&folder).unwrap();
    let own = Authority::new("CA").server(&["sortie-injector.sortie-system.svc"]);
    std::fs::write(folder.join("tls.crt"), &own.chain).unwrap();
    std::fs::write(folder.join("tls.key"), &own.key).unwrap();
    let data = of(&documents, "ConfigMap")["data"].as_object().unwrap();
    let variable =
        |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap().to_owned());
    let variables = data.iter().map(variable).collect();
    let deployment = of(&documents, "Deployment");
    Contained::start(deployment, root.path(), &variables).probed(deployment);
}
