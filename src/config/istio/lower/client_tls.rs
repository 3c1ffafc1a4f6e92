//! The `tls` of a DestinationRule, or of automatic mutual TLS, to a TLS policy (ISTIO.md T).
//!
//! Owns: SNI (T5, T6), which names the certificate must have (T7, T8, T12, X9), ALPN (T11).
//! Never: finds the settings (that is `traffic`) or the certificates (that is `credential`).
//! Called by: clusters.

use std::sync::Arc;

use super::credential::Credentials;
use super::registry::Known;
use super::scope::Mesh;
use super::traffic::{Said, mode_name};
use crate::config::diagnostic::Code;
use crate::config::istio::destination_rule::{TlsMode, TlsSettings};
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
        let tls = said.value;
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
        decided.findings.extend(self.remarks(said));
        Ok(decided)
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
        spec.name_check = self.options.name_check.unwrap_or(NameCheck::Off);
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
        let domains = mesh.trust_domain_aliases.iter();
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
