//! Header changes of one request and of its answer, with what is known of the request.
//!
//! Owns: their order (ISTIO.md V12: those of the upstream, then those of the rule), and what
//! formats need to remember until the answer comes.
//! Never: costs more than a branch where no rule names a format.
//! Called by: `proxy::forward`, `proxy::answer`.

use super::headers::apply_changes;
use super::record::Record;
use crate::message::{Fields, Known, RequestHead, Value};
use crate::route::{HeaderChanges, OwnChanges, Route};
use crate::telemetry::{AccessEntry, Captured};

/// The changes of one request, in the order in which they are applied.
pub(super) struct Changes<'r> {
    request: [Option<&'r HeaderChanges>; 2],
    answer: [Option<&'r HeaderChanges>; 2],
    /// What the formats of the answer's changes need of the request.
    kept: [Captured; 2],
}

impl<'r> Changes<'r> {
    /// No change at all.
    pub(super) const NONE: Changes<'static> = Changes {
        request: [None, None],
        answer: [None, None],
        kept: [Captured::NONE, Captured::NONE],
    };

    /// Those of a rule, and of the upstream that it chose. Remembers what formats need of the
    /// request, as the client sent it.
    pub(super) fn new(
        own: Option<&'r OwnChanges>,
        route: &'r Route,
        parts: &RequestHead,
        record: &mut Record,
    ) -> Self {
        let used = |changes: &'r HeaderChanges| (!changes.is_empty()).then_some(changes);
        let changes = Changes {
            request: [
                own.and_then(|own| used(&own.request_headers)),
                used(&route.request_headers),
            ],
            answer: [
                own.and_then(|own| used(&own.response_headers)),
                used(&route.response_headers),
            ],
            kept: [Captured::NONE, Captured::NONE],
        };
        let all = changes.request.iter().chain(&changes.answer).flatten();
        if all.clone().all(|changes| changes.formats().is_none()) {
            return changes;
        }
        record.remember(parts, route.name.as_ref());
        let kept = changes.answer.map(|changes| {
            let formats = changes.and_then(HeaderChanges::formats);
            formats.map_or(Captured::NONE, |set| set.capture_request(&parts.headers))
        });
        Changes { kept, ..changes }
    }

    /// Changes what is sent to the upstream of this name.
    pub(super) fn to_request(&self, headers: &mut Fields, record: &Record, upstream: &str) {
        for changes in self.request.iter().flatten() {
            apply_changes(headers, changes, |formats, headers| {
                let captured = formats.capture_request(headers);
                let text = |name: Known| headers.get(name).map(Value::as_bytes).unwrap_or_default();
                let values = record.with_entry(upstream, (&captured, &Captured::NONE), |entry| {
                    // As the headers stand now, not as the client sent them.
                    formats.expand(&AccessEntry {
                        xff: text(Known::ForwardedFor),
                        user_agent: text(Known::UserAgent),
                        request_id: text(Known::RequestId),
                        ..*entry
                    })
                });
                values.unwrap_or_default()
            });
        }
    }

    /// Changes what is sent to the client; `upstream` is empty where none answered.
    pub(super) fn to_answer(&self, headers: &mut Fields, record: &Record, upstream: &str) {
        for (changes, kept) in self.answer.iter().zip(&self.kept) {
            let Some(changes) = changes else { continue };
            apply_changes(headers, changes, |formats, headers| {
                let captured = formats.capture_response(headers);
                let values =
                    record.with_entry(upstream, (kept, &captured), |entry| formats.expand(entry));
                values.unwrap_or_default()
            });
        }
    }
}
