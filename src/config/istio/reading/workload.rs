//! Endpoints of a ServiceEntry and WorkloadEntries.
//!
//! Owns: reading them.
//! Never: decides whether an address fits its ServiceEntry (that is `service_entry`).
//! Called by: read, service_entry.

use crate::config::cursor::At;
use crate::config::format::Format;
use crate::config::istio::meta::Meta;
use crate::config::istio::workload::{Workload, WorkloadAddress, WorkloadEntry};
use crate::model::Host;

use super::context::Reading;
use super::{names, value};

/// A WorkloadEntry.
pub fn read(root: &At<'_>, meta: Meta, r: &mut Reading<'_>) -> Option<WorkloadEntry> {
    let workload = workload(&root.key("spec")?, r)?;
    Some(WorkloadEntry { meta, workload })
}

/// One endpoint.
pub fn workload(at: &At<'_>, r: &mut Reading<'_>) -> Option<Workload> {
    let Some(address) = at.key("address").filter(|at| at.as_text() != Some("")) else {
        let problem = "the endpoint has no address".to_owned();
        r.wrong_key(at, "address", problem, "write an IP address or a host name");
        return None;
    };
    let address = match address.as_text()?.strip_prefix("unix://") {
        Some(path) => WorkloadAddress::Unix(path.to_owned()),
        None => {
            let text = names::formatted(&address, Format::Host, r)?;
            WorkloadAddress::Host(Host::parse(text).ok()?)
        }
    };
    let ports = at.key("ports");
    let number = |entry: &crate::config::node::Entry| {
        let ports = ports.as_ref()?;
        let port = value::as_whole(&ports.value(entry))?;
        Some((entry.key.to_string(), u16::try_from(port).ok()?))
    };
    let entries = ports.iter().flat_map(|ports| ports.entries());
    Some(Workload {
        address,
        ports: entries.filter_map(number).collect(),
        labels: value::labels(at, "labels").unwrap_or_default(),
        weight: value::whole(at, "weight")
            .filter(|weight| *weight > 0)
            .unwrap_or(1),
        service_account: value::text(at, "serviceAccount").map(Into::into),
        place: at.place(),
    })
}
