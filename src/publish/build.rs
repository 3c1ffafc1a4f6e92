//! Config and credentials in, a snapshot out, or every reason why not.
//!
//! Owns: which upstreams are kept as they are and which are made anew.
//! Never: swaps anything, or falls back: an upstream whose credential is missing is there and says
//! so (ISTIO.md T17).
//! Called by: `publish::reload`, cli (`check`, `routes`).
//!
//! Why upstreams are reused: an untouched one keeps its warm connections and TLS tickets; a changed
//! one is a new object, so that nothing outlives the identity it was made under.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::entrances;
use crate::certs::Credentials;
use crate::model::{Config, OnExpired, TlsPolicy, UpstreamSpec};
use crate::route::{RouteError, RouteTable, StreamTable};
use crate::snapshot::Snapshot;
use crate::tls::ClientTls;
use crate::upstream::{Upstream, UpstreamContext, UpstreamTls};

/// Builds version `version`, with what is unchanged taken from `previous`.
///
/// # Errors
/// Every rule that cannot be compiled.
pub fn build(
    config: &Config,
    credentials: &Credentials,
    previous: Option<&Snapshot>,
    context: &UpstreamContext,
    version: u64,
) -> Result<Snapshot, Vec<RouteError>> {
    let on_expired = config.rotation.on_expired;
    let same_rules = previous.is_none_or(|previous| previous.on_expired == on_expired);
    let upstreams: BTreeMap<Arc<str>, Arc<Upstream>> = config
        .upstreams
        .iter()
        .map(|spec| {
            let tls = tls_of(spec, credentials);
            let spec = &without_documents(spec);
            let old = previous.and_then(|previous| previous.upstreams.get(&spec.name));
            let upstream = match old {
                Some(old) if same_rules && is_same(old, spec, &tls) => Arc::clone(old),
                Some(old) => {
                    Upstream::replace(old, spec.clone(), tls.make(spec, on_expired), context)
                }
                None => Upstream::new(spec.clone(), tls.make(spec, on_expired), context),
            };
            (Arc::clone(&spec.name), upstream)
        })
        .collect();
    let by_name: HashMap<Arc<str>, Arc<Upstream>> = upstreams
        .iter()
        .map(|(name, upstream)| (Arc::clone(name), Arc::clone(upstream)))
        .collect();
    let entrances = entrances::build(
        &config.entrances,
        &entrances::Ground {
            credentials,
            upstreams: &by_name,
            previous,
            on_expired,
        },
    );
    let streams = StreamTable::build(&config.streams, &by_name);
    let table = RouteTable::build(&config.hosts, &by_name);
    let (table, streams, entrances) = match (table, streams, entrances) {
        (Ok(table), Ok(streams), Ok(entrances)) => (table, streams, entrances),
        (table, streams, entrances) => {
            let mut errors = table.err().unwrap_or_default();
            errors.extend(streams.err().into_iter().flatten());
            errors.extend(entrances.err().into_iter().flatten());
            return Err(errors);
        }
    };
    context.metrics.describe_source(&config.facts);
    Ok(Snapshot {
        version,
        table,
        streams,
        entrances,
        upstreams,
        unknown_hosts: config.unknown_hosts,
        unknown_captured: config.unknown_captured,
        limits: config.limits.clone(),
        on_expired,
        max_connection_age: config.rotation.max_connection_age,
    })
}

/// The hot half never holds the content of a Secret, and another content is another generation of
/// the credential (ISTIO.md R13, R19): the rest of the upstream is the same.
fn without_documents(spec: &UpstreamSpec) -> UpstreamSpec {
    let mut spec = spec.clone();
    if let TlsPolicy::Tls(tls) = &mut spec.tls {
        tls.credential = tls.credential.without_documents();
    }
    spec
}

/// What an upstream's TLS will be made of.
enum Material {
    Plain,
    Tls(Arc<crate::tls::Credential>),
    Missing(String),
}

fn tls_of(spec: &UpstreamSpec, credentials: &Credentials) -> Material {
    let TlsPolicy::Tls(tls) = &spec.tls else {
        return Material::Plain;
    };
    let state = credentials.find(&tls.credential);
    match state {
        Some(state) => match (&state.current, &state.problem) {
            (Some(credential), _) => Material::Tls(Arc::clone(credential)),
            (None, Some(problem)) => Material::Missing(problem.to_string()),
            (None, None) => Material::Missing("its credential has not been loaded".to_owned()),
        },
        None => Material::Missing("its credential is not in the store".to_owned()),
    }
}

impl Material {
    fn make(self, spec: &UpstreamSpec, on_expired: OnExpired) -> UpstreamTls {
        match (self, &spec.tls) {
            (Material::Plain, TlsPolicy::Disable) => UpstreamTls::Plain,
            (Material::Tls(credential), TlsPolicy::Tls(tls)) => {
                match ClientTls::new(tls, spec.http, credential, on_expired) {
                    Ok(client) => UpstreamTls::Tls(Arc::new(client)),
                    Err(error) => UpstreamTls::Unavailable(error.to_string()),
                }
            }
            (Material::Missing(reason), _) => UpstreamTls::Unavailable(reason),
            // Not reached: the material is made from this very policy. Fail closed all the same.
            (Material::Plain, TlsPolicy::Tls(_)) | (Material::Tls(_), TlsPolicy::Disable) => {
                UpstreamTls::Unavailable("its TLS policy and its credential disagree".to_owned())
            }
        }
    }
}

