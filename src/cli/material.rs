//! Whether a configuration could be served: its certificate files, and every rule compiled.
//!
//! Owns: turning what the rooms below say of files and rules into diagnostics.
//! Never: serves anything, or looks a name up.
//! Called by: `cli::check`.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::material_user::{User, at, users};
use crate::certs::{CertStore, CredentialProblem, Credentials, ProblemReason};
use crate::config::{Code, Diagnostic, Diagnostics, Severity};
use crate::model::{
    CaSource, Config, CredentialSpec, IdentitySource, OnExpired, SecretRef, TlsPolicy,
};
use crate::publish;
use crate::snapshot::ServerSide;
use crate::telemetry::{Metrics, rfc3339_seconds};
use crate::tls::{CertFacts, Credential};
use crate::upstream::{OwnAddrs, Resolver, UpstreamContext, UpstreamTls};

const DAY: i64 = 24 * 3600;

/// What is wrong with the files that `config` names and, where the documents are free of mistakes
/// (`whole`), with its rules. Each file and each credential is spoken of once.
pub fn check(config: &Config, whole: bool) -> Diagnostics {
    let mut out = Diagnostics::new();
    let present = missing(config, &mut out);
    let metrics = Metrics::new(1);
    let mut store = CertStore::new(Arc::clone(&metrics));
    let named = config.credentials().into_iter();
    store.set(named.filter(|named| present.contains(&named.spec)));
    store.check(SystemTime::now());
    let credentials = store.current();
    let (mut seen, mut lost) = (HashSet::new(), HashSet::new());
    for (user, spec) in users(config) {
        let state = credentials.find(spec).filter(|_| present.contains(spec));
        if let Some(state) = state.filter(|_| seen.insert(spec)) {
            // One Secret may be part of several credentials.
            let problem = state.problem.as_ref().filter(|_| !is_nowhere(spec));
            if let Some(problem) = problem.filter(|problem| lost.insert(&problem.words)) {
                out.push(of_problem(user, spec, problem));
            }
            if let Some(credential) = &state.current {
                oddities(user, credential, &mut out);
                let on_expired = config.rotation.on_expired;
                times(user, spec, credential, on_expired, &mut out);
            }
        }
    }
    if whole {
        build(config, &credentials, metrics, &mut out);
    }
    out
}

/// Reports the files that are not there (ISTIO.md X11), and gives the credentials that lack none.
fn missing(config: &Config, out: &mut Diagnostics) -> HashSet<CredentialSpec> {
    let mut present = HashSet::new();
    let mut said = HashSet::new();
    for (user, spec) in users(config) {
        let mut whole = true;
        for (key, path) in files(spec) {
            let gone = std::fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::NotFound);
            whole &= !gone;
            if gone && said.insert(path) {
                let problem = format!("there is no file {}", path.display());
                let until = user.until();
                let advice = format!("mount or write it there, or mend the name; {until}");
                out.push(user.about(key, Code::FileMissing, problem, advice));
            }
        }
        if whole {
            present.insert(spec.clone());
        }
    }
    present
}

fn files(spec: &CredentialSpec) -> impl Iterator<Item = (&'static str, &Path)> {
    let (certificate, key) = match spec.identity_files() {
        Some((certificate, key)) => (Some(certificate.as_path()), Some(key.as_path())),
        None => (None, None),
    };
    let ca = match &spec.ca {
        CaSource::System | CaSource::Secret(_) | CaSource::Nothing => None,
        CaSource::File(path) => Some(path.as_path()),
    };
    [
        ("certificate", certificate),
        ("key", key),
        ("ca", ca),
        ("crl", spec.crl_file().map(std::path::PathBuf::as_path)),
    ]
    .into_iter()
    .filter_map(|(key, path)| Some((key, path?)))
}

