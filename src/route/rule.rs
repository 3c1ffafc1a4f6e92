//! One rule, compiled: when it holds, and what it does.
//!
//! Owns: [`Route`], all that a request needs to know once its rule is found.
//! Never: knows for which host it stands (that is `table`).
//! Called by: `table` (compiles and tests), proxy (reads the route).
//!
//! Why what is usually empty is shared: 100,000 rules without header changes should not hold
//! 100,000 copies of nothing.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::changes::{HeaderChanges, take_host};
use super::matcher::{Matched, Matcher};
use super::redirect::{CompiledRedirect, Scheme};
use super::retry::RetryBudget;
use super::rewrite::{CompiledRewrite, NewAuthority, RewriteSpecError};
use super::split::{Choice, OwnChanges, Split};
use super::text::{RegexError, Regexes};
use crate::message::RequestHead;
use crate::model::{
    Abort, Action, Fault, HeaderOps, Mirror, Place, Respond, Retries, Rewrite, RuleSpec, Share,
    Weighted,
};
use crate::telemetry::FormatError;
use crate::upstream::Upstream;

/// What becomes of a request that met a rule.
pub struct Route {
    /// `%ROUTE_NAME%`, if the rule has one.
    pub name: Option<Arc<str>>,
    /// Where the rule was written.
    pub place: Place,
    /// What to do.
    pub action: RouteAction,
    /// Changes of host and path; only for [`RouteAction::Forward`].
    pub rewrite: Arc<CompiledRewrite>,
    /// Changes to the request's headers. Never holds `host`, which is a rewrite (ISTIO.md V12).
    pub request_headers: Arc<HeaderChanges>,
    /// Changes to the answer's headers.
    pub response_headers: Arc<HeaderChanges>,
    /// Faults and mirrors; mostly there are none.
    pub extras: Option<Box<Extras>>,
    /// From the whole request read to the whole answer begun (ISTIO.md V13); `None`: no bound.
    pub timeout: Option<Duration>,
    /// What is tried again, and how often (ISTIO.md V14, X5).
    pub retries: Arc<Retries>,
    /// How many retries may be under way; touched only by a retry.
    pub retry_budget: RetryBudget,
}

/// What a rule does.
pub enum RouteAction {
    /// To one of these upstreams.
    Forward(Split),
    /// Answer with a redirect; see [`super::location`].
    Redirect(Box<CompiledRedirect>),
    /// Answer as written.
    Respond(Box<Respond>),
}

/// What is done beside sending a request (ISTIO.md V16).
pub struct Extras {
    /// What is done wrong on purpose.
    pub fault: Fault,
    /// Who gets a copy, and of how many requests.
    pub mirrors: Box<[(Arc<Upstream>, Share)]>,
}

/// Conditions and the route that they lead to.
pub struct Rule {
    /// Any one of them must hold; none at all: always.
    matchers: Box<[Matcher]>,
    route: Route,
}

