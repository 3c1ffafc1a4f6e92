//! `ingress` of the Sidecar that applies: listeners and TLS of its own (ISTIO.md X14).
//!
//! Owns: which of them clients address themselves, and when their `tls` counts.
//! Never: reads a Sidecar.
//! Called by: inbound.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::gateway_tls::{Maker, Secured};
use super::inbound::Way;
use super::report;
use crate::config::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::config::istio::peer_authentication::MtlsMode;
use crate::config::istio::sidecar::{CaptureMode, IngressListener, Sidecar};
use crate::model::{
    Carries, Config, DownstreamTls, EntranceSpec, ForwardClientCert, ListenerKind, ListenerSpec,
    Place, Reason, ServerAlpn,
};

/// Adds those that clients address themselves: those that say so, and where nothing is captured those
/// that name an address.
pub fn listeners(
    sidecar: &Sidecar,
    wanted: &[(SocketAddr, Option<SocketAddr>)],
    config: &mut Config,
    out: &mut Diagnostics,
) {
    let captured = wanted.iter().any(|(_, to)| to.is_none());
    for one in &sidecar.ingress {
        let own = match one.capture {
            CaptureMode::None => true,
            CaptureMode::Default => one.bind.is_some() && !captured,
            CaptureMode::Captured => false,
        };
        if !own {
            continue;
        }
        let ip = one.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let address = SocketAddr::new(ip, one.number);
        let mut there = config.listeners.iter();
        if let Some(first) = there.find(|other| other.address == address) {
            out.push(bound_twice(sidecar, one, address, &first.place));
            continue;
        }
        let app = match ip.is_unspecified() {
            true => IpAddr::V4(Ipv4Addr::LOCALHOST),
            false => ip,
        };
        config.listeners.push(ListenerSpec {
            address,
            kind: ListenerKind::Inbound(Some(SocketAddr::new(app, one.number))),
            place: one.place.clone(),
        });
    }
}

/// A listener of `ingress` whose address is taken.
fn bound_twice(
    sidecar: &Sidecar,
    one: &IngressListener,
    address: SocketAddr,
    first: &Place,
) -> Diagnostic {
    let problem = format!("the address {address} is listened on already, see {first}");
    let advice = "give each listener an address of its own";
    let object = sidecar.meta.object();
    report::at(&object, &one.place, Code::Twice, problem, advice)
}

/// Where mutual TLS is switched off, `tls` of the listener is what clients speak. Of a client from
/// outside the mesh nothing is believed that it says of others.
pub fn end_tls(
    way: &Way<'_>,
    maker: &Maker<'_>,
    entrance: &mut EntranceSpec,
    out: &mut Diagnostics,
) {
    let Some(own) = way.declared else { return };
    let Some(tls) = &own.tls else { return };
    if way.mode.0 != MtlsMode::Disable {
        return out.push(without_effect(
            way.port.unwrap_or(own.service_port),
            &own.object,
            &tls.server.place,
        ));
    }
    let alpn = match tls.http {
        true => ServerAlpn::Http,
        false => ServerAlpn::None,
    };
    match maker.settings(Arc::clone(&own.object), alpn, &tls.server, out) {
        Secured::Ready(spec) => entrance.tls = DownstreamTls::Strict(spec),
        Secured::Never(reason) => entrance.broken = entrance.broken.take().or(Some(reason)),
    }
    entrance.carries = match tls.http {
        true => Carries::Http,
        false => Carries::Opaque,
    };
    entrance.headers.client_cert = ForwardClientCert::SanitizeSet;
    entrance.reasons.0.push(Reason {
        what: "tls",
        how: format!("{} of the ingress listener", tls.server.mode.name()),
        object: Arc::clone(&own.object),
        place: Some(tls.server.place.clone()),
    });
}

fn without_effect(port: u16, object: &Arc<str>, place: &Place) -> Diagnostic {
    let problem = format!(
        "tls of the ingress listener of port {port} has no effect: the mesh's mutual TLS is spoken \
         there"
    );
    let advice = format!(
        "write portLevelMtls: {{{port}: {{mode: DISABLE}}}} in a PeerAuthentication for this workload"
    );
    let code = Code::FieldWithoutEffect;
    report::at(object, place, code, problem, advice)
}
