//! The `tls` of a DestinationRule, or of automatic mutual TLS, to a TLS policy (ISTIO.md T).
//!
//! Owns: SNI (T5, T6), which names the certificate must have (T7, T8, T12, X9), ALPN (T11).
//! Never: finds the settings (that is `traffic`) or the certificates (that is `credential`).
//! Called by: clusters.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::credential::Credentials;
use super::registry::Known;
use super::scope::Mesh;
use super::traffic::{Said, mode_name};
use crate::config::diagnostic::Code;
use crate::config::istio::destination_rule::{TlsMode, TlsSettings};
use crate::config::istio::service_entry::Location;
use crate::config::options::LoadOptions;
use crate::model::{
    AlpnOffer, CaSource, CredentialSpec, Host, HostPattern, IdentitySource, NameCheck, Place,
    Reason, Role, TlsSpec,
};

/// What there is to say of one connection's TLS.
pub struct Context<'a> {
    pub credentials: &'a Credentials<'a>,
    pub mesh: &'a Mesh,
    pub options: &'a LoadOptions,
    pub known: &'a Known,
    pub port: u16,
    pub subset: &'a str,
}

/// TLS as it will be spoken, who decided what, and what is odd about it.
pub struct Decided {
    pub spec: TlsSpec,
    pub reasons: Vec<Reason>,
    pub findings: Vec<(Code, Place, String, String)>,
}

/// Where a decision comes from.
struct By {
    object: Arc<str>,
    place: Option<Place>,
}

impl By {
    fn reason(&self, what: &'static str, how: impl Into<String>) -> Reason {
        Reason {
            what,
            how: how.into(),
            object: Arc::clone(&self.object),
            place: self.place.clone(),
        }
    }
}

fn default(what: &'static str, how: impl Into<String>) -> Reason {
    Reason {
        what,
        how: how.into(),
        object: "".into(),
        place: None,
    }
}