/// True where nothing that matters on the wire is different. Where it was written does not.
fn is_same(old: &Upstream, spec: &UpstreamSpec, tls: &Material) -> bool {
    let moved = UpstreamSpec {
        place: old.spec().place.clone(),
        ..spec.clone()
    };
    if *old.spec() != moved {
        return false;
    }
    match (old.tls(), tls) {
        (UpstreamTls::Plain, Material::Plain) => true,
        (UpstreamTls::Tls(client), Material::Tls(credential)) => {
            client.credential().generation == credential.generation
        }
        (UpstreamTls::Unavailable(old), Material::Missing(new)) => old == new,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EndpointSpec, Host, Place};
    use crate::telemetry::Metrics;
    use crate::upstream::{OwnAddrs, Resolver};

    fn context() -> UpstreamContext {
        UpstreamContext {
            workers: 1,
            resolver: Resolver::system(tokio::runtime::Handle::current()),
            own: OwnAddrs::new(),
            metrics: Metrics::new(1),
        }
    }

    fn config(port: u16, line: u32) -> Config {
        let mut spec = UpstreamSpec::new("bank");
        spec.endpoints
            .push(EndpointSpec::new(Host::parse("127.0.0.1").unwrap(), port));
        spec.place = Place {
            file: "a.yaml".into(),
            line,
        };
        Config {
            upstreams: vec![spec],
            ..Config::default()
        }
    }

    fn built(config: &Config, previous: Option<&Snapshot>) -> Snapshot {
        let version = previous.map_or(1, |previous| previous.version + 1);
        build(
            config,
            &Credentials::default(),
            previous,
            &context(),
            version,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn an_upstream_that_only_moved_in_its_file_is_kept() {
        let first = built(&config(443, 3), None);
        let second = built(&config(443, 30), Some(&first));
        assert!(Arc::ptr_eq(
            &first.upstreams["bank"],
            &second.upstreams["bank"]
        ));
    }

    #[tokio::test]
    async fn an_upstream_that_changed_is_made_anew() {
        let first = built(&config(443, 3), None);
        let second = built(&config(8443, 3), Some(&first));
        assert!(!Arc::ptr_eq(
            &first.upstreams["bank"],
            &second.upstreams["bank"]
        ));
    }

    /// An upstream whose pair and CA come from a Secret document with these keys.
    fn of_secret(keys: &[(&str, &str)]) -> Config {
        use crate::certs::testing::data;
        use crate::model::{CaSource, CredentialSpec, IdentitySource, SecretRef, TlsSpec};
        let secret = SecretRef {
            resource: "kubernetes://bank".into(),
            namespace: "shop".into(),
            name: "bank".into(),
            document: Some(Arc::new(data(keys))),
            ca_document: None,
            folders: [].into(),
        };
        let mut config = config(443, 3);
        config.upstreams[0].tls = TlsPolicy::Tls(Box::new(TlsSpec::new(CredentialSpec {
            identity: Some(IdentitySource::Secret(secret.clone())),
            ca: CaSource::Secret(secret),
            crl: None,
        })));
        config
    }

    #[tokio::test]
    async fn r13_a_secret_document_with_the_same_pair_keeps_the_upstream_and_another_replaces_it() {
        use crate::certs::testing::{Ca, Leaf, NOW, at};
        let ca = Ca::new("ca");
        let pair = || ca.leaf(Leaf::default());
        let (one, two) = (pair(), pair());
        let mut store = crate::certs::CertStore::new(Metrics::new(1));
        let mut step = |keys: &[(&str, &str)], previous: Option<&Snapshot>| {
            let config = of_secret(keys);
            store.set(config.credentials());
            store.check(at(NOW));
            build(&config, &store.current(), previous, &context(), 1).unwrap()
        };
        let first = step(
            &[("cert", &one.cert), ("key", &one.key), ("cacert", &ca.pem)],
            None,
        );
        let bank = &first.upstreams["bank"];
        assert!(matches!(bank.tls(), UpstreamTls::Tls(_)));
        // The hot half holds no document (R19).
        let TlsPolicy::Tls(tls) = &bank.spec().tls else {
            panic!("it speaks TLS")
        };
        assert!(
            tls.credential
                .secrets()
                .all(|secret| secret.document.is_none())
        );
        let same = step(
            &[
                ("tls.crt", &one.cert),
                ("tls.key", &one.key),
                ("ca.crt", &ca.pem),
                ("x", "y"),
            ],
            Some(&first),
        );
        assert!(Arc::ptr_eq(bank, &same.upstreams["bank"]));
        let other = step(
            &[("cert", &two.cert), ("key", &two.key), ("cacert", &ca.pem)],
            Some(&first),
        );
        assert!(!Arc::ptr_eq(bank, &other.upstreams["bank"]));
    }

    #[tokio::test]
    async fn t17_an_upstream_without_its_credential_is_there_and_fails_closed() {
        let mut config = config(443, 3);
        let yaml = "upstreams: [{name: bank, endpoints: [127.0.0.1:443], tls: {mode: simple}}]";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, yaml).unwrap();
        config.upstreams = crate::config::load(&[file], &crate::config::LoadOptions::default())
            .unwrap()
            .config
            .upstreams;
        let snapshot = built(&config, None);
        assert!(matches!(
            snapshot.upstreams["bank"].tls(),
            UpstreamTls::Unavailable(_)
        ));
    }
}
