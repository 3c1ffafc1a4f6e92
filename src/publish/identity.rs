//! Whether the mesh identity is who the flags say that this proxy is.
//!
//! Owns: the warning (ISTIO.md P14, Z1).
//! Never: decides by it: what peers see is the certificate, and what documents apply the flags say.
//! Called by: `publish::reload`, for each configuration that is taken.

use std::sync::Arc;

use crate::certs::Credentials;
use crate::model::{CaSource, Config, CredentialSpec, IdentitySource, MeshIdentity, ProxyFacts};
use crate::tls::San;

/// Logs where certificate and flags disagree. Nothing where the identity is not in use.
pub(super) fn compare(config: &Config, credentials: &Credentials) {
    let facts = &*config.facts;
    let mut secured = config.entrances.iter().filter_map(|one| one.tls.spec());
    let accepted = secured.find(|spec| !spec.trust_domains.is_empty());
    let accepted = accepted.map_or(&[][..], |spec| &spec.trust_domains);
    let known = facts.identity.iter().chain(&facts.server_identity);
    for identity in known {
        let state = credentials.find(&spec(identity));
        let leaf = state.and_then(|state| state.current.as_ref()?.identity.as_ref());
        let Some(leaf) = leaf else { continue };
        for problem in disagreements(facts, accepted, &leaf.leaf.sans) {
            tracing::warn!(file = %identity.certificate.display(), "{problem}");
        }
    }
}

fn spec(identity: &MeshIdentity) -> CredentialSpec {
    CredentialSpec {
        identity: Some(IdentitySource::Files(
            identity.certificate.clone(),
            identity.key.clone(),
        )),
        ca: CaSource::File(identity.ca.clone()),
        crl: None,
    }
}

/// In words. The trust domain is compared where it was given, for the mesh configuration may say
/// another, and with those of which clients are `accepted`.
fn disagreements(facts: &ProxyFacts, accepted: &[Arc<str>], names: &[San]) -> Vec<String> {
    let spiffe = names.iter().find_map(|name| match name {
        San::Uri(uri) => Some((uri, uri.strip_prefix("spiffe://")?)),
        San::Dns(_) | San::Ip(_) | San::Email(_) => None,
    });
    let Some((uri, rest)) = spiffe else {
        return Vec::new();
    };
    let mut parts = rest.split('/');
    let (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) = (
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) else {
        return Vec::new();
    };
    let given = (facts.trust_domain != ProxyFacts::default().trust_domain)
        .then(|| facts.trust_domain.replace('@', "."));
    let known = accepted.iter().any(|one| **one == *domain);
    let expected = accepted.first().filter(|_| !known).map(ToString::to_string);
    let given = given.or(expected);
    let said = [
        ("--namespace", Some(facts.namespace.as_ref()), namespace),
        (
            "--service-account",
            facts.service_account.as_deref(),
            account,
        ),
        ("--trust-domain", given.as_deref(), domain),
    ];
    let wrong = said
        .into_iter()
        .filter_map(|(flag, said, is)| Some((flag, said.filter(|said| *said != is)?, is)));
    wrong
        .map(|(flag, said, is)| {
            format!(
                "the mesh identity is {uri}, and {flag} is {said}: peers know this proxy by its \
                 certificate, and documents are read as for {said}; run it with {flag} {is}"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut ProxyFacts), names: &[San]) -> Vec<String> {
        let mut facts = ProxyFacts::default();
        change(&mut facts);
        disagreements(&facts, &[], names)
    }

    fn uri(text: &str) -> Vec<San> {
        vec![San::Dns("a.example".to_owned()), San::Uri(text.to_owned())]
    }

    #[test]
    fn p14_an_identity_that_says_what_the_flags_say_is_not_told() {
        let own = uri("spiffe://cluster.local/ns/default/sa/me");
        assert_eq!(told(|_| (), &own), Vec::<String>::new());
        let account = |facts: &mut ProxyFacts| facts.service_account = Some("me".into());
        assert_eq!(told(account, &own), Vec::<String>::new());
        // The mesh configuration may name it.
        let other = uri("spiffe://corp.example/ns/default/sa/me");
        assert_eq!(told(|_| (), &other), Vec::<String>::new());
        let at = uri("spiffe://a.b/ns/default/sa/me");
        assert_eq!(
            told(|facts| facts.trust_domain = "a@b".into(), &at),
            Vec::<String>::new()
        );
    }

    #[test]
    fn p14_each_flag_that_disagrees_with_the_certificate_is_told() {
        let own = uri("spiffe://cluster.local/ns/foo/sa/httpbin");
        let all = told(
            |facts| {
                facts.service_account = Some("sleep".into());
                facts.trust_domain = "td".into();
            },
            &own,
        );
        assert_eq!(all.len(), 3, "{all:?}");
        assert_eq!(
            all[0],
            "the mesh identity is spiffe://cluster.local/ns/foo/sa/httpbin, and --namespace is \
             default: peers know this proxy by its certificate, and documents are read as for \
             default; run it with --namespace foo"
        );
        assert!(all[1].ends_with("--service-account httpbin"), "{all:?}");
        assert!(all[2].ends_with("--trust-domain cluster.local"), "{all:?}");
    }

    #[test]
    fn p12_an_identity_of_another_trust_domain_than_its_clients_is_told() {
        let own = uri("spiffe://corp.example/ns/default/sa/me");
        let told = |accepted: &[&str]| {
            let accepted: Vec<Arc<str>> = accepted.iter().map(|one| (*one).into()).collect();
            disagreements(&ProxyFacts::default(), &accepted, &own)
        };
        assert_eq!(told(&["corp.example"]), Vec::<String>::new());
        assert_eq!(told(&["new.example", "corp.example"]), Vec::<String>::new());
        let said = told(&["cluster.local"]);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].ends_with("--trust-domain corp.example"), "{said:?}");
    }

    #[test]
    fn a_certificate_that_is_no_mesh_identity_is_not_compared() {
        for text in ["https://a.example", "spiffe://cluster.local/workload/x"] {
            assert_eq!(told(|_| (), &uri(text)), Vec::<String>::new(), "{text}");
        }
    }
}