/// A Secret without a document and without a folder that could hold it: that dangling reference is
/// reported where the documents are read (IST0101).
fn is_nowhere(spec: &CredentialSpec) -> bool {
    let nowhere = |secret: &SecretRef| {
        let documents = secret.document.is_some() || secret.ca_document.is_some();
        !documents && secret.folders.is_empty()
    };
    let identity = match &spec.identity {
        Some(IdentitySource::Secret(secret)) => nowhere(secret),
        Some(IdentitySource::Files(..)) | None => false,
    };
    let ca = match &spec.ca {
        CaSource::Secret(secret) => nowhere(secret),
        CaSource::System | CaSource::File(_) | CaSource::Nothing => false,
    };
    identity || ca
}

/// What is wrong with a credential. A Secret that is not there is mounted elsewhere, as a file is
/// that is not there (ISTIO.md X11).
fn of_problem(user: User<'_>, spec: &CredentialSpec, problem: &CredentialProblem) -> Diagnostic {
    let key = files(spec).find(|(_, path)| *path == problem.file);
    let key = key.map_or("", |(key, _)| key);
    let until = user.until();
    let (code, advice) = match problem.reason {
        // Its words say what to do.
        ProblemReason::SecretMissing => (Code::FileMissing, until.to_owned()),
        ProblemReason::SecretKeys => (Code::BadCredential, format!("mend the Secret; {until}")),
        _ => (Code::BadCredential, format!("mend the file; {until}")),
    };
    user.about(key, code, problem.words.clone(), advice)
}

fn oddities(user: User<'_>, credential: &Credential, out: &mut Diagnostics) {
    for warning in &credential.warnings {
        let advice = match user {
            User::Upstream(_) => "the server judges it; renew the file if it refuses",
            User::Entrance(_) => "clients judge it; renew the file if they refuse",
        };
        let code = Code::OddCredential;
        out.push(user.about("", code, warning.clone(), advice.to_owned()));
    }
}

/// Certificates that are over, or soon will be (ISTIO.md R17).
fn times(
    user: User<'_>,
    spec: &CredentialSpec,
    credential: &Credential,
    on_expired: OnExpired,
    out: &mut Diagnostics,
) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    });
    if let Some(identity) = &credential.identity {
        let own = ending(&identity.leaf, now, "our certificate");
        let advice = "renew it: the other side refuses an expired certificate".to_owned();
        if let Some((over, problem)) = own {
            // With `onExpired: use` it is offered all the same, so that nothing is refused.
            let code = match over && on_expired == OnExpired::Fail {
                true => Code::BadCredential,
                false => Code::OddCredential,
            };
            out.push(user.about("certificate", code, problem, advice));
        }
    }
    if matches!(spec.ca, CaSource::File(_) | CaSource::Secret(_)) {
        for facts in &credential.root_facts {
            if let Some((_, problem)) = ending(facts, now, "the CA") {
                let advice = "put its successor beside it".to_owned();
                out.push(user.about("ca", Code::OddCredential, problem, advice));
            }
        }
    }
}

/// True with the words where it is over already.
fn ending(facts: &CertFacts, now: i64, what: &str) -> Option<(bool, String)> {
    let left = facts.not_after.saturating_sub(now);
    let life = facts.not_after.saturating_sub(facts.not_before);
    let soon = (30 * DAY).min(life / 5);
    let (subject, end) = (&facts.subject, rfc3339_seconds(facts.not_after));
    match left {
        ..0 => Some((true, format!("{what} {subject} expired at {end}"))),
        left if left <= soon => Some((false, format!("{what} {subject} expires at {end}"))),
        _ => None,
    }
}

/// Builds what would be served. No task of it ever runs, as nothing drives the runtime.
fn build(config: &Config, credentials: &Credentials, metrics: Arc<Metrics>, out: &mut Diagnostics) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else {
        return;
    };
    let _inside = runtime.enter();
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(runtime.handle().clone()),
        own: OwnAddrs::new(),
        metrics,
    };
    match publish::build(config, credentials, None, &context, 1) {
        Ok(snapshot) => {
            for upstream in snapshot.upstreams.values() {
                if let UpstreamTls::Unavailable(reason) = upstream.tls() {
                    unusable(User::Upstream(upstream.spec()), reason, credentials, out);
                }
            }
            for entrance in snapshot.entrances.all() {
                if let Some(ServerSide::Unavailable(reason)) = entrance.tls.server() {
                    unusable(User::Entrance(&entrance.spec), reason, credentials, out);
                }
            }
        }
        Err(errors) => out.extend(errors.into_iter().map(|error| Diagnostic {
            severity: Severity::Error,
            ..at(
                &error.place,
                String::new(),
                Code::BadRule,
                error.problem.to_string(),
                String::new(),
            )
        })),
    }
}

