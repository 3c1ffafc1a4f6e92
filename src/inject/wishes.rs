//! What one pod gets: the settings, and what its annotations say in their place.
//!
//! Owns: [`Wishes`], and which annotation wins over which.
//! Never: looks at containers.
//! Called by: plan.

use std::time::Duration;

use super::capture::{INTERCEPTION, capture, consistent};
use super::pod::Pod;
use super::proxy_config::{CONFIG, proxy_config};
use super::resources::resources;
use super::said::Said;
use super::volumes::{UserVolumes, user_volumes};
use super::{Owner, Refusal, Resources, Settings, Warning};
use crate::model::{CaptureSpec, Chosen, Interception};

/// Our own annotations.
pub(super) const CONFIG_MAP: &str = "sortie/config";
pub(super) const IDENTITY: &str = "sortie/identity";
pub(super) const CREDENTIALS: &str = "sortie/credentials";
/// Secrets for `credentialName` of one pod.
const MOST_CREDENTIALS: usize = 64;
/// Where the status port is, unless somebody says otherwise (C1).
pub(super) const STATUS_PORT: u16 = 15020;
/// What Kubernetes grants a pod to end, unless it says otherwise, in seconds.
const GRACE: u64 = 30;
/// Of that, what is left for the proxy to close up after its drain, in seconds.
const CLOSING: u64 = 5;

const STATUS: &str = "status.sidecar.istio.io/port";
const IMAGE: &str = "sidecar.istio.io/proxyImage";
const LOG_LEVEL: &str = "sidecar.istio.io/logLevel";
const NATIVE: &str = "sidecar.istio.io/nativeSidecar";
const REWRITE: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
const MERGE: &str = "prometheus.istio.io/merge-metrics";
const READINESS: &str = "readiness.status.sidecar.istio.io";

/// The decisions about one pod.
#[derive(Clone, Debug)]
pub(super) struct Wishes {
    pub image: String,
    pub capture: CaptureSpec,
    /// `None`: there is none, and no probe goes through it.
    pub status_port: Option<u16>,
    pub native: bool,
    pub hold: bool,
    pub rewrite_probes: bool,
    pub prometheus: bool,
    pub log_level: Option<String>,
    pub workers: Option<u16>,
    /// What the proxy may take to drain.
    pub drain: Duration,
    pub resources: Resources,
    pub readiness: Readiness,
    pub config_map: String,
    pub identity: Option<String>,
    pub credentials: Vec<String>,
    pub user: UserVolumes,
}

/// The proxy's readiness probe, in Kubernetes' words (I5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    pub initial_delay: u32,
    pub period: u32,
    pub failures: u32,
}

impl Wishes {
    /// With what is to be said about the annotations.
    ///
    /// # Errors
    /// The first annotation whose value cannot be.
    pub fn read(
        settings: &Settings,
        owner: &Owner,
        pod: Pod<'_>,
    ) -> Result<(Wishes, Vec<Warning>), Refusal> {
        let mut said = Said {
            pod,
            warnings: Vec::new(),
        };
        let config = proxy_config(&mut said)?;
        let mut spec = settings.capture.clone();
        spec.interception = config.interception.unwrap_or(spec.interception);
        let mut capture = capture(&mut said, spec)?;
        let status_port = match said.number(STATUS, 0, u16::MAX.into())? {
            Some(port) => u16::try_from(port).unwrap_or_default(),
            None => config.status_port.unwrap_or(STATUS_PORT),
        };
        let status_port = Some(status_port).filter(|port| *port > 0);
        consistent(&capture, status_port)?;
        let unusual = status_port.filter(|port| *port != STATUS_PORT);
        let excluded = &mut capture.exclude_inbound_ports;
        excluded.extend(unusual.filter(|port| !excluded.contains(port)));
        let native = said.flag(NATIVE)?.unwrap_or(settings.native_sidecar);
        if !native && matches!(owner.kind.as_str(), "Job" | "CronJob") {
            let message = "a Job with a sidecar as a container does not end by itself: set this \
                           annotation to \"true\" (Kubernetes 1.29), or run its command under \
                           sortie exec";
            said.warn(NATIVE, message);
        }
        let name = said.name(CONFIG_MAP)?;
        let wishes = Wishes {
            image: image(&mut said)?.unwrap_or_else(|| settings.image.clone()),
            capture,
            status_port,
            native,
            hold: config.hold.unwrap_or(settings.hold_until_ready),
            rewrite_probes: said.flag(REWRITE)?.unwrap_or(settings.rewrite_probes),
            prometheus: said.flag(MERGE)?.unwrap_or(settings.prometheus),
            log_level: log_level(&said)?.or_else(|| settings.log_level.clone()),
            workers: config.workers,
            drain: config.drain.unwrap_or_else(|| within_grace(pod)),
            resources: resources(&said, settings)?,
            readiness: Readiness::read(&said)?,
            config_map: name.unwrap_or_else(|| settings.config_map.clone()),
            identity: said.name(IDENTITY)?.or_else(|| settings.identity.clone()),
            credentials: credentials(&said, settings)?,
            user: user_volumes(&said)?,
        };
        if said.text(INTERCEPTION).is_some() && config.interception.is_some() {
            let message = format!("{INTERCEPTION} wins over its interceptionMode");
            said.warn(CONFIG, message);
        }
        Ok((wishes, said.warnings))
    }

