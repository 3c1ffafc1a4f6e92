//! What a rule does wrong on purpose, before the request is sent (ISTIO.md V16).
//!
//! Owns: the delay and the choice whether one happens.
//! Never: holds a request whose client has left.
//! Called by: `proxy::forward`, only for rules that have a fault.

use std::time::Duration;

use super::answer;
use super::body::AnswerBody;
use super::record::Record;
use super::send::Waiting;
use crate::message::Response;
use crate::model::Fault;
use crate::route::happens;
use crate::telemetry::Flags;
use crate::upstream::Upstream;

/// No delay is longer than this, whatever the rule says: a request holds memory while it waits.
const LONGEST: Duration = Duration::from_secs(3600);

/// Delays the request, aborts it, both or neither. `Err` is the answer of an aborted one.
pub(super) async fn inflict(
    fault: &Fault,
    upstream: &Upstream,
    mut record: Record,
) -> Result<Record, Response<AnswerBody>> {
    if let Some((delay, share)) = fault.delay
        && happens(share)
    {
        record.flags |= Flags::DI;
        let waiting = Waiting::new(&mut record, upstream);
        tokio::time::sleep(delay.min(LONGEST)).await;
        waiting.over();
    }
    match fault.abort {
        Some((abort, share)) if happens(share) => {
            Err(answer::aborted(abort, record, upstream.stats()))
        }
        _ => Ok(record),
    }
}
