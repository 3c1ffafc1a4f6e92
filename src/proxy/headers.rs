//! What a proxy must take out of a message, put in, and leave alone (RFC 9110 section 7.6).
//!
//! Owns: hop-by-hop fields, expectations, upgrades, the loop mark, header changes.
//! Never: does I/O, or knows whose request it is.
//! Called by: `proxy::forward`.
//!
//! Why some names survive being listed in `Connection`: the field names options of one hop. A
//! client that lists `authorization` or `content-length` there would have us take away what the
//! receiver checks or how it finds the message's end, so essentials stay (see `END_TO_END`).

use bytes::Bytes;
use http::header::{CONNECTION, COOKIE, TE, UPGRADE, VIA};
use http::{HeaderName, HeaderValue, StatusCode, Version};

use crate::message::{Fields, Known, Set, Value};
use crate::route::{HeaderChanges, NewValue};
use crate::telemetry::FormatSet;

/// Fields that are for every recipient, so that naming one of them in `Connection` is against
/// RFC 9110 section 7.6.1 and is not followed. Sorted.
const END_TO_END: [&str; 32] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "last-modified",
    "location",
    "origin",
    "range",
    "referer",
    "set-cookie",
    "trailer",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

/// Fields of one hop that are dropped whether or not `Connection` lists them.
const OF_ONE_HOP: Set = Set::of(&[
    Known::Connection,
    Known::KeepAlive,
    Known::ProxyConnection,
    Known::Upgrade,
    Known::Http2Settings,
    Known::ProxyAuthenticate,
    Known::ProxyAuthorization,
]);