impl Context<'_> {
    /// What a DestinationRule asks for. `tls` is of another mode than DISABLE.
    ///
    /// # Errors
    /// In words, where it can never be had: the upstream fails closed with them.
    pub fn explicit(&self, said: Said<'_, TlsSettings>) -> Result<Decided, String> {
        let tls = &*self.mounted(said.value);
        let by = By {
            object: said.rule.meta.object(),
            place: Some(tls.place.clone()),
        };
        let mode = by.reason("tls", mode_name(tls.mode));
        let mut decided = match tls.mode {
            TlsMode::IstioMutual => self.istio(tls.sni.as_ref(), &tls.subject_alt_names, &by)?,
            TlsMode::Disable | TlsMode::Simple | TlsMode::Mutual => self.originate(tls, &by)?,
        };
        decided.reasons.insert(0, mode);
        let said = Said { value: tls, ..said };
        decided.findings.extend(self.remarks(said));
        Ok(decided)
    }

    /// T14: inside the mesh, the identity that variables point at stands in for the certificate, the
    /// key and the CA of MUTUAL. Names and SNI stay.
    fn mounted<'t>(&self, tls: &'t TlsSettings) -> Cow<'t, TlsSettings> {
        let facts = &self.options.facts;
        let inside = self.known.location == Location::Internal;
        let identity = facts.identity.as_ref().filter(|_| facts.mounted_identity);
        let Some(identity) = identity.filter(|_| inside && tls.mode == TlsMode::Mutual) else {
            return Cow::Borrowed(tls);
        };
        let file = |path: &Path| Some(path.to_string_lossy().into_owned());
        Cow::Owned(TlsSettings {
            client_certificate: file(&identity.certificate),
            private_key: file(&identity.key),
            ca_certificates: file(&identity.ca),
            credential_name: None,
            insecure_skip_verify: false,
            ..tls.clone()
        })
    }

    /// What automatic mutual TLS asks for (T13).
    ///
    /// # Errors
    /// As [`Context::explicit`].
    pub fn automatic(&self, by: Option<(Arc<str>, &Place)>) -> Result<Decided, String> {
        let by = match by {
            Some((object, place)) => By {
                object,
                place: Some(place.clone()),
            },
            None => By {
                object: "".into(),
                place: None,
            },
        };
        let mut decided = self.istio(None, &[], &by)?;
        // Nobody asked for TLS to this port, and the far end is a proxy that takes it off again: TLS
        // of the application's own goes through as it does in Istio (D8 is about settings).
        decided.spec.allow_tls_in_tls = true;
        let how = "ISTIO_MUTUAL, by automatic mutual TLS";
        decided.reasons.insert(0, by.reason("tls", how));
        Ok(decided)
    }

    /// SIMPLE and MUTUAL.
    fn originate(&self, tls: &TlsSettings, by: &By) -> Result<Decided, String> {
        let mut spec = TlsSpec::new(self.credentials.of(tls)?);
        spec.allow_tls_in_tls = self.options.allow_tls_in_tls;
        spec.alpn = AlpnOffer::Http2Only;
        spec.server_name = tls.sni.clone();
        spec.verify_chain = !tls.insecure_skip_verify;
        let mut reasons = vec![match &tls.sni {
            Some(sni) => by.reason("sni", sni.as_str()),
            None => default("sni", "the request's host"),
        }];
        reasons.extend(credential_reasons(&spec.credential, by));
        reasons.push(self.names(tls, &mut spec, by));
        Ok(Decided {
            spec,
            reasons,
            findings: Vec::new(),
        })
    }

    /// T7: the first rule that applies.
    fn names(&self, tls: &TlsSettings, spec: &mut TlsSpec, by: &By) -> Reason {
        if tls.insecure_skip_verify {
            spec.name_check = NameCheck::Off;
            return by.reason("names", "nothing is verified: insecureSkipVerify");
        }
        if !tls.subject_alt_names.is_empty() {
            spec.subject_alt_names.clone_from(&tls.subject_alt_names);
            return by.reason("names", any_of(&tls.subject_alt_names));
        }
        let declared = match self.known.kubernetes {
            false => service_names(self.known, self.mesh),
            true => Vec::new(),
        };
        if !declared.is_empty() {
            // X9: where the request's host would be checked, both must hold.
            spec.also_host = tls.sni.is_none();
            let and = if spec.also_host {
                ", and the request's host"
            } else {
                ""
            };
            let how = format!("{}{and}", any_of(&declared));
            spec.subject_alt_names = declared;
            return Reason {
                what: "names",
                how,
                object: Arc::clone(&self.known.object),
                place: Some(self.known.place.clone()),
            };
        }
        match &tls.sni {
            None => default("names", "the request's host"),
            Some(sni) => {
                spec.name_check = self.options.name_check.unwrap_or(NameCheck::Warn);
                by.reason("names", unchecked(spec.name_check, sni.as_str()))
            }
        }
    }

    /// ISTIO_MUTUAL.
    fn istio(&self, sni: Option<&Host>, names: &[String], by: &By) -> Result<Decided, String> {
        let mut spec = TlsSpec::new(self.credentials.mesh()?);
        spec.allow_tls_in_tls = self.options.allow_tls_in_tls;
        spec.alpn = AlpnOffer::Istio;
        spec.server_name = match sni {
            Some(sni) => Some(sni.clone()),
            None => self.istio_sni()?,
        };
        let how = match &spec.server_name {
            Some(name) => name.to_string(),
            None => "the request's host".to_owned(),
        };
        let mut reasons = vec![match sni {
            Some(_) => by.reason("sni", how),
            None => default("sni", how),
        }];
        reasons.extend(credential_reasons(&spec.credential, &By::flags()));
        let own = names.is_empty();
        spec.subject_alt_names = match own {
            true => service_names(self.known, self.mesh),
            false => names.to_vec(),
        };
        reasons.push(if !own {
            by.reason("names", any_of(names))
        } else if !spec.subject_alt_names.is_empty() {
            Reason {
                what: "names",
                how: any_of(&spec.subject_alt_names),
                object: Arc::clone(&self.known.object),
                place: Some(self.known.place.clone()),
            }
        } else {
            self.nobody_named(&mut spec)
        });
        Ok(Decided {
            spec,
            reasons,
            findings: Vec::new(),
        })
    }

    /// T12: no account is known, and so Istio looks at the chain alone.
    fn nobody_named(&self, spec: &mut TlsSpec) -> Reason {
        spec.name_check = self.options.name_check.unwrap_or(NameCheck::Warn);
        if spec.name_check != NameCheck::Off
            && let HostPattern::Exact(host) = &self.known.host
        {
            spec.expected_name = Some(host.clone());
        }
        let host = self.known.host.to_string();
        default("names", unchecked(spec.name_check, &host))
    }

    /// T5. A wildcard host has no name of its own to send.
    fn istio_sni(&self) -> Result<Option<Host>, String> {
        let HostPattern::Exact(host) = &self.known.host else {
            return Ok(None);
        };
        let text = format!("outbound_.{}_.{}_.{host}", self.port, self.subset);
        match Host::parse(&text) {
            Ok(name) => Ok(Some(name)),
            Err(error) => Err(format!(
                "the server name {text:?} of ISTIO_MUTUAL cannot be sent: {error}; write tls.sni \
                 in the DestinationRule"
            )),
        }
    }

    /// What Istio does otherwise, or without a word.
    fn remarks(&self, said: Said<'_, TlsSettings>) -> Vec<(Code, Place, String, String)> {
        let tls = said.value;
        let mut found = Vec::new();
        let mut say = |code, problem: String, advice: &str| {
            found.push((code, tls.place.clone(), problem, advice.to_owned()));
        };
        if let Some(name) = &tls.credential_name
            && self.options.facts.role == Role::Sidecar
            && said.rule.selector.is_none()
            && !name.value.starts_with("configmap://")
        {
            let problem = format!(
                "Istio's sidecars ignore credentialName {:?} and send plaintext; sortie honours it",
                name.value
            );
            let advice = "give the rule a workloadSelector, and Istio honours it too";
            say(Code::CredentialOnSidecar, problem, advice);
        }
        if tls.insecure_skip_verify {
            let problem = "insecureSkipVerify: whoever answers is taken for the server".to_owned();
            let advice = "name the CA that signed its certificate with caCertificates";
            say(Code::Unverified, problem, advice);
        }
        let originated = matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual);
        let no_ca = tls.ca_certificates.is_none() && tls.credential_name.is_none();
        if originated && no_ca && !tls.insecure_skip_verify {
            let code = match said.on_port {
                true => Code::NoCaOnPort,
                false => Code::NoCa,
            };
            let problem = "no caCertificates: the operating system's store vouches for the server";
            let advice = "name the CA that signed the server's certificate, if it is a private one";
            say(code, problem.to_owned(), advice);
        }
        let named = !tls.subject_alt_names.is_empty()
            || (!self.known.kubernetes && !service_names(self.known, self.mesh).is_empty());
        let checked = self.options.name_check == Some(NameCheck::Enforce);
        let nobody =
            tls.subject_alt_names.is_empty() && service_names(self.known, self.mesh).is_empty();
        if tls.mode == TlsMode::IstioMutual && nobody && !checked {
            let problem = format!(
                "no service account of {} is known and there are no subjectAltNames, and so any \
                 workload of the mesh may answer",
                self.known.host
            );
            let advice = "write subjectAltNames, or run with --name-check enforce";
            say(Code::NameUnchecked, problem, advice);
        }
        if let Some(sni) = &tls.sni
            && originated
            && !named
            && !checked
            && !tls.insecure_skip_verify
        {
            let problem = format!(
                "sni is set to {sni} and no subjectAltNames are, and so the server's certificate \
                 may have any name that its CA signs"
            );
            let advice = "write subjectAltNames, or run with --name-check enforce";
            say(Code::NameUnchecked, problem, advice);
        }
        found
    }
}

