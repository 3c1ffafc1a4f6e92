//! Upstreams and requests for the tests of this room, which stand at the foot of each file.
//!
//! Owns: doubles that cost nothing.
//! Never: is built outside tests.
//! Called by: the unit tests beside it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::message::RequestHead;
use tokio::runtime::{Builder, Runtime};

use crate::model::UpstreamSpec;
use crate::telemetry::Metrics;
use crate::upstream::{OwnAddrs, Resolver, Upstream, UpstreamContext, UpstreamTls};

static COLD: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().unwrap());

/// A plaintext upstream without endpoints.
pub(super) fn upstream(name: &str) -> Arc<Upstream> {
    let context = UpstreamContext {
        workers: 1,
        resolver: Resolver::system(COLD.handle().clone()),
        own: OwnAddrs::new(),
        metrics: Metrics::new(1),
    };
    Upstream::new(UpstreamSpec::new(name), UpstreamTls::Plain, &context)
}

/// The upstreams of these names.
pub(super) fn upstreams(names: &[&str]) -> HashMap<Arc<str>, Arc<Upstream>> {
    let named = |name: &&str| (Arc::from(*name), upstream(name));
    names.iter().map(named).collect()
}

/// The head of a request.
pub(super) fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut request = http::Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0.into()
}
