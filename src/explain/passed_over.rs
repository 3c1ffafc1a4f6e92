//! Why a rule does not hold for a request.
//!
//! Owns: taking a rule's conditions apart, so that those which fail can be named.
//! Never: compares anything itself: every condition alone is put to a table of its own.
//! Called by: `explain::request`.

use std::collections::HashMap;

use http::header::HOST;

use super::words::condition;
use crate::message::RequestHead;
use crate::model::{
    Action, Destination, HostPattern, HostRoutes, MatchSpec, Place, Respond, RuleSpec,
};
use crate::route::{Found, RouteTable, Scheme};

/// The number, from 1, and the words of the first alternative that holds; `None` where the rule has
/// no condition or none holds.
pub(super) fn holds(alternatives: &[MatchSpec], parts: &RequestHead) -> Option<(usize, String)> {
    let found = alternatives.iter().position(|spec| is_met(spec, parts))?;
    Some((found + 1, condition(alternatives.get(found)?)))
}

/// Why none of the alternatives holds: each with the conditions that fail.
pub(super) fn why_not(alternatives: &[MatchSpec], parts: &RequestHead) -> String {
    let failing = |spec: &MatchSpec| {
        let single = apart(spec).into_iter().filter(|one| !is_met(one, parts));
        let all: Vec<String> = single.map(|one| difference(&one, parts)).collect();
        match all.is_empty() {
            true => condition(spec),
            false => all.join(", "),
        }
    };
    let all: Vec<String> = alternatives.iter().map(failing).collect();
    all.join("; or ")
}

/// Asks the table that requests are routed by.
fn is_met(spec: &MatchSpec, parts: &RequestHead) -> bool {
    let respond = Action::Respond(Respond {
        status: 200,
        body: bytes::Bytes::new(),
    });
    let rule = RuleSpec {
        matches: vec![spec.clone()],
        ..RuleSpec::new(respond, Place::default())
    };
    let group = HostRoutes {
        hosts: vec![HostPattern::Any].into(),
        port: None,
        rules: vec![rule].into(),
        object: None,
        place: Place::default(),
    };
    let anywhere = Destination {
        host: "any.invalid".into(),
        port: 80,
    };
    match RouteTable::build(&[group], &HashMap::new()) {
        Ok(table) => matches!(table.find(&anywhere, parts, Scheme::Http), Found::Route(..)),
        Err(_) => false,
    }
}

/// Each condition alone.
fn apart(spec: &MatchSpec) -> Vec<MatchSpec> {
    let none = MatchSpec::default;
    let mut all = Vec::new();
    if !spec.methods.is_empty() {
        all.push(MatchSpec {
            methods: spec.methods.clone(),
            ..none()
        });
    }
    all.extend(spec.method.clone().map(|method| MatchSpec {
        method: Some(method),
        ..none()
    }));
    all.extend(spec.path.clone().map(|path| MatchSpec {
        path: Some(path),
        path_ignores_case: spec.path_ignores_case,
        ..none()
    }));
    all.extend(spec.scheme.clone().map(|scheme| MatchSpec {
        scheme: Some(scheme),
        ..none()
    }));
    all.extend(spec.authority.clone().map(|authority| MatchSpec {
        authority: Some(authority),
        ..none()
    }));
    all.extend(spec.headers.iter().map(|header| MatchSpec {
        headers: vec![header.clone()],
        ..none()
    }));
    all.extend(spec.query.iter().map(|query| MatchSpec {
        query: vec![query.clone()],
        ..none()
    }));
    all
}

/// What the request has, and what was asked for.
fn difference(single: &MatchSpec, parts: &RequestHead) -> String {
    let wanted = condition(single);
    if let Some((name, _)) = single.headers.first() {
        let values = parts.headers.get_all(name);
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        return match values.is_empty() {
            true => format!("there is no {name}, wanted {wanted}"),
            false => format!("{name} is \"{}\", wanted {wanted}", values.join(",")),
        };
    }
    let (what, got) = if !single.methods.is_empty() || single.method.is_some() {
        ("the method", parts.method.to_string())
    } else if single.path.is_some() {
        ("the path", parts.uri.path().to_owned())
    } else if single.scheme.is_some() {
        ("the scheme", "http".to_owned())
    } else if single.authority.is_some() {
        let host = parts.headers.get(&HOST);
        let host = host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        ("the authority", host.unwrap_or_default())
    } else {
        ("the query", parts.uri.query().unwrap_or("empty").to_owned())
    };
    format!("{what} is {got}, wanted {wanted}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HeaderMatch, QueryMatch, StringMatch};
    use http::HeaderName;

    fn parts(path: &str, headers: &[(&str, &str)]) -> RequestHead {
        let mut request = http::Request::get(path).header(HOST, "bank.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0.into()
    }

    fn path(text: &str) -> MatchSpec {
        MatchSpec {
            path: Some(StringMatch::Prefix(text.to_owned())),
            ..MatchSpec::default()
        }
    }

    #[test]
    fn only_the_conditions_that_fail_are_named_with_what_came() {
        let spec = MatchSpec {
            methods: vec![http::Method::POST],
            headers: vec![(
                HeaderName::from_static("x-tier"),
                HeaderMatch::Value(StringMatch::Exact("gold".into())),
            )],
            ..path("/v1")
        };
        assert_eq!(
            why_not(
                std::slice::from_ref(&spec),
                &parts("/v1/a", &[("x-tier", "tin")])
            ),
            "the method is GET, wanted POST, x-tier is \"tin\", wanted x-tier:gold"
        );
        assert_eq!(
            why_not(&[spec, path("/v2")], &parts("/v3", &[("x-tier", "gold")])),
            "the method is GET, wanted POST, the path is /v3, wanted /v1*; or the path is /v3, wanted /v2*"
        );
    }

    #[test]
    fn a_header_and_a_query_that_are_not_there_are_told() {
        let header = MatchSpec {
            headers: vec![(HeaderName::from_static("x-a"), HeaderMatch::Present)],
            ..MatchSpec::default()
        };
        let query = MatchSpec {
            query: vec![("a".to_owned(), QueryMatch::Present)],
            ..MatchSpec::default()
        };
        assert_eq!(
            why_not(&[header, query], &parts("/", &[])),
            "there is no x-a, wanted x-a:*; or the query is empty, wanted ?a"
        );
    }

    #[test]
    fn v7_the_first_alternative_that_holds_is_the_one() {
        let alternatives = [path("/v2"), path("/v1"), path("/")];
        let got = holds(&alternatives, &parts("/v1/x", &[]));
        assert_eq!(got, Some((2, "/v1*".to_owned())));
        assert_eq!(holds(&alternatives[..2], &parts("/v3", &[])), None);
    }
}