impl By {
    /// The command line, or where an identity was looked for.
    fn flags() -> By {
        By {
            object: "".into(),
            place: None,
        }
    }
}

/// T12: every name that an endpoint may have: its service accounts, and what the service says.
pub fn service_names(known: &Known, mesh: &Mesh) -> Vec<String> {
    let accounts = known.endpoints.iter().flat_map(|one| &one.service_accounts);
    let accounts = accounts.flat_map(|account| mesh.spiffe(&known.namespace, account));
    let mut names: Vec<String> = accounts.collect();
    for said in &known.subject_alt_names {
        let account = known.kubernetes && !said.contains("://");
        match account {
            true => names.extend(mesh.spiffe(&known.namespace, said)),
            false => names.extend(with_aliases(said, mesh)),
        }
    }
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// A SPIFFE name under every alias of the trust domain too; another name as it is.
fn with_aliases(name: &str, mesh: &Mesh) -> Vec<String> {
    let rest = name.strip_prefix("spiffe://");
    let path = rest
        .and_then(|rest| rest.split_once('/'))
        .map(|(_, path)| path);
    let aliases = path.into_iter().flat_map(|path| {
        let domains = mesh.trust_domains().skip(1);
        domains.map(move |domain| format!("spiffe://{domain}/{path}"))
    });
    std::iter::once(name.to_owned()).chain(aliases).collect()
}

fn any_of(names: &[String]) -> String {
    names.join(" or ")
}

fn unchecked(check: NameCheck, name: &str) -> String {
    match check {
        NameCheck::Enforce => format!("{name}, by --name-check enforce"),
        NameCheck::Warn => format!("any name that the CA signs; other than {name}: a warning"),
        NameCheck::Off => "any name that the CA signs".to_owned(),
    }
}

fn credential_reasons(spec: &CredentialSpec, by: &By) -> Vec<Reason> {
    let identity = match &spec.identity {
        Some(IdentitySource::Files(certificate, key)) => {
            format!("{}, {}", certificate.display(), key.display())
        }
        Some(IdentitySource::Secret(secret)) => secret.resource.to_string(),
        None => "none".to_owned(),
    };
    let ca = match &spec.ca {
        CaSource::System => "the operating system's store".to_owned(),
        CaSource::File(path) => path.display().to_string(),
        CaSource::Secret(secret) => secret.resource.to_string(),
        CaSource::Nothing => "nothing is verified".to_owned(),
    };
    vec![by.reason("credential", identity), by.reason("ca", ca)]
}

#[cfg(test)]
mod tests {
    use crate::config::istio::lower::testing::{Lab, Told};
    use crate::model::{AlpnOffer, NameCheck, Role};

    /// A ServiceEntry with more in its `spec`, and a rule with this `tls`.
    fn lab(entry: &str, tls: &str) -> Lab {
        Lab::new(&format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec: {{hosts: [a.example], ports: [{{number: 443, name: p, protocol: HTTPS}}], {entry}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: '*.example', trafficPolicy: {{tls: {{{tls}}}}}, subsets: [{{name: v1}}]}}
"
        ))
        .identity()
    }

    const STATIC: &str = "resolution: STATIC, endpoints: [{address: 10.0.0.1}]";

    fn tls(entry: &str, tls: &str) -> Told {
        lab(entry, tls).refer("a.example", 443, "")
    }

    fn sni(told: &Told) -> Option<&str> {
        told.tls().server_name.as_ref().map(|name| name.as_str())
    }

    #[test]
    fn t1_each_mode_takes_what_is_its_own() {
        assert!(tls(STATIC, "mode: DISABLE").is_plaintext());
        let reason = tls(STATIC, "mode: DISABLE").reason("tls");
        assert_eq!(
            reason,
            "DISABLE by \"DestinationRule default/a\" at t.yaml:9"
        );
        let simple = tls(STATIC, "mode: SIMPLE, caCertificates: /ca.pem");
        assert!(simple.tls().credential.identity.is_none());
        let mutual = "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca.pem";
        assert!(tls(STATIC, mutual).tls().credential.identity.is_some());
        assert_eq!(
            tls(STATIC, "mode: ISTIO_MUTUAL").reason("ca"),
            "/id/root.pem by \"\""
        );
    }

    #[test]
    fn t5_istio_mutual_sends_the_name_of_the_cluster_unless_sni_is_set() {
        let istio = lab(STATIC, "mode: ISTIO_MUTUAL");
        let told = istio.refer("a.example", 443, "");
        assert_eq!(sni(&told), Some("outbound_.443_._.a.example"));
        let told = istio.refer("a.example", 443, "v1");
        assert_eq!(sni(&told), Some("outbound_.443_.v1_.a.example"));
        assert_eq!(
            sni(&tls(STATIC, "mode: ISTIO_MUTUAL, sni: x.y")),
            Some("x.y")
        );
    }

    #[test]
    fn t5_a_wildcard_host_has_no_name_of_its_own_to_send() {
        let wild = lab("resolution: NONE", "mode: ISTIO_MUTUAL").more(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: w}
spec: {hosts: ['*.w.example'], ports: [{number: 443, name: p, protocol: HTTPS}]}
",
        );
        let told = wild.refer("*.w.example", 443, "");
        assert_eq!((told.broken().as_str(), sni(&told)), ("not broken", None));
    }

    #[test]
    fn t6_simple_sends_the_requests_host_unless_sni_is_set() {
        assert_eq!(sni(&tls(STATIC, "mode: SIMPLE")), None);
        assert_eq!(sni(&tls(STATIC, "mode: SIMPLE, sni: x.y")), Some("x.y"));
    }

    #[test]
    fn t7_the_first_rule_of_names_that_applies() {
        const ENFORCE: NameCheck = NameCheck::Enforce;
        for (settings, check, names) in [
            (
                "mode: SIMPLE, insecureSkipVerify: true",
                NameCheck::Off,
                vec![],
            ),
            (
                "mode: SIMPLE, subjectAltNames: [x, y]",
                ENFORCE,
                vec!["x", "y"],
            ),
            (
                "mode: SIMPLE, sni: s, subjectAltNames: [x]",
                ENFORCE,
                vec!["x"],
            ),
            ("mode: SIMPLE", ENFORCE, vec![]),
            ("mode: SIMPLE, sni: s", NameCheck::Warn, vec![]),
        ] {
            let told = tls(STATIC, settings);
            let tls = told.tls();
            assert_eq!(
                (tls.name_check, tls.also_host),
                (check, false),
                "{settings}"
            );
            assert_eq!(tls.subject_alt_names, names, "{settings}");
            let verified = !settings.contains("insecureSkipVerify");
            assert_eq!(tls.verify_chain, verified, "{settings}");
            let said = told.said("SRT0501").len();
            assert_eq!(said, usize::from(check == NameCheck::Warn), "{settings}");
        }
    }

    #[test]
    fn t7_the_flag_changes_nothing_but_the_case_where_istio_checks_no_name() {
        for flag in [NameCheck::Enforce, NameCheck::Warn, NameCheck::Off] {
            let refer = |settings: &str| {
                let lab = lab(STATIC, settings);
                let lab = lab.options(|options| options.name_check = Some(flag));
                lab.refer("a.example", 443, "")
            };
            assert_eq!(refer("mode: SIMPLE, sni: s").tls().name_check, flag);
            let said = refer("mode: SIMPLE, sni: s").said("SRT0501").len();
            assert_eq!(said, usize::from(flag != NameCheck::Enforce));
            assert_eq!(refer("mode: SIMPLE").tls().name_check, NameCheck::Enforce);
            let named = refer("mode: SIMPLE, sni: s, subjectAltNames: [x]");
            assert_eq!(named.tls().name_check, NameCheck::Enforce);
        }
    }

    #[test]
    fn t7_istio_mutual_without_accounts_compares_the_services_host_where_it_is_asked_to() {
        let silent = tls(STATIC, "mode: ISTIO_MUTUAL");
        assert_eq!(
            silent.tls().name_check,
            NameCheck::Warn,
            "logged and counted"
        );
        let as_istio = lab(STATIC, "mode: ISTIO_MUTUAL");
        let as_istio = as_istio.options(|options| options.name_check = Some(NameCheck::Off));
        let told = as_istio.refer("a.example", 443, "");
        assert_eq!(
            (told.tls().name_check, &told.tls().expected_name),
            (NameCheck::Off, &None)
        );
        let lab = lab(STATIC, "mode: ISTIO_MUTUAL, sni: x.y");
        let lab = lab.options(|options| options.name_check = Some(NameCheck::Enforce));
        let told = lab.refer("a.example", 443, "");
        assert_eq!(told.tls().name_check, NameCheck::Enforce);
        assert_eq!(
            told.tls().expected_name.as_ref().unwrap().as_str(),
            "a.example"
        );
    }

    #[test]
    fn x9_names_of_the_service_entry_stand_where_the_rule_has_none() {
        let entry = format!("{STATIC}, subjectAltNames: [e.example]");
        let refer = |settings: &str| tls(&entry, settings);
        let both = refer("mode: SIMPLE");
        assert_eq!(both.tls().subject_alt_names, ["e.example"]);
        assert!(
            both.tls().also_host,
            "rule (c) applies as well, and both must hold"
        );
        let with_sni = refer("mode: SIMPLE, sni: s");
        let tls = with_sni.tls();
        assert_eq!((tls.name_check, tls.also_host), (NameCheck::Enforce, false));
        assert_eq!(tls.subject_alt_names, ["e.example"]);
        assert_eq!(with_sni.said("SRT0501"), Vec::<&str>::new());
        let own = refer("mode: SIMPLE, subjectAltNames: [x]");
        assert_eq!(own.tls().subject_alt_names, ["x"]);
        assert!(!own.tls().also_host);
    }

    #[test]
    fn t12_istio_mutual_expects_accounts_and_names_under_every_alias_of_the_trust_domain() {
        let mesh = "---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {trustDomain: td, trustDomainAliases: [old]}}
";
        let entry = "location: MESH_INTERNAL, resolution: STATIC, endpoints: [{address: 10.0.0.1, \
                     serviceAccount: sa}], subjectAltNames: ['spiffe://x/ns/n/sa/b', d.example]";
        let refer = |settings: &str| lab(entry, settings).more(mesh).refer("a.example", 443, "");
        assert_eq!(
            refer("mode: ISTIO_MUTUAL").tls().subject_alt_names,
            [
                "spiffe://td/ns/default/sa/sa",
                "spiffe://old/ns/default/sa/sa",
                "spiffe://x/ns/n/sa/b",
                "spiffe://old/ns/n/sa/b",
                "d.example"
            ]
        );
        let own = refer("mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://only']");
        assert_eq!(own.tls().subject_alt_names, ["spiffe://only"]);
        assert_eq!(own.tls().name_check, NameCheck::Enforce);
    }

    #[test]
    fn t12_automatic_mutual_tls_and_a_gateway_expect_the_same_names() {
        let mesh = "---
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: mesh}
spec: {meshConfig: {trustDomain: t@d, trustDomainAliases: [o@ld]}}
---
apiVersion: v1
kind: Service
metadata: {name: n, namespace: s}
spec: {selector: {app: n}, ports: [{port: 80, name: http, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: s}
spec: {address: 10.0.0.1, labels: {app: n}, serviceAccount: sa}
";
        for role in [Role::Sidecar, Role::Gateway] {
            let lab = Lab::new(mesh).identity().facts(|facts| facts.role = role);
            let told = lab.refer("n.s.svc.cluster.local", 80, "");
            assert_eq!(
                told.tls().subject_alt_names,
                ["spiffe://t.d/ns/s/sa/sa", "spiffe://o.ld/ns/s/sa/sa"]
            );
            assert_eq!(told.tls().name_check, NameCheck::Enforce);
            assert_eq!(sni(&told), Some("outbound_.80_._.n.s.svc.cluster.local"));
            assert_eq!(told.tls().alpn, AlpnOffer::Istio);
            assert_eq!(
                told.reason("credential"),
                "/id/cert.pem, /id/key.pem by \"\""
            );
        }
    }

    #[test]
    fn t14_a_mounted_identity_stands_in_for_client_certificates_inside_the_mesh() {
        let mutual = "mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca.pem, \
                      sni: x.y, subjectAltNames: [z]";
        let inside = format!("location: MESH_INTERNAL, {STATIC}");
        for (entry, settings, mounted, expected) in [
            (inside.as_str(), mutual, true, "/id/cert.pem, /id/key.pem"),
            (inside.as_str(), mutual, false, "/c, /k"),
            (STATIC, mutual, true, "/c, /k"),
            (
                inside.as_str(),
                "mode: SIMPLE, caCertificates: /ca.pem",
                true,
                "none",
            ),
            (
                inside.as_str(),
                "mode: MUTUAL, credentialName: c",
                true,
                "/id/cert.pem, /id/key.pem",
            ),
        ] {
            let lab = lab(entry, settings).facts(|facts| facts.mounted_identity = mounted);
            let told = lab.refer("a.example", 443, "");
            let found = told.reason("credential");
            assert!(
                found.starts_with(expected),
                "{entry} {settings} {mounted}: {found}"
            );
            if settings == mutual {
                assert_eq!(
                    (sni(&told), &*told.tls().subject_alt_names[0]),
                    (Some("x.y"), "z")
                );
            }
        }
    }

    #[test]
    fn t12_a_service_of_which_no_account_is_known_is_said_and_one_of_which_one_is_known_is_not() {
        let said = |entry: &str, settings: &str| tls(entry, settings).said("SRT0501").len();
        assert_eq!(said(STATIC, "mode: ISTIO_MUTUAL"), 1);
        let named = "mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://only']";
        assert_eq!(said(STATIC, named), 0);
        let entry = format!("{STATIC}, subjectAltNames: ['spiffe://e']");
        assert_eq!(said(&entry, "mode: ISTIO_MUTUAL"), 0);
    }

    #[test]
    fn t12_annotations_of_a_service_name_accounts() {
        let text = "
apiVersion: v1
kind: Service
metadata:
  name: n
  namespace: s
  annotations:
    alpha.istio.io/kubernetes-serviceaccounts: ka
    alpha.istio.io/canonical-serviceaccounts: spiffe://c/x
spec: {ports: [{port: 80, name: http}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: n, namespace: s}
spec: {host: n, trafficPolicy: {tls: {mode: MODE}}}
";
        let refer = |mode: &str| {
            let lab = Lab::new(&text.replace("MODE", mode)).identity();
            lab.refer("n.s.svc.cluster.local", 80, "")
        };
        let mut names = refer("ISTIO_MUTUAL").tls().subject_alt_names.clone();
        names.sort();
        assert_eq!(names, ["spiffe://c/x", "spiffe://cluster.local/ns/s/sa/ka"]);
        // Only ServiceEntries lend their names to SIMPLE and MUTUAL.
        assert!(refer("SIMPLE").tls().subject_alt_names.is_empty());
    }

    #[test]
    fn t9_no_ca_is_the_operating_systems_store_and_is_said() {
        let told = tls(STATIC, "mode: SIMPLE");
        let by = "by \"DestinationRule default/a\" at t.yaml:9";
        assert_eq!(
            told.reason("ca"),
            format!("the operating system's store {by}")
        );
        assert_eq!(
            told.said("IST0128"),
            [
                "t.yaml:9: warning[IST0128] DestinationRule default/a: no caCertificates: the \
              operating system's store vouches for the server; name the CA that signed the \
              server's certificate, if it is a private one"
            ]
        );
        let system = tls(STATIC, "mode: SIMPLE, caCertificates: system");
        let store = format!("the operating system's store {by}");
        assert_eq!(
            (system.reason("ca"), system.said("IST0128").len()),
            (store, 0)
        );
        let with = tls(STATIC, "mode: SIMPLE, caCertificates: /ca.pem");
        assert_eq!(with.said("IST0128"), Vec::<&str>::new());
    }

    #[test]
    fn ist0129_no_ca_on_a_port_has_a_code_of_its_own() {
        let told = Lab::new(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: [a.example], ports: [{number: 443, name: p, protocol: HTTPS}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a.example
  trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: SIMPLE}}]}
",
        )
        .refer("a.example", 443, "");
        assert_eq!(
            (told.said("IST0128").len(), told.said("IST0129").len()),
            (0, 1)
        );
    }

    #[test]
    fn t11_alpn_is_istios_for_istio_mutual_and_http2_alone_for_the_others() {
        assert_eq!(
            tls(STATIC, "mode: ISTIO_MUTUAL").tls().alpn,
            AlpnOffer::Istio
        );
        assert_eq!(tls(STATIC, "mode: SIMPLE").tls().alpn, AlpnOffer::Http2Only);
    }

    #[test]
    fn t16_istio_mutual_without_an_identity_fails_closed_and_says_what_to_do() {
        let lab = lab(STATIC, "mode: ISTIO_MUTUAL").facts(|facts| facts.identity = None);
        let told = lab.refer("a.example", 443, "");
        assert_eq!(
            told.broken(),
            "Unhealthy: t.yaml:9: DestinationRule default/a: a mesh identity is needed, and none \
             was given: name the folder of cert-chain.pem, key.pem and root-cert.pem with \
             --identity"
        );
        assert_eq!(told.said("SRT0512").len(), 1);
    }

    #[test]
    fn d8_tls_that_is_added_to_a_port_for_tls_is_said_unless_it_is_allowed() {
        let said = |allow: bool, mode: &str| {
            let lab = lab(STATIC, mode).options(|options| options.allow_tls_in_tls = allow);
            lab.refer("a.example", 443, "").said("SRT0505").len()
        };
        assert_eq!(said(false, "mode: SIMPLE"), 1);
        assert_eq!(said(true, "mode: SIMPLE"), 0);
        assert_eq!(said(false, "mode: DISABLE"), 0);
    }

    #[test]
    fn d8_tls_in_tls_is_allowed_by_the_flag_alone() {
        for allow in [false, true] {
            for mode in ["SIMPLE", "ISTIO_MUTUAL"] {
                let lab = lab(STATIC, &format!("mode: {mode}"));
                let lab = lab.options(|options| options.allow_tls_in_tls = allow);
                let told = lab.refer("a.example", 443, "");
                assert_eq!(told.tls().allow_tls_in_tls, allow);
            }
        }
    }

    #[test]
    fn t4_a_credential_on_a_sidecar_is_honoured_and_said() {
        let lab = |settings: &str| lab(STATIC, settings);
        let secret = "mode: SIMPLE, credentialName: c";
        let told = lab(secret).refer("a.example", 443, "");
        assert_eq!(told.broken(), "not broken");
        assert_eq!(
            told.said("SRT0504"),
            [
                "t.yaml:9: warning[SRT0504] DestinationRule default/a: Istio's sidecars ignore \
              credentialName \"c\" and send plaintext; sortie honours it; give the rule a \
              workloadSelector, and Istio honours it too"
            ]
        );
        let gateway = lab(secret).facts(|facts| facts.role = Role::Gateway);
        let told = gateway.refer("a.example", 443, "");
        assert_eq!(told.said("SRT0504"), Vec::<&str>::new());
        let map = lab("mode: SIMPLE, credentialName: 'configmap://default/c'");
        let told = map.refer("a.example", 443, "");
        assert_eq!(told.said("SRT0504"), Vec::<&str>::new());
    }

    #[test]
    fn a_check_that_is_switched_off_is_said() {
        let told = tls(STATIC, "mode: SIMPLE, insecureSkipVerify: true");
        assert_eq!(told.said("SRT0303").len(), 1);
        let by = "by \"DestinationRule default/a\" at t.yaml:9";
        assert_eq!(told.reason("ca"), format!("nothing is verified {by}"));
    }
}
