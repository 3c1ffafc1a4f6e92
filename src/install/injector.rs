//! The documents of the injector: `sortie webhook`, and what makes the API server ask it.
//!
//! Owns: whose pods the API server asks about (ISTIO.md I1), and what happens where nobody answers.
//! Never: decides what is set.
//! Called by: cli.
//!
//! Why two webhooks: the API server tells nothing of a namespace's labels, so that which of the two
//! asks is how the injector knows who wants the sidecar.

use serde_json::{Map, Value, json};

use super::injector_settings::{InjectorSettings, Issuer};
use super::parts::{self, STATUS};
use super::yaml;

/// Where the container listens.
const PORT: u16 = 8443;
/// Where its certificate is.
const FOLDER: &str = "/etc/sortie/webhook";
/// Seconds between the end of the drain and the kill.
const SPARE: u32 = 5;
const INJECT: &str = "sidecar.istio.io/inject";

/// Every document, as YAML.
///
/// # Errors
/// In words: the API server would trust nobody.
pub fn injector(namespace: &str, settings: &InjectorSettings) -> Result<String, Vec<String>> {
    let trusted = (settings.ca_bundle.is_some(), settings.issuer.is_some());
    let problem = match trusted {
        (false, false) => {
            "the API server must know who signed the injector's certificate: --set \
             certManager=selfSigned where cert-manager runs, or --set caBundle=@ca.pem for a \
             certificate of your own in the Secret"
        }
        (true, true) => "caBundle and certManager exclude each other: set one of them",
        _ => {
            let injector = Injector {
                namespace,
                settings,
            };
            return Ok(yaml::documents(&injector.documents()));
        }
    };
    Err(vec![problem.to_owned()])
}

struct Injector<'a> {
    namespace: &'a str,
    settings: &'a InjectorSettings,
}