/// Takes out every field that is meant for one hop alone (RFC 9110 section 7.6.1).
///
/// - `TE` keeps its member `trailers`, which promises what we pass on, and loses the rest.
/// - `Transfer-Encoding` goes, since each hop frames for itself, and a `Content-Length` beside it
///   goes too (RFC 9112 section 6.3, rule 3). Alone, `Content-Length` stays: the body is unchanged.
/// - `Trailer` stays: it is about the content, and HTTP/1 senders need it to send trailers.
/// - `Upgrade` goes; take it with [`upgrade_asked`] before and put it back with [`set_upgrade`].
pub fn remove_hop_by_hop(headers: &mut Fields) {
    // Before the list, which may name it as well.
    if headers.has(Known::TransferEncoding) {
        headers.remove(Known::TransferEncoding);
        headers.remove(Known::ContentLength);
    }
    if headers.has(Known::Connection) {
        remove_listed(headers);
    }
    if headers.has_any(OF_ONE_HOP) {
        headers.retain(|field| !OF_ONE_HOP.contains(field.known()));
    }
    if headers.has(Known::Te) {
        let trailers = has_token(headers, Known::Te, "trailers");
        headers.remove(Known::Te);
        if trailers {
            headers.append(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Takes out what `Connection` lists, essentials aside.
fn remove_listed(headers: &mut Fields) {
    let ordinary = |token: &str| {
        ["keep-alive", "close", "upgrade", "te"]
            .iter()
            .any(|known| token.eq_ignore_ascii_case(known))
    };
    // Nothing is copied for the options that everyone sends.
    let usual = |value: &Value<'_>| value.is("keep-alive") || value.is("close");
    let listed: Vec<HeaderName> = headers
        .get_all(Known::Connection)
        .filter(|value| !usual(value))
        .flat_map(tokens)
        .filter(|token| !ordinary(token))
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .collect();
    for name in listed {
        // `TE` is dealt with by itself, also where it is listed as it must be.
        if name != TE && END_TO_END.binary_search(&name.as_str()).is_err() {
            headers.remove(&name);
        }
    }
}

/// The members of a comma-separated field; a value that is no text has none.
fn tokens(value: Value<'_>) -> impl Iterator<Item = &str> {
    let text = value.to_str().unwrap_or_default();
    text.split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

/// True where a value of `name` lists `token`, whatever its case; parameters are not looked at.
fn has_token(headers: &Fields, name: Known, token: &str) -> bool {
    let listed = |member: &str| {
        let bare = member.split(';').next().unwrap_or_default().trim_end();
        bare.eq_ignore_ascii_case(token)
    };
    headers.get_all(name).flat_map(tokens).any(listed)
}

/// What a client expects before it sends its body (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Nothing.
    None,
    /// `100-continue`.
    Continue,
    /// Something that nobody defines: 417.
    Unknown,
}

/// Takes the expectation out, because we answer it ourselves. HTTP/1.0 has none: it is dropped.
pub fn take_expectation(headers: &mut Fields, version: Version) -> Expectation {
    if !headers.has(Known::Expect) {
        return Expectation::None;
    }
    let known = headers
        .get_all(Known::Expect)
        .all(|value| value.is("100-continue"));
    headers.remove(Known::Expect);
    match (version < Version::HTTP_11, known) {
        (true, _) => Expectation::None,
        (false, true) => Expectation::Continue,
        (false, false) => Expectation::Unknown,
    }
}

/// Applies changes: remove, then set, then add (ISTIO.md V12). `expand` gives the values of their
/// formats, from the headers as they stand once the names to remove are gone.
///
/// A format without a value adds nothing, and where it is to be set the header goes: what the
/// client wrote must not pass for what the rule says.
pub fn apply_changes(
    headers: &mut Fields,
    changes: &HeaderChanges,
    expand: impl FnOnce(&FormatSet, &Fields) -> Vec<Option<HeaderValue>>,
) {
    for name in &changes.remove {
        headers.remove(name);
    }
    let values = match changes.formats() {
        Some(formats) => expand(formats, headers),
        None => Vec::new(),
    };
    let value = |value: &NewValue| match value {
        NewValue::Literal(value) => Some(value.clone()),
        NewValue::Format(number) => values.get(*number).cloned().flatten(),
    };
    for (name, new) in &changes.set {
        match value(new) {
            Some(value) => headers.insert(name, value),
            None => {
                headers.remove(name);
            }
        }
    }
    for (name, new) in &changes.add {
        if let Some(value) = value(new) {
            headers.append(name, value);
        }
    }
}

/// The protocol that a request asks to change to, exactly as it was written; `None` where it asks
/// for none or for one that is not to be passed on.
///
/// Needs HTTP/1.1, the option `upgrade` in `Connection`, and one `Upgrade` field with one member
/// (RFC 9110 section 7.8). `h2c`, `HTTP/...` and `TLS/...` are not passed on: they would carry
/// further requests past every check of ours.
pub fn upgrade_asked(headers: &Fields, version: Version) -> Option<HeaderValue> {
    if version != Version::HTTP_11 || !headers.has(Known::Upgrade) {
        return None;
    }
    let value = headers.only(Known::Upgrade)?;
    let mut members = tokens(value);
    let (first, second) = (members.next()?, members.next());
    let protocol = first.split('/').next().unwrap_or_default();
    let refused = ["h2c", "h2", "h3", "http", "tls"]
        .iter()
        .any(|known| protocol.eq_ignore_ascii_case(known));
    let asked = second.is_none() && !refused && has_token(headers, Known::Connection, "upgrade");
    headers.value(Known::Upgrade).filter(|_| asked)
}

/// Asks the next hop for, or agrees with the client on, the protocol of [`upgrade_asked`].
pub fn set_upgrade(headers: &mut Fields, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// True where an answer switches to the protocol that was `asked` for; a 101 for which this is
/// false is the upstream's protocol error (502).
pub fn has_switched(status: StatusCode, headers: &Fields, asked: Option<&HeaderValue>) -> bool {
    let same = |asked: &HeaderValue| {
        headers
            .only(Known::Upgrade)
            .is_some_and(|got| got.as_bytes().eq_ignore_ascii_case(asked.as_bytes()))
    };
    status == StatusCode::SWITCHING_PROTOCOLS && asked.is_some_and(same)
}

/// Everything that a request must lose, or gain, before it goes on: hop-by-hop fields, the
/// expectation that we answer ourselves (`100 Continue` is sent when the body is first read),
/// Envoy's internals; several cookies become one. `upgrade` is put back.
///
/// # Errors
/// The expectation is one that nobody defines (417).
pub fn clean_request(
    headers: &mut Fields,
    version: Version,
    upgrade: Option<HeaderValue>,
) -> Result<(), UnknownExpectation> {
    remove_hop_by_hop(headers);
    if headers.has(Known::Envoy) {
        remove_internal(headers);
    }
    if headers.has(Known::Cookie) {
        join_cookies(headers);
    }
    if headers.has(Known::Expect) && take_expectation(headers, version) == Expectation::Unknown {
        return Err(UnknownExpectation);
    }
    if let Some(protocol) = upgrade {
        set_upgrade(headers, protocol);
    }
    Ok(())
}

/// The client expects something that nobody defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownExpectation;

/// Makes one `Cookie` field of several, which HTTP/2 allows and HTTP/1.1 does not
/// (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut Fields) {
    let crumbs = headers.get_all(Known::Cookie);
    if crumbs.clone().nth(1).is_none() {
        return;
    }
    let mut joined = Vec::new();
    for crumb in crumbs {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(crumb.as_bytes());
    }
    // Valid values joined by valid bytes are a valid value, so the error cannot occur.
    if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(joined)) {
        headers.insert(COOKIE, value);
    }
}

/// Takes out Envoy's internal fields, which mean something inside a mesh and nothing to, and
/// nothing for, an external service (ISTIO.md B10).
pub fn remove_internal(headers: &mut Fields) {
    headers.retain(|field| field.known() != Known::Envoy);
}

/// The name under which this process marks what it has passed on (RFC 9110 section 7.6.3). A
/// pseudonym, so that no host name leaves with it; random, so that two sorties in a row are no loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pseudonym {
    name: String,
    via_10: HeaderValue,
    via_11: HeaderValue,
    via_20: HeaderValue,
}

impl Pseudonym {
    /// A pseudonym from a number that is this process's own.
    pub fn new(number: u64) -> Pseudonym {
        let name = format!("sortie-{number:016x}");
        let via = |version: &str| {
            // Letters, digits, a dot, a dash and a space are valid in every field value.
            HeaderValue::from_str(&format!("{version} {name}"))
                .unwrap_or_else(|_| HeaderValue::from_static("1.1 sortie"))
        };
        Pseudonym {
            via_10: via("1.0"),
            via_11: via("1.1"),
            via_20: via("2.0"),
            name,
        }
    }
}

/// True where the message has passed through this process before: a loop (508).
pub fn has_own_via(headers: &Fields, own: &Pseudonym) -> bool {
    let by_us = |member: &str| member.split_whitespace().nth(1) == Some(own.name.as_str());
    headers.get_all(Known::Via).flat_map(tokens).any(by_us)
}

/// Marks a message as passed on; `version` is the one it was received in.
pub fn add_via(headers: &mut Fields, version: Version, own: &Pseudonym) {
    let value = match version {
        Version::HTTP_09 | Version::HTTP_10 => &own.via_10,
        Version::HTTP_2 | Version::HTTP_3 => &own.via_20,
        _ => &own.via_11,
    };
    headers.append(VIA, value.clone());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Field;
    use crate::model::{HeaderOps, HeaderText};

    fn map(headers: &[(&str, &str)]) -> Fields {
        headers.iter().copied().collect()
    }

    fn names(headers: &Fields) -> Vec<String> {
        let name = |field: Field<'_>| field.to_name().unwrap().to_string();
        let mut names: Vec<_> = headers.iter().map(name).collect();
        names.sort();
        names
    }

    /// The names that are left, sorted.
    fn left(headers: &[(&str, &str)]) -> Vec<String> {
        let mut map = map(headers);
        remove_hop_by_hop(&mut map);
        names(&map)
    }

    #[test]
    fn the_list_of_essentials_is_sorted() {
        assert!(END_TO_END.is_sorted());
    }

    #[test]
    fn fields_of_one_hop_are_taken_out() {
        let headers = [
            ("connection", "close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic eDp5"),
            ("upgrade", "websocket"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip"),
            ("x-kept", "1"),
        ];
        assert_eq!(left(&headers), ["x-kept"]);
    }

    #[test]
    fn what_connection_lists_is_taken_out_whatever_its_case() {
        let headers = [
            ("connection", "keep-alive, X-One ,"),
            ("connection", "x-two,, bad name"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
        ];
        assert_eq!(left(&headers), ["x-three"]);
    }

    #[test]
    fn what_every_recipient_needs_stays_though_connection_lists_it() {
        let essentials = [
            "host",
            "content-length",
            "content-type",
            "authorization",
            "cookie",
            "via",
            "x-forwarded-for",
        ];
        let list = essentials.join(", ");
        let mut headers = vec![("connection", list.as_str())];
        headers.extend(essentials.iter().map(|name| (*name, "1")));
        let mut expected = essentials.to_vec();
        expected.sort_unstable();
        assert_eq!(left(&headers), expected);
    }

    #[test]
    fn te_keeps_trailers_and_nothing_else() {
        let te = |value: &str| {
            let mut map = map(&[("te", value), ("connection", "TE")]);
            remove_hop_by_hop(&mut map);
            map.get(&TE).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(te("trailers").as_deref(), Some("trailers"));
        assert_eq!(te("gzip;q=0.5, Trailers;q=1").as_deref(), Some("trailers"));
        assert_eq!(te("gzip"), None);
        assert_eq!(te(""), None);
    }

    #[test]
    fn a_length_stays_alone_and_goes_where_an_encoding_overrides_it() {
        assert_eq!(left(&[("content-length", "5")]), ["content-length"]);
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert!(left(&both).is_empty());
        let listed = [
            ("connection", "transfer-encoding"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
        ];
        assert!(left(&listed).is_empty());
    }

    #[test]
    fn trailer_stays_as_it_is_about_the_content() {
        let headers = [("trailer", "x-sum"), ("connection", "trailer")];
        assert_eq!(left(&headers), ["trailer"]);
    }

    #[test]
    fn an_expectation_is_taken_upon_us() {
        let take = |value: &str, version| {
            let mut map = map(&[("expect", value)]);
            let got = take_expectation(&mut map, version);
            assert!(map.is_empty());
            got
        };
        assert_eq!(
            take("100-Continue", Version::HTTP_11),
            Expectation::Continue
        );
        assert_eq!(take("100-continue", Version::HTTP_2), Expectation::Continue);
        assert_eq!(take("100-continue", Version::HTTP_10), Expectation::None);
        assert_eq!(take("a miracle", Version::HTTP_11), Expectation::Unknown);
        let none = take_expectation(&mut Fields::new(), Version::HTTP_11);
        assert_eq!(none, Expectation::None);
    }

    #[test]
    fn v12_changes_are_remove_then_set_then_add() {
        let pair = |name: &'static str, value: &'static str| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value).into(),
            )
        };
        let ops = HeaderOps {
            remove: vec![HeaderName::from_static("a"), HeaderName::from_static("b")],
            set: vec![pair("b", "set"), pair("c", "set")],
            add: vec![pair("a", "added"), pair("c", "added")],
        };
        let mut map = map(&[("a", "old"), ("b", "old"), ("c", "old"), ("c", "older")]);
        let changes = HeaderChanges::compile(&ops).unwrap();
        apply_changes(&mut map, &changes, |_, _| Vec::new());
        let values = |name| map.get_all(name).collect::<Vec<_>>();
        assert_eq!(values("a"), ["added"]);
        assert_eq!(values("b"), ["set"]);
        assert_eq!(values("c"), ["set", "added"]);
    }

    #[test]
    fn v12_formats_see_what_is_left_and_one_without_a_value_leaves_nothing() {
        let format = |name, text: &str| {
            (
                HeaderName::from_static(name),
                HeaderText::Format(text.into()),
            )
        };
        let ops = HeaderOps {
            remove: vec![HeaderName::from_static("gone")],
            set: vec![format("a", "one"), format("b", "two")],
            add: vec![format("c", "three"), format("d", "four")],
        };
        let changes = HeaderChanges::compile(&ops).unwrap();
        let mut map = map(&[("gone", "1"), ("a", "forged"), ("b", "forged"), ("d", "4")]);
        apply_changes(&mut map, &changes, |formats, headers| {
            assert_eq!(formats.len(), 4);
            assert!(!headers.contains_key("gone") && headers.contains_key("a"));
            let value = |text| Some(HeaderValue::from_static(text));
            vec![value("1"), None, value("3"), None]
        });
        let pair = |field: Field<'_>| (field.name().to_vec(), field.value().as_bytes().to_vec());
        let mut got: Vec<_> = map.iter().map(pair).collect();
        got.sort_unstable();
        let expected = [("a", "1"), ("c", "3"), ("d", "4")];
        assert_eq!(
            got,
            expected.map(|(name, value)| (name.into(), value.into()))
        );
    }

    fn websocket(connection: &str, upgrade: &[&str]) -> Fields {
        let mut headers = vec![("connection", connection)];
        headers.extend(upgrade.iter().map(|value| ("upgrade", *value)));
        map(&headers)
    }

    #[test]
    fn an_upgrade_goes_on_exactly_as_it_was_asked_for() {
        let mut headers = websocket("keep-alive, Upgrade", &["WebSocket"]);
        let asked = upgrade_asked(&headers, Version::HTTP_11).unwrap();
        remove_hop_by_hop(&mut headers);
        assert!(headers.is_empty());
        set_upgrade(&mut headers, asked);
        assert_eq!(headers.get(&CONNECTION).unwrap(), "upgrade");
        assert_eq!(headers.get(&UPGRADE).unwrap(), "WebSocket");
    }

    #[test]
    fn an_upgrade_that_is_none_or_would_hide_requests_does_not_go_on() {
        let asked = |headers: &Fields, version| upgrade_asked(headers, version).is_some();
        let good = websocket("upgrade", &["websocket"]);
        assert!(asked(&good, Version::HTTP_11));
        assert!(!asked(&good, Version::HTTP_10));
        assert!(!asked(&good, Version::HTTP_2));
        assert!(!asked(
            &websocket("close", &["websocket"]),
            Version::HTTP_11
        ));
        for upgrade in ["h2c", "H2C", "HTTP/2.0", "TLS/1.0", "", "websocket, h2c"] {
            let headers = websocket("upgrade", &[upgrade]);
            assert!(!asked(&headers, Version::HTTP_11), "{upgrade}");
        }
        let twice = websocket("upgrade", &["websocket", "h2c"]);
        assert!(!asked(&twice, Version::HTTP_11));
    }

    #[test]
    fn a_switch_counts_only_to_the_protocol_that_was_asked_for() {
        let asked = HeaderValue::from_static("websocket");
        let headers = websocket("upgrade", &["WebSocket"]);
        let status = StatusCode::SWITCHING_PROTOCOLS;
        assert!(has_switched(status, &headers, Some(&asked)));
        assert!(!has_switched(StatusCode::OK, &headers, Some(&asked)));
        assert!(!has_switched(status, &headers, None));
        let other = websocket("upgrade", &["h2c"]);
        assert!(!has_switched(status, &other, Some(&asked)));
        assert!(!has_switched(status, &Fields::new(), Some(&asked)));
    }

    #[test]
    fn several_cookies_become_one_in_their_order() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3; d=4")]);
        join_cookies(&mut headers);
        let joined: Vec<_> = headers.get_all(&COOKIE).collect();
        assert_eq!(joined, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn one_cookie_or_none_stays_as_it_is() {
        for headers in [map(&[("cookie", "a=1; b=2")]), Fields::new()] {
            let mut joined = headers.clone();
            join_cookies(&mut joined);
            assert_eq!(format!("{joined:?}"), format!("{headers:?}"));
        }
    }

    #[test]
    fn b10_internal_fields_of_a_mesh_do_not_leave_it() {
        let mut headers = map(&[
            ("x-envoy-decorator-operation", "a"),
            ("x-envoy-peer-metadata", "b"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy", "not one"),
            ("x-request-id", "kept"),
        ]);
        remove_internal(&mut headers);
        assert_eq!(names(&headers), ["x-envoy", "x-request-id"]);
    }

    #[test]
    fn our_own_mark_tells_a_loop() {
        let own = Pseudonym::new(7);
        let mut headers = map(&[("via", "1.1 other, HTTP/1.1 sortie (comment)")]);
        assert!(!has_own_via(&headers, &own));
        add_via(&mut headers, Version::HTTP_2, &own);
        assert!(has_own_via(&headers, &own));
        let last = headers.get_all(&VIA).last();
        assert_eq!(last.unwrap(), "2.0 sortie-0000000000000007");
    }

    #[test]
    fn the_mark_of_another_process_is_no_loop() {
        let mut headers = Fields::new();
        add_via(&mut headers, Version::HTTP_11, &Pseudonym::new(8));
        assert!(!has_own_via(&headers, &Pseudonym::new(7)));
        assert!(!has_own_via(&Fields::new(), &Pseudonym::new(7)));
    }
}
