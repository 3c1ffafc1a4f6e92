//! Balance, pools, outliers and HTTP version of a DestinationRule, with Istio's defaults.
//!
//! Owns: what silence means for an upstream that Istio's documents declare (ISTIO.md T15).
//! Never: chooses the DestinationRule.
//! Called by: clusters.

use std::time::Duration;

use super::scope::Mesh;
use super::traffic::Settings;
use crate::config::istio::destination_rule::{ConnectionPool, LoadBalancer, OutlierDetection};
use crate::config::istio::service_entry::Protocol;
use crate::model::{Balance, HttpChoice, Outlier, PoolLimits, UpstreamSpec};

/// Istio's and Envoy's defaults of an `outlierDetection` that says nothing more.
const CONSECUTIVE: u32 = 5;
const EJECTION: Duration = Duration::from_secs(30);
const MOST_EJECTED: u32 = 10;

/// Writes what `settings` say into `spec`.
pub fn apply(spec: &mut UpstreamSpec, settings: &Settings<'_>, protocol: Protocol, mesh: &Mesh) {
    let pool = settings.pool.map(|said| said.value);
    spec.balance = match settings.balance.map(|said| *said.value) {
        Some(LoadBalancer::Among(balance)) => balance,
        Some(LoadBalancer::Dialled) | None => Balance::LeastRequest,
    };
    spec.connect_timeout = pool
        .and_then(|pool| pool.connect_timeout)
        .unwrap_or(mesh.connect_timeout);
    spec.pool = limits(pool);
    spec.outlier = outlier(settings.outlier.map(|said| said.value));
    spec.http = http(protocol, pool);
}

/// T15: nothing is bounded that nobody bounds.
fn limits(pool: Option<&ConnectionPool>) -> PoolLimits {
    let defaults = PoolLimits::default();
    let said = |pick: fn(&ConnectionPool) -> Option<usize>| pool.and_then(pick);
    PoolLimits {
        max_connections: said(|pool| pool.max_connections).unwrap_or(usize::MAX),
        max_requests: said(|pool| pool.max_requests).unwrap_or(usize::MAX),
        max_idle: defaults.max_idle,
        idle_timeout: pool
            .and_then(|pool| pool.idle_timeout)
            .unwrap_or(defaults.idle_timeout),
        max_requests_per_connection: pool
            .and_then(|pool| pool.max_requests_per_connection)
            .unwrap_or(defaults.max_requests_per_connection),
    }
}

/// Without `outlierDetection` nothing is ever shunned.
fn outlier(said: Option<&OutlierDetection>) -> Outlier {
    match said {
        None => Outlier {
            consecutive_failures: 0,
            ..Outlier::default()
        },
        Some(said) => Outlier {
            consecutive_failures: said.consecutive.unwrap_or(CONSECUTIVE),
            eject_for: said.base_ejection.unwrap_or(EJECTION),
            max_ejected_percent: said.max_percent.unwrap_or(MOST_EJECTED),
        },
    }
}

/// The port's protocol decides, and `h2UpgradePolicy` over it.
fn http(protocol: Protocol, pool: Option<&ConnectionPool>) -> HttpChoice {
    let upgrade = pool.and_then(|pool| pool.upgrade_to_http2) == Some(true);
    match protocol {
        Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb => HttpChoice::Http2,
        Protocol::Http | Protocol::Tls | Protocol::Tcp | Protocol::Udp | Protocol::Sniff => {
            match upgrade {
                true => HttpChoice::Http2,
                false => HttpChoice::Http1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::config::istio::lower::testing::Lab;
    use crate::model::{HttpChoice, Outlier, Resolution, UpstreamSpec};

    fn spec(protocol: &str, policy: &str) -> UpstreamSpec {
        let text = format!(
            "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: a}}
spec:
  hosts: [a.example]
  ports: [{{number: 80, name: p, protocol: {protocol}}}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a.example, trafficPolicy: {{{policy}}}}}
"
        );
        Lab::new(&text).refer("a.example", 80, "").spec
    }

    const SILENT: &str = "loadBalancer: {simple: RANDOM}";

    #[test]
    fn passthrough_goes_to_the_address_that_was_dialled_and_round_robin_to_an_endpoint() {
        let dialled = spec("HTTP", "loadBalancer: {simple: PASSTHROUGH}");
        assert_eq!(dialled.resolution, Resolution::OriginalDst { port: None });
        let balanced = spec("HTTP", "loadBalancer: {simple: ROUND_ROBIN}");
        assert_eq!(balanced.resolution, Resolution::Dns);
    }

    #[test]
    fn t15_silence_means_ten_seconds_no_bounds_and_nobody_shunned() {
        let spec = spec("HTTP", SILENT);
        assert_eq!(spec.connect_timeout, Duration::from_secs(10));
        let bounds = (spec.pool.max_connections, spec.pool.max_requests);
        assert_eq!(bounds, (usize::MAX, usize::MAX));
        assert_eq!(spec.outlier.consecutive_failures, 0);
    }

    #[test]
    fn the_bounds_of_a_connection_pool_are_followed() {
        let spec = spec(
            "HTTP",
            "connectionPool: {tcp: {maxConnections: 3, connectTimeout: 2s}, http: \
             {http2MaxRequests: 4, maxRequestsPerConnection: 5, idleTimeout: 6s}}, \
             outlierDetection: {baseEjectionTime: 7s}",
        );
        assert_eq!(spec.connect_timeout, Duration::from_secs(2));
        assert_eq!((spec.pool.max_connections, spec.pool.max_requests), (3, 4));
        assert_eq!(spec.pool.max_requests_per_connection, 5);
        assert_eq!(spec.pool.idle_timeout, Duration::from_secs(6));
        let outlier = Outlier {
            consecutive_failures: 5,
            eject_for: Duration::from_secs(7),
            max_ejected_percent: 10,
        };
        assert_eq!(spec.outlier, outlier);
    }

    #[test]
    fn e7_the_protocol_of_the_port_decides_the_http_version() {
        for (protocol, http) in [
            ("HTTP", HttpChoice::Http1),
            ("HTTP2", HttpChoice::Http2),
            ("grpc", HttpChoice::Http2),
            ("GRPC-WEB", HttpChoice::Http2),
            ("HTTPS", HttpChoice::Http1),
            ("TLS", HttpChoice::Http1),
        ] {
            assert_eq!(spec(protocol, SILENT).http, http, "{protocol}");
        }
        let upgrade = "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}";
        assert_eq!(spec("HTTP", upgrade).http, HttpChoice::Http2);
    }
}