/// What cannot be used although its credential is sound; what is wrong with that was said.
fn unusable(user: User<'_>, reason: &str, credentials: &Credentials, out: &mut Diagnostics) {
    let sound = |spec: &CredentialSpec| {
        let state = credentials.find(spec);
        state.is_some_and(|state| state.current.is_some())
    };
    let all_sound = match user {
        User::Upstream(spec) => match &spec.tls {
            TlsPolicy::Tls(tls) => sound(&tls.credential),
            TlsPolicy::Disable => false,
        },
        User::Entrance(spec) => spec.tls.spec().is_some_and(|tls| {
            let mut all = std::iter::once(&tls.credential).chain(&tls.more);
            all.all(sound)
        }),
    };
    if all_sound {
        let advice = format!("mend it; {}", user.until());
        out.push(user.about("", Code::BadCredential, reason.to_owned(), advice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::model::{Place, Reason, TlsSpec, UpstreamSpec};
    use rcgen::{CertificateParams, KeyPair};
    use std::fs;

    /// A folder with `a.crt`, `a.key`, `b.key` and `ca.crt`, and a document that names them.
    struct Lab {
        dir: tempfile::TempDir,
        certificate: String,
    }

    impl Lab {
        fn new(not_after: (i32, u8, u8)) -> Lab {
            let dir = tempfile::tempdir().unwrap();
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            let (year, month, day) = not_after;
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(year, month, day);
            let certificate = params.self_signed(&key).unwrap().pem();
            let other = KeyPair::generate().unwrap().serialize_pem();
            for (name, text) in [
                ("a.crt", &certificate),
                ("a.key", &key.serialize_pem()),
                ("b.key", &other),
                ("ca.crt", &certificate),
            ] {
                fs::write(dir.path().join(name), text).unwrap();
            }
            Lab { dir, certificate }
        }

        /// What is said of an upstream with these keys under `tls`, the folder left out.
        fn said(&self, tls: &str) -> Vec<String> {
            let text = format!(
                "routes: [{{host: a, upstream: a}}]\nupstreams:\n- name: a\n  endpoints: a:1\n  tls: \
                 {{mode: mutual, {tls}}}\n- name: b\n  endpoints: b:1\n  tls: {{mode: mutual, \
                 {tls}}}\n"
            );
            let path = self.dir.path().join("c.yaml");
            fs::write(&path, text).unwrap();
            let inspected = config::inspect(&[path], &config::LoadOptions::default());
            assert!(!inspected.diagnostics.has_errors());
            let own = format!("{}/", self.dir.path().display());
            let said = check(&inspected.config, true);
            said.iter()
                .map(|d| d.to_string().replace(&own, ""))
                .collect()
        }
    }

    #[test]
    fn sound_files_give_nothing_to_say() {
        let lab = Lab::new((2099, 1, 1));
        assert_eq!(
            lab.said("certificate: a.crt, key: a.key, ca: ca.crt"),
            [""; 0]
        );
    }

    #[test]
    fn x11_every_missing_file_is_named_once_as_a_warning() {
        let lab = Lab::new((2099, 1, 1));
        let advice =
            "mount or write it there, or mend the name; until then the upstream answers 503";
        assert_eq!(
            lab.said("certificate: x.crt, key: x.key, ca: x.pem, crl: y.pem"),
            [
                ("certificate", "x.crt"),
                ("key", "x.key"),
                ("ca", "x.pem"),
                ("crl", "y.pem")
            ]
            .map(|(key, file)| format!(
                "c.yaml:3: warning[SRT0401] upstreams[\"a\"].tls.{key}: there is no file {file}; \
                     {advice}"
            ))
        );
    }

    /// What is said of two upstreams that take their credential from a Secret of these documents.
    fn said_of_secret(
        document: Option<crate::model::SecretData>,
        ca_document: Option<crate::model::SecretData>,
    ) -> Vec<String> {
        use crate::model::{CrlSource, Host, IdentitySource, SecretRef};
        let secret = SecretRef {
            resource: "kubernetes://bank".into(),
            namespace: "shop".into(),
            name: "bank".into(),
            document: document.map(Arc::new),
            ca_document: ca_document.map(Arc::new),
            folders: [std::path::PathBuf::from("/nowhere")].into(),
        };
        let upstream = |name: &str, identity: bool| {
            let mut spec = UpstreamSpec::new(name);
            let host = Host::parse("bank.example").unwrap();
            spec.endpoints
                .push(crate::model::EndpointSpec::new(host, 443));
            spec.tls = TlsPolicy::Tls(Box::new(TlsSpec::new(CredentialSpec {
                identity: identity.then(|| IdentitySource::Secret(secret.clone())),
                ca: CaSource::Secret(secret.clone()),
                crl: Some(CrlSource::Secret(secret.clone())),
            })));
            spec
        };
        let config = Config {
            upstreams: vec![upstream("a", true), upstream("b", false)],
            ..Config::default()
        };
        check(&config, true)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn s5_a_secret_that_is_not_there_is_one_warning_in_istios_words() {
        assert_eq!(
            said_of_secret(None, None),
            [
                "command line: warning[SRT0401] upstreams[\"a\"].tls: secret shop/bank not found \
                 among the documents, nor as /nowhere/shop/bank or /nowhere/bank; mount or write \
                 it there; until then the upstream answers 503"
            ]
        );
    }

    #[test]
    fn s4_a_secret_without_the_keys_is_an_error_in_istios_words() {
        let said = said_of_secret(Some(Default::default()), Some(Default::default()));
        assert_eq!(
            said,
            [
                "command line: error[SRT0402] upstreams[\"a\"].tls: secret shop/bank: found \
                 secret, but didn't have expected keys (cert and key) or (tls.crt and tls.key); \
                 found: ; mend the Secret; until then the upstream answers 503",
                "command line: error[SRT0402] upstreams[\"b\"].tls: secret shop/bank-cacert: \
                 found secret, but didn't have expected keys cacert or ca.crt; found: ; mend the \
                 Secret; until then the upstream answers 503",
            ]
        );
    }

    #[test]
    fn r11_a_key_of_another_certificate_is_an_error_said_once() {
        let lab = Lab::new((2099, 1, 1));
        let said = lab.said("certificate: a.crt, key: b.key, ca: ca.crt");
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("c.yaml:3: error[SRT0402] upstreams[\"a\"].tls"),
            "{said:?}"
        );
        assert!(said[0].contains("match"), "{said:?}");
    }

    #[test]
    fn broken_files_are_errors_that_name_the_file() {
        let lab = Lab::new((2099, 1, 1));
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE \
                         KEY-----\n";
        fs::write(lab.dir.path().join("enc.key"), encrypted).unwrap();
        fs::write(lab.dir.path().join("cut.crt"), &lab.certificate[..100]).unwrap();
        for (tls, file) in [
            ("certificate: a.crt, key: enc.key, ca: ca.crt", "enc.key"),
            ("certificate: cut.crt, key: a.key, ca: ca.crt", "cut.crt"),
            ("certificate: a.crt, key: a.key, ca: cut.crt", "cut.crt"),
        ] {
            let said = lab.said(tls);
            assert!(
                said.len() == 1 && said[0].contains("error[SRT0402]"),
                "{said:?}"
            );
            assert!(said[0].contains(file), "{said:?}");
        }
    }

    #[test]
    fn r17_an_expired_certificate_is_an_error_unless_it_is_to_be_used() {
        let lab = Lab::new((2021, 1, 1));
        let said = lab
            .said("certificate: a.crt, key: a.key, ca: ca.crt")
            .join("\n");
        assert!(
            said.contains("error[SRT0402] upstreams[\"a\"].tls.certificate"),
            "{said}"
        );
        assert!(said.contains("expired at 2021-01-01T00:00:00Z"), "{said}");
        assert!(
            said.contains("warning[SRT0403] upstreams[\"a\"].tls.ca"),
            "{said}"
        );
    }

    #[test]
    fn x11_a_missing_file_of_a_gateway_server_is_reported_at_its_document() {
        use crate::model::{
            Carries, ClientCertificates, DownstreamTls, EntranceAt, EntranceHeaders, EntranceSpec,
            GatewayPort, HostPattern, Reasons, ServerTlsSpec,
        };
        let credential = CredentialSpec {
            identity: Some(IdentitySource::Files(
                "/no/such.crt".into(),
                "/no/such.key".into(),
            )),
            ca: CaSource::Nothing,
            crl: None,
        };
        let port = GatewayPort {
            bind: None,
            number: 443,
        };
        let tls = ServerTlsSpec::new(credential, ClientCertificates::Unasked);
        let config = Config {
            entrances: vec![EntranceSpec {
                name: "gateway|443|default/edge|https".into(),
                at: EntranceAt::Gateway(port, vec![HostPattern::Any]),
                tls: DownstreamTls::Strict(Box::new(tls)),
                carries: Carries::Http,
                hosts: Vec::new(),
                streams: Vec::new(),
                headers: EntranceHeaders::gateway(),
                service: None,
                broken: None,
                object: Some("Gateway default/edge".into()),
                reasons: Reasons::default(),
                place: Place {
                    file: "gw.yaml".into(),
                    line: 7,
                },
            }],
            ..Config::default()
        };
        let said: Vec<_> = check(&config, true)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            said,
            [
                ("such.crt", "serverCertificate"),
                ("such.key", "privateKey")
            ]
            .map(|(file, key)| {
                format!(
                    "gw.yaml:7: warning[SRT0401] Gateway default/edge: tls.{key}: there is no file \
                     /no/{file}, for gateway|443|default/edge|https; mount or write it there, or \
                     mend the name; until then nobody gets in there by TLS"
                )
            })
        );
    }

    #[test]
    fn x11_a_file_that_an_object_names_is_reported_at_the_object() {
        let place = |line| Place {
            file: "dr.yaml".into(),
            line,
        };
        let object = || "DestinationRule default/bank".into();
        let mut upstream = UpstreamSpec::new("outbound|443||bank.example");
        upstream.tls = TlsPolicy::Tls(Box::new(TlsSpec::new(CredentialSpec {
            identity: Some(IdentitySource::Files(
                "/no/such.crt".into(),
                "/no/such.key".into(),
            )),
            ca: CaSource::System,
            crl: None,
        })));
        let reason = |what, place| Reason {
            what,
            how: String::new(),
            object: object(),
            place,
        };
        let mut config = Config {
            upstreams: vec![upstream],
            ..Config::default()
        };
        let said = |config: &Config| -> Vec<String> {
            check(config, true)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        config.upstreams[0].reasons.0 = vec![
            reason("tls", Some(place(7))),
            reason("credential", Some(place(9))),
        ];
        assert_eq!(
            said(&config)[0],
            "dr.yaml:9: warning[SRT0401] DestinationRule default/bank: tls.clientCertificate: there \
             is no file /no/such.crt, for the upstream outbound|443||bank.example; mount or write it \
             there, or mend the name; until then the upstream answers 503"
        );
        config.upstreams[0].reasons.0[1].place = None;
        assert!(
            said(&config)[1].starts_with(
                "dr.yaml:7: warning[SRT0401] DestinationRule default/bank: there is no file \
                 /no/such.key"
            ),
            "{:?}",
            said(&config)
        );
    }
}
