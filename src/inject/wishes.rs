//! What one pod gets: the settings, and what its annotations say in their place.
//!
//! Owns: [`Wishes`], and which annotation wins over which.
//! Never: looks at containers.
//! Called by: plan.

use super::capture::{INTERCEPTION, capture, consistent};
use super::containers::ADMIN_PORT;
use super::pod::{Pod, annotation_path};
use super::proxy_config::{CONFIG, ProxyConfig, proxy_config};
use super::resources::resources;
use super::said::Said;
use super::volumes::{UserVolumes, user_volumes};
use super::{Owner, Refusal, Resources, Settings, Warning};
use crate::model::{CaptureSpec, Chosen, Interception, PROXY_ID, TUNNEL_PORT};

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
/// How long a drain takes at least where nobody says it, as with Istio, in seconds.
const DRAIN: u64 = 5;
/// What the flags of a drain take at most, in seconds.
const LONGEST_DRAIN: u64 = 86_400;

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
    /// How long a drain takes at least, and at most, in seconds (I11).
    pub drain_least: u64,
    pub drain_most: u64,
    /// It ends as soon as no connection is left (I12).
    pub drain_until_idle: bool,
    /// Variables of the proxy.
    pub env: Vec<(String, String)>,
    /// The settings' own flags name an identity.
    named_identity: bool,
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
        let status_port = status_port(&said, &config, &capture)?;
        consistent(&capture, status_port)?;
        let unusual = status_port.filter(|port| *port != STATUS_PORT);
        let excluded = &mut capture.exclude_inbound_ports;
        excluded.extend(unusual.filter(|port| !excluded.contains(port)));
        let native = native(&mut said, settings, owner)?;
        let (drain_least, drain_most) = drain(&config, pod);
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
            drain_least,
            drain_most,
            drain_until_idle: config.until_idle,
            env: config.env.clone(),
            named_identity: names_identity(settings),
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

    /// True where the proxy has a certificate to show to callers. `/etc/certs`, where Istio's agents
    /// look, is not enough: users mount a client certificate for one host there.
    pub fn has_identity(&self) -> bool {
        let at = |path: &str| {
            let mounts = self.user.mounts.iter();
            let paths = mounts.filter_map(|mount| mount.get("mountPath")?.as_str());
            let mut paths = paths.map(|path| path.trim_end_matches('/'));
            paths.any(|one| one == path)
        };
        let pointed = |(name, _): &(String, String)| name.ends_with("_CERT_CHAIN");
        self.identity.is_some()
            || self.named_identity
            || self.env.iter().any(pointed)
            || at("/var/run/secrets/workload-spiffe-credentials")
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

/// The least and the most, in seconds. Kubernetes kills what has not ended in time: a drain ends
/// before, unless the pod says that it takes longer.
fn drain(config: &ProxyConfig, pod: Pod<'_>) -> (u64, u64) {
    let grace = pod.spec("terminationGracePeriodSeconds");
    let grace = grace.and_then(serde_json::Value::as_u64).unwrap_or(GRACE);
    let most = grace.saturating_sub(CLOSING).clamp(1, LONGEST_DRAIN);
    match config.drain {
        Some(least) => {
            let least = least.as_millis().div_ceil(1000);
            let least = u64::try_from(least)
                .unwrap_or(LONGEST_DRAIN)
                .min(LONGEST_DRAIN);
            (least, most.max(least))
        }
        None => (DRAIN.min(most), most),
    }
}

/// Where the status port is; `None`: nowhere.
fn status_port(
    said: &Said<'_>,
    config: &ProxyConfig,
    capture: &CaptureSpec,
) -> Result<Option<u16>, Refusal> {
    let (path, port) = match said.number(STATUS, 0, u16::MAX.into())? {
        Some(port) => (
            annotation_path(STATUS),
            u16::try_from(port).unwrap_or_default(),
        ),
        None => (
            annotation_path(CONFIG).key("statusPort"),
            config.status_port.unwrap_or(STATUS_PORT),
        ),
    };
    let listeners = [capture.outbound_port, capture.inbound_port];
    let reserved = [ADMIN_PORT, TUNNEL_PORT];
    let problem = match port {
        0 => return Ok(None),
        1..=1023 => format!("user {PROXY_ID} may not listen on port {port}"),
        _ if listeners.contains(&port) || reserved.contains(&port) => {
            format!("{port} is another port of the proxy's")
        }
        _ => return Ok(Some(port)),
    };
    let advice = "expected a port from 1024 on that is free, or 0 for none";
    Err(Refusal::new(path, problem, advice))
}

/// I6. A pod that is to end cannot while a container beside the others goes on: there the native
/// form is the default.
fn native(said: &mut Said<'_>, settings: &Settings, owner: &Owner) -> Result<bool, Refusal> {
    let policy = said
        .pod
        .spec("restartPolicy")
        .and_then(serde_json::Value::as_str);
    let ends = matches!(policy, Some("Never" | "OnFailure"))
        || matches!(owner.kind.as_str(), "Job" | "CronJob");
    let own = said.flag(NATIVE)?;
    if ends && own == Some(false) {
        let message = "a pod that is to end does not while its sidecar is a container: leave this \
                       annotation out (Kubernetes 1.29), or run its command under sortie exec";
        said.warn(NATIVE, message);
    }
    Ok(own.unwrap_or(settings.native_sidecar || ends))
}

/// The settings' own flags say `--identity`.
fn names_identity(settings: &Settings) -> bool {
    let mut args = settings.proxy_args.iter();
    args.any(|arg| arg == "--identity" || arg.starts_with("--identity="))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{annotated, at, meshed, names, refused, warned};
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
    fn i6_a_pod_that_is_to_end_gets_a_native_sidecar_unless_it_says_otherwise() {
        let form = |owner: &Owner, pod: &serde_json::Value| match plan(&meshed(), owner, pod) {
            Ok(Outcome::Inject(plan)) => {
                let after = super::super::testing::applied(pod, &plan.ops);
                (names(&after, "containers").len() == 1, plan.warnings.len())
            }
            other => panic!("{other:?}"),
        };
        let job = Owner {
            kind: "Job".to_owned(),
            ..Owner::default()
        };
        let other = Owner::default();
        assert_eq!(form(&job, &annotated(&[])), (true, 0));
        assert_eq!(form(&other, &annotated(&[])), (false, 0), "it goes on");
        for policy in ["Never", "OnFailure"] {
            let mut pod = annotated(&[]);
            pod["spec"]["restartPolicy"] = policy.into();
            assert_eq!(form(&other, &pod), (true, 0), "{policy}");
            pod["metadata"]["annotations"][NATIVE] = "false".into();
            assert_eq!(form(&other, &pod), (false, 1), "{policy}");
        }
    }

    #[test]
    fn i11_what_a_pod_says_of_its_drain_is_the_least_and_its_grace_the_most() {
        let drain = |text: &str, grace: u64| {
            let mut pod = annotated(&[(CONFIG, text)]);
            pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
            let config = proxy_config(&mut Said {
                pod: Pod::loosely(&pod),
                warnings: Vec::new(),
            });
            drain(&config.unwrap(), Pod::loosely(&pod))
        };
        assert_eq!(drain("{}", 30), (5, 25));
        assert_eq!(drain("{}", 600), (5, 595));
        assert_eq!(drain("{}", 0), (1, 1), "never more at least than at most");
        assert_eq!(drain("terminationDrainDuration: 20s", 30), (20, 25));
        assert_eq!(drain("terminationDrainDuration: 45s", 30), (45, 45));
    }

    #[test]
    fn c1_a_status_port_that_the_proxy_has_already_is_refused() {
        for port in ["15000", "15001", "15006", "15008", "80"] {
            let error = refused(&annotated(&[(STATUS, port)]));
            assert_eq!(error.path, at(STATUS), "{port}");
            let error = refused(&annotated(&[(CONFIG, &format!("statusPort: {port}"))]));
            assert_eq!(error.path, at(CONFIG).key("statusPort"), "{port}");
        }
    }

    #[test]
    fn c1_the_readiness_port_may_be_the_status_port_and_is_listened_on_once() {
        let pod = super::super::testing::injected(&annotated(&[(STATUS, "15021")]));
        let args = super::super::testing::args(&pod, "sortie-proxy");
        let status: Vec<_> = args
            .iter()
            .filter(|arg| arg.starts_with("--status"))
            .collect();
        assert_eq!(status, [&"--status=[::]:15021"]);
        let proxy = super::super::testing::container(&pod, "sortie-proxy");
        assert_eq!(proxy["ports"].as_array().unwrap().len(), 1);
    }
}
