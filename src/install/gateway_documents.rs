//! The documents of a gateway.
//!
//! Owns: Deployment, Service and what goes with them.
//! Never: decides what is set.
//! Called by: gateway.

use serde_json::{Map, Value, json};

use super::gateway::{CONFIG, CREDENTIALS, ConfigFile, IDENTITY};
use super::gateway_settings::{Clients, GatewaySettings, Workload};
use super::parts::{self, STATUS, field, mount, secret};
use super::ports::{Opened, Port};

/// Seconds between the end of the drain and the kill.
const SPARE: u32 = 5;
/// What the files of an identity are called there and here.
const TLS_KEYS: [(&str, &str); 3] = [
    ("tls.crt", "cert-chain.pem"),
    ("tls.key", "key.pem"),
    ("ca.crt", "root-cert.pem"),
];

/// All that the documents are made of.
pub struct Gateway<'a> {
    pub namespace: &'a str,
    pub settings: &'a GatewaySettings,
    pub files: &'a [ConfigFile],
    pub ports: &'a [Port],
    /// Secrets for `credentialName`.
    pub credentials: &'a [String],
}

impl Gateway<'_> {
    /// In the order in which they are to be applied.
    pub fn documents(&self) -> Vec<Value> {
        let (workload, namespace) = (self.workload(), self.namespace);
        let mut all = Vec::new();
        all.extend(parts::namespace(workload, namespace));
        all.push(parts::service_account(workload, namespace));
        if self.settings.config.is_none() {
            all.push(self.config_map());
        }
        all.push(self.deployment());
        all.push(self.service());
        all.push(parts::disruption_budget(workload, namespace));
        if self.settings.autoscaling {
            all.push(self.autoscaler());
        }
        if workload.network_policy {
            all.push(self.network_policy());
        }
        all
    }

    fn workload(&self) -> &Workload {
        &self.settings.workload
    }

    fn metadata(&self) -> Value {
        parts::metadata(self.workload(), self.namespace)
    }

    fn selector(&self) -> Value {
        parts::selector(self.workload())
    }

    fn config_name(&self) -> &str {
        let given = self.settings.config.as_deref();
        given.unwrap_or(&self.workload().name)
    }

    fn config_map(&self) -> Value {
        let data: Map<String, Value> = self
            .files
            .iter()
            .map(|file| (file.name.clone(), json!(file.text)))
            .collect();
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": self.metadata(),
            "#": "Changes are taken without a restart, once they have reached the pod.",
            "data": data,
        })
    }

    fn deployment(&self) -> Value {
        let workload = self.workload();
        let mut spec = Map::new();
        if !self.settings.autoscaling {
            spec.insert("replicas".to_owned(), json!(workload.replicas));
        }
        spec.insert(
            "selector".to_owned(),
            json!({"matchLabels": self.selector()}),
        );
        let strategy = json!({
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        });
        spec.insert("strategy".to_owned(), strategy);
        spec.insert("template".to_owned(), self.pod());
        json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": self.metadata(),
            "spec": spec,
        })
    }

    fn pod(&self) -> Value {
        let workload = self.workload();
        let mut labels = parts::labels(workload);
        if let Value::Object(labels) = &mut labels {
            let why = "Gateway documents select the pods by this one.";
            labels.insert("#".to_owned(), json!(why));
            labels.insert("istio".to_owned(), json!(self.settings.istio));
            labels.insert("sidecar.istio.io/inject".to_owned(), json!("false"));
            for (key, value) in &self.settings.labels {
                labels.insert(key.clone(), json!(value));
            }
        }
        let annotations = parts::annotations(workload, "/stats/prometheus");
        let mut spec = parts::pod(workload);
        let (before, drain) = (self.settings.pre_stop, self.settings.drain_timeout);
        let mut put = |key: &str, value: Value| spec.insert(key.to_owned(), value);
        put(
            "#grace",
            json!(format!(
                "{before} s until nobody calls any more, {drain} s for what is under way, \
                 {SPARE} s to end."
            )),
        );
        put(
            "terminationGracePeriodSeconds",
            json!(before + drain + SPARE),
        );
        put("containers", json!([self.container()]));
        put("volumes", self.volumes());
        json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": spec})
    }

    fn container(&self) -> Value {
        let workload = self.workload();
        let mut container = Map::new();
        let mut put = |key: &str, value: Value| container.insert(key.to_owned(), value);
        put("name", json!("sortie"));
        put("image", json!(workload.image));
        put("imagePullPolicy", json!(workload.pull_policy));
        put("args", json!(self.arguments()));
        put("env", self.environment());
        put("ports", self.container_ports());
        put("resources", parts::resources(workload));
        put("securityContext", parts::container_security());
        parts::probes(&mut container);
        if self.settings.pre_stop > 0 {
            let sleep = json!({
                "preStop": {
                    "#": "Endpoints are taken out of Services while this lasts; new connections \
                          are served until then.",
                    "sleep": {"seconds": self.settings.pre_stop},
                },
            });
            container.insert("lifecycle".to_owned(), sleep);
        }
        container.insert("volumeMounts".to_owned(), self.mounts());
        Value::Object(container)
    }

    fn arguments(&self) -> Vec<String> {
        let settings = self.settings;
        let mut all = vec![
            "run".to_owned(),
            "--role=gateway".to_owned(),
            format!("--config={CONFIG}"),
            "--labels-file=/etc/sortie/pod/labels".to_owned(),
        ];
        for port in self.ports {
            let Port { number, target, .. } = port;
            match port.opened {
                Opened::Gateway if number != target => {
                    all.push(format!("--gateway-port={number}={target}"));
                }
                Opened::Listen => all.push(format!("--listen=[::]:{target}")),
                Opened::Gateway | Opened::Native => {}
            }
        }
        if !self.credentials.is_empty() {
            all.push(format!("--credentials={CREDENTIALS}"));
        }
        if settings.identity.is_some() {
            all.push(format!("--identity={IDENTITY}"));
        }
        if let Some(domain) = &settings.trust_domain {
            all.push(format!("--trust-domain={domain}"));
        }
        all.push(format!("--status=[::]:{STATUS}"));
        all.push("--admin=127.0.0.1:15000".to_owned());
        all.push(format!("--drain-timeout={}", settings.drain_timeout));
        if settings.access_log {
            all.push("--access-log=-".to_owned());
        }
        all.push(format!("--log-level={}", settings.workload.log_level));
        all.push(format!("--log-format={}", settings.workload.log_format));
        all
    }

    fn environment(&self) -> Value {
        let mut all = vec![
            field("SORTIE_NAMESPACE", "metadata.namespace"),
            field("SORTIE_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        ];
        for (name, value) in &self.workload().env {
            all.push(json!({"name": name, "value": value}));
        }
        Value::Array(all)
    }

    fn container_ports(&self) -> Value {
        let port = |name: &str, number: u16| {
            json!({
                "name": name,
                "containerPort": number,
                "protocol": "TCP",
            })
        };
        let served = self.ports.iter().map(|one| port(&one.name, one.target));
        served.chain([port("status", STATUS)]).collect()
    }

    fn volumes(&self) -> Value {
        let settings = self.settings;
        let reference = |path: &str| {
            let field = format!("metadata.{path}");
            json!({"path": path, "fieldRef": {"fieldPath": field}})
        };
        let podinfo = json!({"items": [reference("labels"), reference("annotations")]});
        let mut all = vec![
            json!({"name": "config", "configMap": {"name": self.config_name()}}),
            json!({"name": "podinfo", "downwardAPI": podinfo}),
        ];
        if let Some(name) = &settings.identity {
            let item = |(key, path): (&str, &str)| json!({"key": key, "path": path});
            let items = (settings.identity_format == "tls")
                .then(|| TLS_KEYS.map(item).into_iter().collect());
            all.push(secret("identity", name, items, false));
        }
        for (nth, name) in self.credentials.iter().enumerate() {
            all.push(secret(&format!("credential-{nth}"), name, None, true));
        }
        for (nth, (name, _)) in settings.mounts.iter().enumerate() {
            all.push(secret(&format!("mount-{nth}"), name, None, false));
        }
        Value::Array(all)
    }

    fn mounts(&self) -> Value {
        let mut all = vec![mount("config", CONFIG), mount("podinfo", "/etc/sortie/pod")];
        if self.settings.identity.is_some() {
            all.push(mount("identity", IDENTITY));
        }
        for (nth, name) in self.credentials.iter().enumerate() {
            all.push(mount(
                &format!("credential-{nth}"),
                &format!("{CREDENTIALS}/{name}"),
            ));
        }
        for (nth, (_, path)) in self.settings.mounts.iter().enumerate() {
            all.push(mount(&format!("mount-{nth}"), path));
        }
        Value::Array(all)
    }

    fn service(&self) -> Value {
        let settings = self.settings;
        let port = |port: &Port| {
            json!({
                "name": port.name,
                "port": port.number,
                "targetPort": port.name,
                "protocol": "TCP",
            })
        };
        let mut metadata = self.metadata();
        if let (Value::Object(metadata), false) =
            (&mut metadata, settings.service_annotations.is_empty())
        {
            metadata.insert(
                "annotations".to_owned(),
                json!(settings.service_annotations),
            );
        }
        let mut spec = Map::new();
        spec.insert("type".to_owned(), json!(settings.service_type));
        if settings.service_type != "ClusterIP" {
            spec.insert(
                "externalTrafficPolicy".to_owned(),
                json!(settings.traffic_policy),
            );
        }
        spec.insert("selector".to_owned(), self.selector());
        spec.insert("ports".to_owned(), self.ports.iter().map(port).collect());
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    }

    fn autoscaler(&self) -> Value {
        let (settings, workload) = (self.settings, self.workload());
        json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": self.metadata(),
            "spec": {
                "scaleTargetRef": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": workload.name,
                },
                "minReplicas": workload.replicas,
                "maxReplicas": settings.max_replicas.max(workload.replicas),
                "metrics": [{
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {
                            "type": "Utilization",
                            "averageUtilization": settings.cpu_target,
                        },
                    },
                }],
            },
        })
    }

    fn network_policy(&self) -> Value {
        let port = |port: &Port| json!({"port": port.target, "protocol": "TCP"});
        let ports: Value = self.ports.iter().map(port).collect();
        let calls = match self.clients() {
            Some(from) => json!({"from": from, "ports": ports}),
            None => json!({ "ports": ports }),
        };
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": self.metadata(),
            "spec": {
                "podSelector": {"matchLabels": self.selector()},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    calls,
                    {
                        "#": "Probes and metrics; nothing on this port changes anything.",
                        "ports": [{"port": STATUS, "protocol": "TCP"}],
                    },
                ],
                "egress": self.egress(),
            },
        })
    }

    /// `None`: anybody.
    fn clients(&self) -> Option<Value> {
        let pods = |selector: Value| Some(json!([{ "namespaceSelector": selector }]));
        match &self.settings.clients {
            Clients::Any => None,
            Clients::Auto if self.settings.service_type != "ClusterIP" => None,
            Clients::Cluster => pods(json!({})),
            Clients::Auto | Clients::Namespace => Some(json!([{"podSelector": {}}])),
            Clients::Labelled(labels) => pods(json!({ "matchLabels": labels })),
        }
    }

    fn egress(&self) -> Value {
        let settings = self.settings;
        let block = |net: &ipnet::IpNet| {
            let inside = settings
                .egress_except
                .iter()
                .filter(|one| net.contains(*one));
            let except: Vec<String> = inside.map(ToString::to_string).collect();
            match except.is_empty() {
                true => json!({"ipBlock": {"cidr": net.to_string()}}),
                false => json!({"ipBlock": {"cidr": net.to_string(), "except": except}}),
            }
        };
        let mut rules = vec![json!({
            "#": "DNS, wherever the cluster has it.",
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
        })];
        if !settings.egress.is_empty() {
            // Some networks take no pod for part of any block.
            let any = settings.egress.iter().any(|net| net.prefix_len() == 0);
            let pods = any.then(|| json!({"namespaceSelector": {}}));
            let to: Value = settings.egress.iter().map(block).chain(pods).collect();
            rules.push(json!({ "to": to }));
        }
        Value::Array(rules)
    }
}
