//! Documents as text to services and upstreams, for the tests of this floor.
//!
//! Owns: [`Lab`], [`Told`].
//! Never: part of the product.
//! Called by: tests.

use std::path::PathBuf;
use std::sync::Arc;

use super::clusters::{Clusters, Referrer, Wanted};
use super::registry::Registry;
use super::{analysis, traffic};
use crate::config::cursor::Source;
use crate::config::diagnostic::Diagnostics;
use crate::config::document::Document;
use crate::config::istio::{Manifests, read};
use crate::config::options::LoadOptions;
use crate::config::yaml;
use crate::model::{
    Config, EndpointSpec, MeshIdentity, Place, ProxyFacts, TlsPolicy, TlsSpec, UpstreamSpec,
};

/// Documents and who reads them.
pub struct Lab {
    text: String,
    options: LoadOptions,
}

/// One upstream, and everything that was said on the way to it.
pub struct Told {
    pub spec: UpstreamSpec,
    pub said: Vec<String>,
}

impl Lab {
    /// For a sidecar in namespace `default`.
    pub fn new(text: &str) -> Lab {
        Lab {
            text: text.to_owned(),
            options: LoadOptions::default(),
        }
    }

    pub fn options(mut self, change: impl FnOnce(&mut LoadOptions)) -> Lab {
        change(&mut self.options);
        self
    }

    pub fn facts(self, change: impl FnOnce(&mut ProxyFacts)) -> Lab {
        self.options(|options| change(Arc::make_mut(&mut options.facts)))
    }

    /// With more documents.
    pub fn more(mut self, text: &str) -> Lab {
        self.text.push_str(text);
        self
    }

    /// With a mesh identity in `/id`.
    pub fn identity(self) -> Lab {
        self.facts(|facts| {
            facts.identity = Some(MeshIdentity {
                certificate: PathBuf::from("/id/cert.pem"),
                key: PathBuf::from("/id/key.pem"),
                ca: PathBuf::from("/id/root.pem"),
            });
        })
    }

    /// The objects, before anything is made of them.
    pub fn read(&self) -> (Manifests, Diagnostics) {
        let parsed = yaml::parse(&self.text);
        assert_eq!(parsed.mistakes.len(), 0, "the test's YAML is broken");
        let (mut manifests, mut out) = (Manifests::default(), Diagnostics::new());
        for root in parsed.documents {
            let source = Source {
                file: "t.yaml".into(),
                folder: PathBuf::new(),
            };
            let document = Document {
                source,
                root,
                left: Vec::new(),
            };
            read(&document, &self.options, &mut manifests, &mut out);
        }
        traffic::refuse(&mut manifests, &self.options, &mut out);
        (manifests, out)
    }

    /// The registry, and everything that was said.
    pub fn registry(&self) -> (Registry, Vec<String>) {
        let (manifests, mut out) = self.read();
        let registry = Registry::build(&manifests, &self.options, &mut out);
        analysis::check(&manifests, &registry, &self.options, &mut out);
        (registry, lines(&out))
    }

    /// The configuration, and everything that was said.
    pub fn config(&self) -> (Config, Vec<String>) {
        let (mut manifests, mut out) = self.read();
        let mut config = Config::default();
        super::lower(&mut manifests, &self.options, &mut config, &mut out);
        (config, lines(&out))
    }

    /// The upstream that a VirtualService at line 99 of another file refers to.
    pub fn refer(&self, host: &str, port: u16, subset: &str) -> Told {
        let (manifests, mut out) = self.read();
        let registry = Registry::build(&manifests, &self.options, &mut out);
        analysis::check(&manifests, &registry, &self.options, &mut out);
        let mut clusters = Clusters::new(&manifests, &registry, &self.options);
        let referrer = Referrer {
            object: "VirtualService default/test".into(),
            place: Place {
                file: "vs.yaml".into(),
                line: 99,
            },
        };
        let wanted = Wanted { host, port, subset };
        let name = clusters.refer(wanted, &referrer, &mut out);
        clusters.carries_http(&name, &referrer, &mut out);
        let mut all = clusters.into_upstreams();
        Told {
            spec: all.find(|spec| spec.name == name).unwrap(),
            said: lines(&out),
        }
    }
}

fn lines(out: &Diagnostics) -> Vec<String> {
    out.iter().map(ToString::to_string).collect()
}

impl Told {
    /// Its TLS; it must have some.
    pub fn tls(&self) -> &TlsSpec {
        match &self.spec.tls {
            TlsPolicy::Tls(tls) => tls,
            TlsPolicy::Disable => panic!("{} is plaintext", self.spec.name),
        }
    }

    /// True where requests go out in plaintext.
    pub fn is_plaintext(&self) -> bool {
        self.spec.broken.is_none() && self.spec.tls == TlsPolicy::Disable
    }

    /// `host:port`, with `!` where it is spoken to in plaintext all the same.
    pub fn endpoints(&self) -> Vec<String> {
        let text = |one: &EndpointSpec| {
            let mark = if one.plaintext { "!" } else { "" };
            format!("{}:{}{mark}", one.host, one.port)
        };
        self.spec.endpoints.iter().map(text).collect()
    }

    /// Kind and reason of its failure.
    pub fn broken(&self) -> String {
        match &self.spec.broken {
            Some(broken) => format!("{:?}: {}", broken.kind, broken.reason),
            None => "not broken".to_owned(),
        }
    }

    /// What was said with this code.
    pub fn said(&self, code: &str) -> Vec<&str> {
        let wanted = format!("[{code}]");
        let all = self.said.iter().filter(|line| line.contains(&wanted));
        all.map(String::as_str).collect()
    }

    /// The decision named `what`, for `explain`.
    pub fn reason(&self, what: &str) -> String {
        let mut reasons = self.spec.reasons.0.iter();
        let found = reasons.find(|reason| reason.what == what).unwrap();
        let place = found.place.as_ref().map(|place| format!(" at {place}"));
        format!(
            "{} by {:?}{}",
            found.how,
            found.object,
            place.unwrap_or_default()
        )
    }
}