impl Injector<'_> {
    fn documents(&self) -> Vec<Value> {
        let (workload, namespace) = (&self.settings.workload, self.namespace);
        let mut all = Vec::new();
        all.extend(parts::namespace(workload, namespace));
        all.push(parts::service_account(workload, namespace));
        all.push(self.config_map());
        all.extend(self.certificate());
        all.push(self.deployment());
        all.push(self.service());
        all.push(parts::disruption_budget(workload, namespace));
        if workload.network_policy {
            all.push(self.network_policy());
        }
        all.push(self.configuration());
        all
    }

    fn name(&self) -> &str {
        &self.settings.workload.name
    }

    fn metadata(&self) -> Value {
        parts::metadata(&self.settings.workload, self.namespace)
    }

    fn selector(&self) -> Value {
        parts::selector(&self.settings.workload)
    }

    fn config_map(&self) -> Value {
        let variables = self.settings.sidecar.iter();
        let data: Map<String, Value> = variables
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(),
            "#": "What is put into pods, where their annotations say nothing else.",
            "data": data,
        })
    }

    /// What cert-manager is to make.
    fn certificate(&self) -> Vec<Value> {
        let (name, namespace) = (self.name(), self.namespace);
        let (kind, issuer) = match &self.settings.issuer {
            None => return Vec::new(),
            Some(Issuer::SelfSigned) => ("Issuer", name),
            Some(Issuer::Named(kind, issuer)) => (*kind, issuer.as_str()),
        };
        let own = (self.settings.issuer == Some(Issuer::SelfSigned)).then(|| {
            json!({
                "apiVersion": "cert-manager.io/v1",
                "kind": "Issuer",
                "metadata": self.metadata(),
                "spec": {"selfSigned": {}},
            })
        });
        let certificate = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": self.metadata(),
            "#": "The injector takes a renewed certificate without a restart.",
            "spec": {
                "secretName": self.settings.secret,
                "dnsNames": [
                    format!("{name}.{namespace}.svc"),
                    format!("{name}.{namespace}.svc.cluster.local"),
                ],
                "duration": "2160h0m0s",
                "renewBefore": "720h0m0s",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "usages": ["digital signature", "server auth"],
                "issuerRef": {"group": "cert-manager.io", "kind": kind, "name": issuer},
            },
        });
        own.into_iter().chain([certificate]).collect()
    }

    fn deployment(&self) -> Value {
        let (settings, workload) = (self.settings, &self.settings.workload);
        let mut labels = parts::labels(workload);
        if let Value::Object(labels) = &mut labels {
            labels.insert(INJECT.to_owned(), json!("false"));
        }
        let annotations = parts::annotations(workload, "/metrics");
        let mut spec = parts::pod(workload);
        let grace = settings.pre_stop + settings.drain_timeout + SPARE;
        spec.insert("terminationGracePeriodSeconds".to_owned(), json!(grace));
        spec.insert("containers".to_owned(), json!([self.container()]));
        let volume = parts::secret("certificate", &settings.secret, None, false);
        spec.insert("volumes".to_owned(), json!([volume]));
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(),
            "spec": {
                "replicas": workload.replicas,
                "selector": {"matchLabels": self.selector()},
                "strategy": {
                    "type": "RollingUpdate",
                    "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
                },
                "template": {
                    "metadata": {"labels": labels, "annotations": annotations},
                    "spec": spec,
                },
            },
        })
    }

    fn container(&self) -> Value {
        let (settings, workload) = (self.settings, &self.settings.workload);
        let mut container = Map::new();
        let mut put = |key: &str, value: Value| container.insert(key.to_owned(), value);
        put("name", json!("sortie"));
        put("image", json!(workload.image));
        put("imagePullPolicy", json!(workload.pull_policy));
        put(
            "args",
            json!([
                "webhook",
                format!("--listen=[::]:{PORT}"),
                format!("--cert={FOLDER}/tls.crt"),
                format!("--key={FOLDER}/tls.key"),
                format!("--status=[::]:{STATUS}"),
                format!("--drain-timeout={}", settings.drain_timeout),
                format!("--log-level={}", workload.log_level),
                format!("--log-format={}", workload.log_format),
            ]),
        );
        put("envFrom", json!([{"configMapRef": {"name": self.name()}}]));
        if !workload.env.is_empty() {
            let variable = |(name, value): &(String, String)| json!({"name": name, "value": value});
            put("env", workload.env.iter().map(variable).collect());
        }
        put(
            "ports",
            json!([
                {"name": "https", "containerPort": PORT, "protocol": "TCP"},
                {"name": "status", "containerPort": STATUS, "protocol": "TCP"},
            ]),
        );
        put("resources", parts::resources(workload));
        put("securityContext", parts::container_security());
        parts::probes(&mut container);
        if settings.pre_stop > 0 {
            let sleep = json!({"preStop": {"sleep": {"seconds": settings.pre_stop}}});
            container.insert("lifecycle".to_owned(), sleep);
        }
        let mounts = json!([parts::mount("certificate", FOLDER)]);
        container.insert("volumeMounts".to_owned(), mounts);
        Value::Object(container)
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(),
            "spec": {
                "type": "ClusterIP",
                "selector": self.selector(),
                "ports": [
                    {"name": "https", "port": 443, "targetPort": "https", "protocol": "TCP"},
                ],
            },
        })
    }

    fn network_policy(&self) -> Value {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(),
            "spec": {
                "podSelector": {"matchLabels": self.selector()},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "#": "The API server is no pod, and has an address of its own in each cluster.",
                    "ports": [
                        {"port": PORT, "protocol": "TCP"},
                        {"port": STATUS, "protocol": "TCP"},
                    ],
                }],
                "#": "It calls nobody.",
                "egress": [],
            },
        })
    }

    fn configuration(&self) -> Value {
        let mut metadata = json!({
            "name": format!("{}-{}", self.name(), self.namespace),
            "labels": parts::labels(&self.settings.workload),
        });
        if let (Value::Object(metadata), Some(_)) = (&mut metadata, &self.settings.issuer) {
            let certificate = format!("{}/{}", self.namespace, self.name());
            let annotation = json!({"cert-manager.io/inject-ca-from": certificate});
            metadata.insert("annotations".to_owned(), annotation);
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": metadata,
            "webhooks": [
                self.webhook(
                    "Pods of namespaces that ask, unless they say no themselves.",
                    "namespaces.injector.sortie.io",
                    "/mutate/namespace",
                    self.asking(),
                    json!({"key": INJECT, "operator": "NotIn", "values": ["false"]}),
                ),
                self.webhook(
                    "Pods that ask, wherever their namespace says nothing.",
                    "pods.injector.sortie.io",
                    "/mutate",
                    json!({
                        "key": "istio-injection",
                        "operator": "NotIn",
                        "values": ["enabled", "disabled"],
                    }),
                    json!({"key": INJECT, "operator": "In", "values": ["true"]}),
                ),
            ],
        })
    }

    /// The label of a namespace that asks.
    fn asking(&self) -> Value {
        match &self.settings.revision {
            Some(revision) => {
                json!({"key": "istio.io/rev", "operator": "In", "values": [revision]})
            }
            None => json!({"key": "istio-injection", "operator": "In", "values": ["enabled"]}),
        }
    }

    fn webhook(&self, why: &str, name: &str, path: &str, namespaces: Value, pods: Value) -> Value {
        let settings = self.settings;
        let mut never = settings.exclude.clone();
        never.push(self.namespace.to_owned());
        let mut client = json!({
            "service": {
                "name": self.name(),
                "namespace": self.namespace,
                "path": path,
                "port": 443,
            },
        });
        if let (Value::Object(client), Some(bundle)) = (&mut client, &settings.ca_bundle) {
            client.insert("caBundle".to_owned(), json!(bundle));
        }
        json!({
            "#": why,
            "name": name,
            "admissionReviewVersions": ["v1"],
            "clientConfig": client,
            "rules": [{
                "operations": ["CREATE"],
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "resources": ["pods"],
                "scope": "Namespaced",
            }],
            "namespaceSelector": {"matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": never},
                namespaces,
            ]},
            "objectSelector": {"matchExpressions": [pods]},
            "matchConditions": [{
                "#": "The node's own network is not the pod's to capture.",
                "name": "no-host-network",
                "expression": "!has(object.spec.hostNetwork) || !object.spec.hostNetwork",
            }],
            "matchPolicy": "Equivalent",
            "#policy": "Of the pods above none starts without its sidecar: what it takes for \
                        mutual TLS would leave in plaintext.",
            "failurePolicy": settings.failure_policy,
            "reinvocationPolicy": "IfNeeded",
            "sideEffects": "None",
            "timeoutSeconds": settings.timeout,
        })
    }
}