    /// True where rules send connections to the proxy.
    pub fn captures(&self) -> bool {
        self.capture.interception != Interception::Off
    }

    /// True where connections to the application come through the proxy.
    pub fn captures_inbound(&self) -> bool {
        self.captures() && self.capture.inbound_ports != Chosen::Only(Vec::new())
    }

    /// The port through which probes of the application go.
    pub fn probe_port(&self) -> Option<u16> {
        let wanted = self.rewrite_probes && self.captures_inbound();
        self.status_port.filter(|_| wanted)
    }
}

impl Readiness {
    fn read(said: &Said<'_>) -> Result<Readiness, Refusal> {
        let number = |name: &str, least, otherwise| {
            let key = format!("{READINESS}/{name}");
            Ok(said.number(&key, least, 86_400)?.unwrap_or(otherwise))
        };
        Ok(Readiness {
            initial_delay: number("initialDelaySeconds", 0, 0)?,
            period: number("periodSeconds", 1, 15)?,
            failures: number("failureThreshold", 1, 4)?,
        })
    }
}

/// The image; one of Istio's would not understand what it is told.
fn image(said: &mut Said<'_>) -> Result<Option<String>, Refusal> {
    let expected = "the reference of an image, without spaces";
    let image = said.parsed(IMAGE, expected, |text| {
        let plain = |c: char| c.is_ascii_graphic();
        let sound = (1..=1024).contains(&text.len()) && text.chars().all(plain);
        sound.then(|| text.to_owned())
    })?;
    let last = image.as_deref().and_then(|image| image.rsplit('/').next());
    let name = last.and_then(|last| last.split([':', '@']).next());
    if matches!(name, Some("proxyv2" | "proxy" | "proxy_debug" | "auto")) {
        said.warn(
            IMAGE,
            "this image is Istio's proxy, not sortie: it is not used",
        );
        return Ok(None);
    }
    Ok(image)
}

/// Envoy's levels in sortie's words.
fn log_level(said: &Said<'_>) -> Result<Option<String>, Refusal> {
    let expected = "trace, debug, info, warning, error, critical or off";
    said.parsed(LOG_LEVEL, expected, |text| {
        let level = match text.trim() {
            level @ ("trace" | "debug" | "info" | "warn" | "error" | "off") => level,
            "warning" => "warn",
            "critical" => "error",
            _ => return None,
        };
        Some(level.to_owned())
    })
}

fn credentials(said: &Said<'_>, settings: &Settings) -> Result<Vec<String>, Refusal> {
    let own = said.names(CREDENTIALS, MOST_CREDENTIALS)?;
    let mut names = own.unwrap_or_else(|| settings.credentials.clone());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    Ok(names)
}

/// Kubernetes kills what has not ended in time: the drain ends before.
fn within_grace(pod: Pod<'_>) -> Duration {
    let grace = pod.spec("terminationGracePeriodSeconds");
    let grace = grace.and_then(serde_json::Value::as_u64).unwrap_or(GRACE);
    Duration::from_secs(grace.saturating_sub(CLOSING).clamp(1, 86_400))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{annotated, at, refused, settings, warned};
    use super::super::{Outcome, plan};
    use super::*;

    #[test]
    fn i10_a_value_that_an_annotation_cannot_have_is_refused_by_its_name() {
        for (key, value, expected) in [
            (STATUS, "70000", "expected a number from 0 to 65535"),
            (NATIVE, "yes", "expected \"true\" or \"false\""),
            (REWRITE, "", "expected \"true\" or \"false\""),
            (MERGE, "1", "expected \"true\" or \"false\""),
            (
                LOG_LEVEL,
                "loud",
                "expected trace, debug, info, warning, error, critical or off",
            ),
            (
                IMAGE,
                "a b",
                "expected the reference of an image, without spaces",
            ),
            (
                CONFIG_MAP,
                "Shop",
                "expected the name of an object: at most 253 of a-z, 0-9, - and .",
            ),
        ] {
            let error = refused(&annotated(&[(key, value)]));
            let problem = format!("{value:?} is not what it takes");
            assert_eq!((error.path, error.problem), (at(key), problem));
            assert_eq!(error.advice, expected);
        }
    }

    #[test]
    fn i10_a_long_value_is_not_repeated_whole() {
        let value = "x".repeat(100_000);
        assert!(refused(&annotated(&[(NATIVE, &value)])).to_string().len() < 300);
    }

    #[test]
    fn i10_an_image_of_istios_is_not_run_with_sorties_arguments() {
        let image = "docker.io/istio/proxyv2:1.30.0";
        let said = warned(&annotated(&[(IMAGE, image)]));
        assert!(
            said[0].ends_with("is Istio's proxy, not sortie: it is not used"),
            "{said:?}"
        );
        assert_eq!(
            warned(&annotated(&[(IMAGE, "example.org/mesh/sortie")])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn i6_a_job_that_would_not_end_is_said_and_one_that_does_is_not() {
        let job = Owner {
            kind: "Job".to_owned(),
            ..Owner::default()
        };
        let said = |pod| match plan(&settings(), &job, &pod) {
            Ok(Outcome::Inject(plan)) => plan.warnings.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(said(annotated(&[])), 1);
        assert_eq!(said(annotated(&[(NATIVE, "true")])), 0);
        assert_eq!(
            warned(&annotated(&[])),
            Vec::<String>::new(),
            "of a Deployment"
        );
    }
}