/// Why a rule cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RuleProblem {
    /// A regular expression of a condition.
    #[error(transparent)]
    Regex(#[from] RegexError),
    /// The rewrite or the redirect.
    #[error(transparent)]
    Rewrite(#[from] RewriteSpecError),
    /// A name that no upstream has.
    #[error("there is no upstream {0:?}")]
    UnknownUpstream(Arc<str>),
    /// No upstream, or several that all have weight 0 (ISTIO.md V10).
    #[error("no upstream could ever be chosen: there is none, or every weight is 0")]
    NoShare,
    /// More than one of rewrite, request set and request add names the authority (ISTIO.md X8).
    #[error("the authority is set more than once: by the rewrite, by `set` or by `add` of `host`")]
    AuthorityTwice,
    /// A value of `host` that is no text.
    #[error("the value for `host` is not a host, or a host and a port")]
    HostValue,
    /// An answer's status that is not a final one.
    #[error("{0} is not a status from 200 to 599")]
    Status(u16),
    /// The format string of a header's value.
    #[error("the value of a header cannot be used: {0}")]
    Format(#[from] FormatError),
}

/// What the rules of one table share while it is built.
pub(super) struct Compiler<'a> {
    upstreams: &'a HashMap<Arc<str>, Arc<Upstream>>,
    regexes: Regexes,
    no_rewrite: Arc<CompiledRewrite>,
    no_headers: Arc<HeaderChanges>,
    /// Those of the rule before; mostly they are equal.
    retries: Arc<Retries>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(upstreams: &'a HashMap<Arc<str>, Arc<Upstream>>) -> Self {
        Compiler {
            upstreams,
            regexes: Regexes::default(),
            no_rewrite: Arc::default(),
            no_headers: Arc::default(),
            retries: Arc::default(),
        }
    }

    /// Compiles one rule.
    pub(super) fn rule(&mut self, spec: &RuleSpec) -> Result<Rule, RuleProblem> {
        // Not collected: through a `Result` that would not know how many there will be.
        let mut matchers = Vec::with_capacity(spec.matches.len());
        for conditions in &spec.matches {
            matchers.push(Matcher::compile(conditions, &mut self.regexes)?);
        }
        let action = self.action(&spec.action)?;
        let (rewrite, request_headers) = self.rewrite(&spec.rewrite, &spec.request_headers)?;
        if *self.retries != spec.retries {
            self.retries = Arc::new(spec.retries.clone());
        }
        let route = Route {
            name: spec.name.clone(),
            place: spec.place.clone(),
            action,
            rewrite,
            request_headers,
            response_headers: self.headers(&spec.response_headers)?,
            extras: self.extras(spec)?,
            timeout: spec.timeout,
            retries: Arc::clone(&self.retries),
            retry_budget: RetryBudget::default(),
        };
        Ok(Rule {
            matchers: matchers.into(),
            route,
        })
    }

    fn action(&self, spec: &Action) -> Result<RouteAction, RuleProblem> {
        Ok(match spec {
            Action::Forward(shares) => RouteAction::Forward(self.split(shares)?),
            Action::Redirect(redirect) => {
                RouteAction::Redirect(Box::new(CompiledRedirect::compile(redirect)?))
            }
            Action::Respond(respond) => {
                if !(200..=599).contains(&respond.status) {
                    return Err(RuleProblem::Status(respond.status));
                }
                RouteAction::Respond(Box::new(respond.clone()))
            }
        })
    }

    fn upstream(&self, name: &Arc<str>) -> Result<Arc<Upstream>, RuleProblem> {
        let found = self.upstreams.get(name).map(Arc::clone);
        found.ok_or_else(|| RuleProblem::UnknownUpstream(Arc::clone(name)))
    }

    fn split(&self, shares: &[Weighted]) -> Result<Split, RuleProblem> {
        let mut found = Vec::with_capacity(shares.len());
        for share in shares {
            let upstream = self.upstream(&share.upstream)?;
            let own = own_changes(share)?;
            found.push((Choice { upstream, own }, share.weight));
        }
        Split::new(found).ok_or(RuleProblem::NoShare)
    }

    fn extras(&self, spec: &RuleSpec) -> Result<Option<Box<Extras>>, RuleProblem> {
        if spec.fault == Fault::default() && spec.mirrors.is_empty() {
            return Ok(None);
        }
        if let Some((Abort::Http(status @ (..200 | 600..)), _)) = spec.fault.abort {
            return Err(RuleProblem::Status(status));
        }
        let mirror = |mirror: &Mirror| Ok((self.upstream(&mirror.upstream)?, mirror.share));
        let mirrors = spec.mirrors.iter().map(mirror);
        Ok(Some(Box::new(Extras {
            fault: spec.fault.clone(),
            mirrors: mirrors.collect::<Result<_, RuleProblem>>()?,
        })))
    }

    /// The rewrite, and the header changes without `host`.
    fn rewrite(
        &mut self,
        rewrite: &Rewrite,
        headers: &HeaderOps,
    ) -> Result<(Arc<CompiledRewrite>, Arc<HeaderChanges>), RuleProblem> {
        if *rewrite == Rewrite::default() && *headers == HeaderOps::default() {
            return Ok((Arc::clone(&self.no_rewrite), Arc::clone(&self.no_headers)));
        }
        let (headers, host) = take_host(headers, rewrite.host.clone())?;
        let path = rewrite.path.clone();
        let rewrite = Rewrite { host, path };
        let compiled = if rewrite == Rewrite::default() {
            Arc::clone(&self.no_rewrite)
        } else {
            Arc::new(CompiledRewrite::compile(&rewrite, &mut self.regexes)?)
        };
        Ok((compiled, self.headers(&headers)?))
    }

    fn headers(&self, ops: &HeaderOps) -> Result<Arc<HeaderChanges>, RuleProblem> {
        if *ops == HeaderOps::default() {
            Ok(Arc::clone(&self.no_headers))
        } else {
            Ok(Arc::new(HeaderChanges::compile(ops)?))
        }
    }
}

/// What one upstream of a split changes for itself alone (ISTIO.md V11, V12).
fn own_changes(share: &Weighted) -> Result<Option<Box<OwnChanges>>, RuleProblem> {
    let none = HeaderOps::default();
    if share.host.is_none() && share.request_headers == none && share.response_headers == none {
        return Ok(None);
    }
    let (request, host) = take_host(&share.request_headers, share.host.clone())?;
    Ok(Some(Box::new(OwnChanges {
        authority: host.as_deref().map(NewAuthority::parse).transpose()?,
        request_headers: HeaderChanges::compile(&request)?,
        response_headers: HeaderChanges::compile(&share.response_headers)?,
    })))
}

impl Rule {
    /// What matched, or `None`. Conditions are alternatives, tried in the order written (V7).
    pub(super) fn test(&self, parts: &RequestHead, scheme: Scheme) -> Option<Matched> {
        if self.matchers.is_empty() {
            return Some(Matched::default());
        }
        let mut matchers = self.matchers.iter();
        matchers.find_map(|matcher| matcher.test(parts, scheme))
    }

    /// Where it leads.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// Each alternative in words, for people; empty where the rule always holds.
    pub fn conditions(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.matchers.iter()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::{HOST, HeaderName, WARNING};

    use super::super::tests::{parts, upstreams};
    use super::*;
    use crate::model::{HeaderText, MatchSpec, Redirect, RedirectPath, StringMatch};

    fn spec(action: Action) -> RuleSpec {
        RuleSpec::new(action, Place::default())
    }

    fn to(upstream: &str, weight: u32) -> Weighted {
        Weighted::new(upstream, weight)
    }

    fn forward() -> RuleSpec {
        spec(Action::Forward(vec![to("bank", 1)]))
    }

    fn compile(spec: &RuleSpec) -> Result<Rule, RuleProblem> {
        Compiler::new(&upstreams(&["bank"])).rule(spec)
    }

    fn host(value: &'static str) -> (HeaderName, HeaderText) {
        (HOST, HeaderValue::from_static(value).into())
    }

    fn path(path: &str) -> MatchSpec {
        MatchSpec {
            path: Some(StringMatch::Prefix(path.into())),
            ..MatchSpec::default()
        }
    }

    #[test]
    fn v7_conditions_are_alternatives_in_the_order_written() {
        let mut rule = forward();
        rule.matches = vec![path("/aa"), path("/a")];
        let rule = compile(&rule).unwrap();
        let prefix = |uri| {
            rule.test(&parts("GET", uri, &[]), Scheme::Http)
                .map(|got| got.prefix)
        };
        assert_eq!(prefix("/aab"), Some(Some(3)));
        assert_eq!(prefix("/ab"), Some(Some(2)));
        assert_eq!(prefix("/b"), None);
        let shown: Vec<_> = rule.conditions().map(|one| one.to_string()).collect();
        assert_eq!(shown, ["/aa*", "/a*"]);
    }

    #[test]
    fn v7_a_rule_without_conditions_always_holds() {
        let rule = compile(&forward()).unwrap();
        assert_eq!(
            rule.test(&parts("GET", "/", &[]), Scheme::Http),
            Some(Matched::default())
        );
        assert_eq!(rule.conditions().count(), 0);
    }

    #[test]
    fn v11_setting_the_host_header_is_a_rewrite_of_the_authority() {
        for add in [false, true] {
            let mut rule = forward();
            let list = if add {
                &mut rule.request_headers.add
            } else {
                &mut rule.request_headers.set
            };
            list.push(host("new.example"));
            list.push((WARNING, HeaderValue::from_static("kept").into()));
            let rule = compile(&rule).unwrap();
            let route = rule.route();
            let authority = route.rewrite.authority().unwrap();
            assert_eq!(authority.host.as_str(), "new.example");
            let ops = &route.request_headers;
            let left: Vec<_> = ops
                .set
                .iter()
                .chain(&ops.add)
                .map(|(name, _)| name)
                .collect();
            assert_eq!(left, [WARNING]);
        }
    }

    #[test]
    fn v12_removing_the_host_header_does_nothing() {
        let mut rule = forward();
        rule.request_headers.remove = vec![HOST, WARNING];
        let rule = compile(&rule).unwrap();
        assert_eq!(*rule.route().request_headers.remove, [WARNING]);
        assert!(rule.route().rewrite.is_empty());
    }

    #[test]
    fn v11_an_upstream_of_a_split_may_have_an_authority_and_headers_of_its_own() {
        let mut share = to("bank", 1);
        share.request_headers.set.push(host("own.example:81"));
        let warning = HeaderValue::from_static("own");
        share.response_headers.add.push((WARNING, warning.into()));
        let rule = compile(&spec(Action::Forward(vec![share, to("bank", 0)]))).unwrap();
        let RouteAction::Forward(split) = &rule.route().action else {
            panic!("it forwards");
        };
        let own = split.pick().own.as_ref().unwrap();
        assert_eq!(own.authority.as_ref().unwrap().host.as_str(), "own.example");
        assert!(own.request_headers.is_empty());
        assert_eq!(own.response_headers.add[0].0, WARNING);
    }

    #[test]
    fn an_upstream_of_a_split_without_changes_of_its_own_holds_none() {
        let rule = compile(&forward()).unwrap();
        let RouteAction::Forward(split) = &rule.route().action else {
            panic!("it forwards");
        };
        assert!(split.pick().own.is_none());
        assert!(rule.route().extras.is_none());
    }

    #[test]
    fn v16_faults_and_mirrors_are_compiled_and_what_leads_nowhere_is_refused() {
        let mirror = |upstream: &str| Mirror {
            upstream: upstream.into(),
            share: Share(5),
        };
        let mut rule = forward();
        rule.mirrors = vec![mirror("bank")];
        rule.fault.abort = Some((Abort::Http(599), Share::ALL));
        let compiled = compile(&rule).unwrap();
        let extras = compiled.route().extras.as_ref().unwrap();
        assert_eq!(extras.mirrors[0].0.spec().name.as_ref(), "bank");
        assert_eq!(
            (extras.mirrors[0].1, &extras.fault),
            (Share(5), &rule.fault)
        );
        rule.mirrors = vec![mirror("gone")];
        let problem = compile(&rule).err().unwrap();
        assert!(matches!(problem, RuleProblem::UnknownUpstream(_)));
        for status in [0, 199, 600] {
            let mut rule = forward();
            rule.fault.abort = Some((Abort::Http(status), Share::ALL));
            let problem = compile(&rule).err().unwrap();
            assert!(matches!(problem, RuleProblem::Status(_)), "{status}");
        }
    }

    #[test]
    fn x8_an_authority_set_twice_is_refused() {
        let mut by_both = forward();
        by_both.rewrite.host = Some("a".into());
        by_both.request_headers.set.push(host("b"));
        let mut by_headers = forward();
        by_headers.request_headers.set.push(host("a"));
        by_headers.request_headers.add.push(host("b"));
        let mut own = to("bank", 1);
        own.host = Some("a".into());
        own.request_headers.add.push(host("b"));
        let by_own = spec(Action::Forward(vec![own]));
        for rule in [by_both, by_headers, by_own] {
            let problem = compile(&rule).err().unwrap();
            assert!(matches!(problem, RuleProblem::AuthorityTwice), "{problem}");
        }
    }

    #[test]
    fn a_rule_that_leads_nowhere_is_refused() {
        let problem = |action| compile(&spec(action)).err().unwrap();
        assert!(matches!(
            problem(Action::Forward(vec![to("gone", 1)])),
            RuleProblem::UnknownUpstream(_)
        ));
        for shares in [vec![], vec![to("bank", 0), to("bank", 0)]] {
            assert!(matches!(
                problem(Action::Forward(shares)),
                RuleProblem::NoShare
            ));
        }
        let respond = |status| {
            Action::Respond(Respond {
                status,
                body: bytes::Bytes::new(),
            })
        };
        for status in [0, 100, 101, 199, 600] {
            assert!(matches!(problem(respond(status)), RuleProblem::Status(_)));
        }
        assert!(compile(&spec(respond(599))).is_ok());
        let redirect = Redirect {
            status: 200,
            scheme: None,
            authority: None,
            path: Some(RedirectPath::Whole("/".into())),
            port: None,
        };
        assert!(matches!(
            problem(Action::Redirect(redirect)),
            RuleProblem::Rewrite(_)
        ));
    }

    #[test]
    fn rules_without_changes_share_what_is_empty() {
        let upstreams = upstreams(&["bank"]);
        let mut compiler = Compiler::new(&upstreams);
        let (one, two) = (
            compiler.rule(&forward()).unwrap(),
            compiler.rule(&forward()).unwrap(),
        );
        let (one, two) = (one.route(), two.route());
        assert!(Arc::ptr_eq(&one.rewrite, &two.rewrite));
        assert!(Arc::ptr_eq(&one.request_headers, &two.response_headers));
        assert!(Arc::ptr_eq(&one.retries, &two.retries));
        assert!(size_of::<Rule>() <= 160, "{}", size_of::<Rule>());
    }
}
