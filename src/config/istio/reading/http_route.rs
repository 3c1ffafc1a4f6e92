//! One of `http` of a VirtualService (ISTIO.md V7 to V16, 1.4, X8).
//!
//! Owns: which action a route has, and what may stand beside it.
//! Never: looks a destination up.
//! Called by: virtual_service.

use crate::config::cursor::At;
use crate::config::diagnostic::Code;
use crate::config::format::{Format, quote};
use crate::config::istio::tables::virtual_service::DERIVE_PORT;
use crate::config::istio::virtual_service::{Destination, HttpAction, HttpDestination, HttpRoute};
use crate::model::{HeaderOps, Redirect, RedirectPath, RedirectPort, Respond};

use super::context::Reading;
use super::{http_headers, http_match, http_traffic, names, secret, value};

/// All of them.
pub fn read(spec: &At<'_>, r: &mut Reading<'_>) -> Vec<HttpRoute> {
    let list = spec.key("http");
    let items = list.iter().flat_map(At::items);
    items.filter_map(|item| route(&item, r)).collect()
}

fn route(at: &At<'_>, r: &mut Reading<'_>) -> Option<HttpRoute> {
    let matches = at.key("match");
    let matches = matches.iter().flat_map(At::items);
    let matches = matches.map(|item| http_match::read(&item, r)).collect();
    beside(at, r);
    let action = action(at, r);
    let (headers, rewrite) = (at.key("headers"), at.key("rewrite"));
    let mut authorities = http_headers::Authorities::default();
    if let Some(rewrite) = &rewrite {
        authorities.rewrite(rewrite, r);
    }
    let request = headers.as_ref().and_then(|headers| headers.key("request"));
    let request_headers = match &request {
        Some(request) => http_headers::request(request, &mut authorities, r),
        None => HeaderOps::default(),
    };
    let response = headers.as_ref().and_then(|headers| headers.key("response"));
    let response_headers = response.map(|at| http_headers::response(&at, r));
    Some(HttpRoute {
        name: value::text(at, "name").map(Into::into),
        matches,
        action: action?,
        rewrite_authority: authorities.chosen(),
        rewrite_path: rewrite.and_then(|at| http_traffic::rewrite(&at, r)),
        timeout: value::duration(at, "timeout").filter(|timeout| !timeout.is_zero()),
        retries: at.key("retries").map(|at| http_traffic::retries(&at, r)),
        fault: at
            .key("fault")
            .map(|at| http_traffic::fault(&at, r))
            .unwrap_or_default(),
        mirrors: http_traffic::mirrors(at, r),
        request_headers,
        response_headers: response_headers.unwrap_or_default(),
        place: at.place(),
    })
}

/// What may not stand together.
fn beside(at: &At<'_>, r: &mut Reading<'_>) {
    for (action, others) in [
        (
            "redirect",
            &["rewrite", "fault", "mirror", "mirrors", "retries"][..],
        ),
        (
            "directResponse",
            &["rewrite", "fault", "mirror", "mirrors", "retries"][..],
        ),
    ] {
        for other in others
            .iter()
            .filter(|other| at.has(action) && at.has(other))
        {
            let problem = format!("{other} means nothing beside {action}");
            r.wrong_key(at, other, problem, "keep one of the two");
        }
    }
}

fn action(at: &At<'_>, r: &mut Reading<'_>) -> Option<HttpAction> {
    let actions = ["route", "redirect", "directResponse", "delegate"];
    let full = |key: &&&str| {
        at.key(key)
            .is_some_and(|value| **key != "route" || value.items().next().is_some())
    };
    let mut there = actions.iter().filter(full);
    let Some(first) = there.next() else {
        let problem = "there is none of route, redirect and directResponse".to_owned();
        r.wrong(at, problem, "write route: with at least one destination");
        return None;
    };
    for other in there {
        let problem = format!("{other} cannot stand beside {first}");
        r.wrong_key(at, other, problem, "keep one of the two");
    }
    match *first {
        "route" => Some(HttpAction::Route(destinations(at, r))),
        "redirect" => redirect(&at.key("redirect")?, r).map(HttpAction::Redirect),
        "directResponse" => respond(&at.key("directResponse")?, r).map(HttpAction::Respond),
        // Only with --lenient is the object kept: what the delegate would do is not known.
        _ => Some(HttpAction::Respond(Respond {
            status: 503,
            body: "sortie does not follow delegates".into(),
        })),
    }
}

fn destinations(at: &At<'_>, r: &mut Reading<'_>) -> Vec<HttpDestination> {
    let list = at.key("route");
    let several = list.iter().flat_map(At::items).count() > 1;
    let mut all = Vec::new();
    for item in list.iter().flat_map(At::items) {
        let mut authorities = http_headers::Authorities::default();
        let headers = item.key("headers");
        let request = headers.as_ref().and_then(|headers| headers.key("request"));
        let request_headers = match &request {
            Some(request) => http_headers::request(request, &mut authorities, r),
            None => HeaderOps::default(),
        };
        let response = headers.as_ref().and_then(|headers| headers.key("response"));
        let response_headers = response.map(|at| http_headers::response(&at, r));
        let Some(destination) = destination_of(&item, r) else {
            continue;
        };
        all.push(HttpDestination {
            destination,
            weight: weight(&item, several),
            authority: authorities.chosen(),
            request_headers,
            response_headers: response_headers.unwrap_or_default(),
        });
    }
    check_weights(at, several, all.iter().map(|one| one.weight), r);
    all
}

