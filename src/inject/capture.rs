//! What is captured of a pod (ISTIO.md I10, C2 to C4).
//!
//! Owns: the annotations of `traffic.sidecar.istio.io` and the interception mode.
//! Never: writes a flag (that is `model::CaptureSpec`).
//! Called by: wishes.

use std::str::FromStr;

use super::Refusal;
use super::said::{Said, refused};
use crate::model::{CaptureSpec, Chosen, Interception, ListError, Listed, list};

/// Their domain.
const TRAFFIC: &str = "traffic.sidecar.istio.io";
/// How connections are redirected.
pub(super) const INTERCEPTION: &str = "sidecar.istio.io/interceptionMode";
/// The newer name of `kubevirtInterfaces`.
const VIRTUAL: &str = "istio.io/reroute-virtual-interfaces";

/// `spec` with what the pod says in its place.
///
/// # Errors
/// A list with a word that does not fit.
pub(super) fn capture(said: &mut Said<'_>, mut spec: CaptureSpec) -> Result<CaptureSpec, Refusal> {
    if let Some(mode) = read(said, INTERCEPTION, Interception::from_str)? {
        spec.interception = mode;
    }
    let ranges = "includeOutboundIPRanges";
    replace(said, ranges, Chosen::from_str, &mut spec.outbound_ranges)?;
    let ports = "includeInboundPorts";
    replace(said, ports, Chosen::from_str, &mut spec.inbound_ports)?;
    listed(
        said,
        "excludeOutboundIPRanges",
        &mut spec.exclude_outbound_ranges,
    )?;
    listed(said, "includeOutboundPorts", &mut spec.outbound_ports)?;
    listed(
        said,
        "excludeOutboundPorts",
        &mut spec.exclude_outbound_ports,
    )?;
    listed(said, "excludeInboundPorts", &mut spec.exclude_inbound_ports)?;
    listed(said, "excludeInterfaces", &mut spec.exclude_interfaces)?;
    listed(said, "kubevirtInterfaces", &mut spec.virtual_interfaces)?;
    if let Some(interfaces) = read(said, VIRTUAL, list)? {
        spec.virtual_interfaces = interfaces;
    }
    Ok(spec)
}

fn listed<T: Listed>(said: &Said<'_>, name: &str, out: &mut Vec<T>) -> Result<(), Refusal> {
    replace(said, name, list, out)
}

fn replace<T>(
    said: &Said<'_>,
    name: &str,
    parse: impl FnOnce(&str) -> Result<T, ListError>,
    out: &mut T,
) -> Result<(), Refusal> {
    if let Some(value) = read(said, &format!("{TRAFFIC}/{name}"), parse)? {
        *out = value;
    }
    Ok(())
}

fn read<T>(
    said: &Said<'_>,
    key: &str,
    parse: impl FnOnce(&str) -> Result<T, ListError>,
) -> Result<Option<T>, Refusal> {
    let Some(text) = said.text(key) else {
        return Ok(None);
    };
    match parse(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Refusal {
            problem: error.to_string(),
            ..refused(
                key,
                text,
                "a list such as that of istio-iptables, or * for all",
            )
        }),
    }
}