/// V10: one destination has everything, whatever its weight.
pub fn weight(at: &At<'_>, several: bool) -> u32 {
    match several {
        true => value::whole(at, "weight").unwrap_or_default(),
        false => 1,
    }
}

/// Of several destinations one must have a weight.
pub fn check_weights(
    at: &At<'_>,
    several: bool,
    mut weights: impl Iterator<Item = u32>,
    r: &mut Reading<'_>,
) {
    if several && weights.all(|weight| weight == 0) {
        let problem = "the weights of the destinations add up to 0".to_owned();
        r.wrong_key(
            at,
            "route",
            problem,
            "write weight: 1 or more at one of them",
        );
    }
}

/// `destination` of a route.
pub fn destination_of(at: &At<'_>, r: &mut Reading<'_>) -> Option<Destination> {
    match at.key("destination") {
        Some(at) => destination(&at, r),
        None => {
            let problem = "there is no destination".to_owned();
            r.wrong_key(
                at,
                "destination",
                problem,
                "write destination: {host: name}",
            );
            None
        }
    }
}

/// Host, subset and port.
pub fn destination(at: &At<'_>, r: &mut Reading<'_>) -> Option<Destination> {
    let Some(host) = at.key("host").filter(|host| host.as_text() != Some("")) else {
        let problem = "the destination has no host".to_owned();
        r.wrong_key(at, "host", problem, "write host: name.ns.svc.cluster.local");
        return None;
    };
    names::pattern(&host, r)?;
    if let Some(port) = at.key("port")
        && !port.has("number")
    {
        let problem = "the port has no number".to_owned();
        r.wrong_key(&port, "number", problem, "write port: {number: 443}");
    }
    Some(Destination {
        host: host.as_text()?.to_owned(),
        subset: value::text(at, "subset").map(Into::into),
        port: at.key("port").and_then(|port| value::port(&port, "number")),
        place: at.place(),
    })
}

fn redirect(at: &At<'_>, r: &mut Reading<'_>) -> Option<Redirect> {
    let keys = [
        "uri",
        "prefixRewrite",
        "authority",
        "port",
        "derivePort",
        "scheme",
    ];
    // With a status alone it would lead to where the request came from, for ever.
    if !keys.iter().any(|key| at.has(key)) {
        let problem = "the redirect does not say where to".to_owned();
        r.wrong(at, problem, "write uri, authority, scheme or port");
    }
    let status = value::whole(at, "redirectCode")
        .filter(|code| *code != 0)
        .unwrap_or(301);
    if ![301, 302, 303, 307, 308].contains(&status) {
        let problem = format!("{status} is not the status of a redirect");
        r.wrong_key(
            at,
            "redirectCode",
            problem,
            "write 301, 302, 303, 307 or 308",
        );
    }
    let scheme = value::text(at, "scheme");
    if let Some(other) = scheme.filter(|scheme| !matches!(*scheme, "http" | "https")) {
        let problem = format!("{} is not a scheme that sortie knows", quote(other));
        r.wrong_key(at, "scheme", problem, "write http or https");
    }
    let path = |key: &str, r: &mut Reading<'_>| {
        names::formatted_key(at, key, Format::NewPath, r).map(str::to_owned)
    };
    let whole = path("uri", r).map(RedirectPath::Whole);
    let prefix = path("prefixRewrite", r).map(RedirectPath::Prefix);
    let port = value::port(at, "port").map(RedirectPort::Number);
    let derived = value::word(at, "derivePort", DERIVE_PORT).map(|word| match word {
        "FROM_REQUEST_PORT" => RedirectPort::OfRequest,
        _ => RedirectPort::OfScheme,
    });
    Some(Redirect {
        status,
        scheme: scheme.map(str::to_owned),
        authority: names::formatted_key(at, "authority", Format::Authority, r).map(str::to_owned),
        path: whole.or(prefix),
        port: port.or(derived),
    })
}

fn respond(at: &At<'_>, r: &mut Reading<'_>) -> Option<Respond> {
    let status = value::whole(at, "status").unwrap_or_default();
    if !(200..=599).contains(&status) {
        let (problem, advice) = match status {
            0 => (
                "the answer has no status".to_owned(),
                "write status: 200 or another",
            ),
            n => (
                format!("{n} is not a status to answer with"),
                "write one from 200 to 599",
            ),
        };
        r.wrong_key(at, "status", problem, advice);
    }
    let body = at.key("body");
    let body = body.as_ref();
    let text = body
        .and_then(|body| body.text("string"))
        .map(|text| text.as_bytes().to_vec());
    let bytes = body.and_then(|body| body.text("bytes")).map(secret::base64);
    if let (Some(None), Some(body)) = (&bytes, body) {
        let problem = "the body is not base64".to_owned();
        r.wrong_key(
            body,
            "bytes",
            problem,
            "encode it, or write it under string",
        );
    }
    let body_bytes = text.or_else(|| bytes.flatten()).unwrap_or_default();
    if body_bytes.len() > 1 << 20 {
        let problem = "the body has more than 1 MiB".to_owned();
        r.error(at.wrong_key(
            "body",
            Code::OutOfBounds,
            problem,
            "serve it from an upstream",
        ));
    }
    Some(Respond {
        status,
        body: body_bytes.into(),
    })
}
