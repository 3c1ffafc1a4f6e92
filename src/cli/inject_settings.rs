//! What is injected: flags for the commands that put sidecars into pods.
//!
//! Owns: the flags and their `SORTIE_INJECT_*` variables.
//! Never: injects.
//! Called by: `cli::inject`, `cli::webhook`.

use crate::inject::{Resources, Settings};
use crate::model::Interception;

/// Flags on the sidecar; a pod's own annotations win.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The sidecar")]
pub(super) struct SidecarArgs {
    /// Image of the sidecar [default: sortie and this version]
    #[arg(long, value_name = "IMAGE", env = "SORTIE_INJECT_IMAGE", value_parser = text)]
    image: Option<String>,
    /// Always, IfNotPresent or Never
    #[arg(
        long,
        value_name = "POLICY",
        env = "SORTIE_INJECT_IMAGE_PULL_POLICY",
        value_parser = ["Always", "IfNotPresent", "Never"]
    )]
    image_pull_policy: Option<String>,
    /// ConfigMap with the proxy's configuration, in the pod's namespace
    #[arg(
        long,
        value_name = "NAME",
        env = "SORTIE_INJECT_CONFIG_MAP",
        default_value = "sortie-config",
        value_parser = text
    )]
    config_map: String,
    /// Secret with the mesh identity, in the pod's namespace
    #[arg(long, value_name = "NAME", env = "SORTIE_INJECT_IDENTITY", value_parser = text)]
    identity_secret: Option<String>,
    /// Secret for credentialName, in the pod's namespace; repeatable
    #[arg(
        long,
        value_name = "NAME",
        env = "SORTIE_INJECT_CREDENTIALS",
        value_delimiter = ',',
        value_parser = text
    )]
    credential_secret: Vec<String>,
    /// As an init container that goes on running: Kubernetes 1.29 and newer
    #[arg(long, env = "SORTIE_INJECT_NATIVE_SIDECAR")]
    native_sidecar: bool,
    /// The application's containers start once the proxy is ready
    #[arg(long, env = "SORTIE_INJECT_HOLD_UNTIL_READY")]
    hold_until_ready: bool,
    /// The application's probes are left as they are
    #[arg(long, env = "SORTIE_INJECT_KEEP_PROBES")]
    keep_probes: bool,
    /// Prometheus is not told where the proxy's metrics are
    #[arg(long, env = "SORTIE_INJECT_NO_PROMETHEUS")]
    no_prometheus: bool,
    /// How inbound is captured: REDIRECT, TPROXY or NONE
    #[arg(
        long,
        value_name = "MODE",
        env = "SORTIE_INJECT_INTERCEPTION",
        default_value_t = Interception::Redirect
    )]
    interception: Interception,
    /// Flag of the proxy, such as --proxy-arg=--trust-domain=td.example; repeatable
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true, value_parser = text)]
    proxy_arg: Vec<String>,
    /// As --log-level of the proxy
    #[arg(long, value_name = "LEVEL", env = "SORTIE_INJECT_LOG_LEVEL", value_parser = text)]
    proxy_log_level: Option<String>,
    /// What the proxy requests and may use at most: cpu, memory, cpu, memory; an empty one says
    /// nothing
    #[arg(
        long,
        value_name = "QUANTITIES",
        env = "SORTIE_INJECT_RESOURCES",
        default_value = "100m,128Mi,2,1Gi",
        value_parser = resources
    )]
    resources: Resources,
}

fn text(text: &str) -> Result<String, &'static str> {
    let plain = !text.is_empty() && text.len() <= 1024 && !text.chars().any(char::is_control);
    match plain {
        true => Ok(text.to_owned()),
        false => Err("expected a text of 1 to 1024 bytes without control characters"),
    }
}

fn resources(text: &str) -> Result<Resources, &'static str> {
    let quantity = |text: &str| {
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
        match (text.trim(), plain) {
            ("", _) => Ok(None),
            (text, true) if text.len() <= 32 => Ok(Some(text.to_owned())),
            _ => Err("expected quantities such as 100m and 64Mi"),
        }
    };
    let parts: Vec<&str> = text.split(',').collect();
    let [cpu, memory, cpu_limit, memory_limit] = parts.as_slice() else {
        return Err("expected four quantities, such as 100m,128Mi,2,1Gi");
    };
    Ok(Resources {
        cpu: quantity(cpu)?,
        memory: quantity(memory)?,
        cpu_limit: quantity(cpu_limit)?,
        memory_limit: quantity(memory_limit)?,
    })
}

impl SidecarArgs {
    /// What holds for every pod that does not say otherwise.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        if let Some(image) = &self.image {
            settings.image.clone_from(image);
        }
        settings
            .image_pull_policy
            .clone_from(&self.image_pull_policy);
        settings.config_map.clone_from(&self.config_map);
        settings.identity.clone_from(&self.identity_secret);
        settings.credentials.clone_from(&self.credential_secret);
        settings.native_sidecar = self.native_sidecar;
        settings.hold_until_ready = self.hold_until_ready;
        settings.rewrite_probes = !self.keep_probes;
        settings.prometheus = !self.no_prometheus;
        settings.capture.interception = self.interception;
        settings.log_level.clone_from(&self.proxy_log_level);
        settings.proxy_args.clone_from(&self.proxy_arg);
        settings.resources.clone_from(&self.resources);
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        sidecar: SidecarArgs,
    }

    #[test]
    fn flags_that_nobody_gives_leave_the_defaults() {
        let line = Line::try_parse_from(["x"]).unwrap();
        assert_eq!(line.sidecar.settings(), Settings::default());
    }

    #[test]
    fn every_flag_changes_its_setting() {
        let arguments = [
            "x",
            "--image=r/s:1",
            "--image-pull-policy=Always",
            "--config-map=c",
            "--identity-secret=i",
            "--credential-secret=a,b",
            "--native-sidecar",
            "--hold-until-ready",
            "--keep-probes",
            "--no-prometheus",
            "--interception=NONE",
            "--proxy-arg=--trust-domain=td",
            "--proxy-log-level=debug",
            "--resources=1,,,2Gi",
        ];
        let settings = Line::try_parse_from(arguments).unwrap().sidecar.settings();
        assert_eq!(settings.credentials, ["a", "b"]);
        assert_eq!(settings.proxy_args, ["--trust-domain=td"]);
        assert_eq!(settings.resources.memory, None);
        assert_eq!(settings.capture.interception.to_string(), "NONE");
        assert!(settings.native_sidecar && !settings.rewrite_probes && !settings.prometheus);
        assert!(Line::try_parse_from(["x", "--resources=1"]).is_err());
        assert!(Line::try_parse_from(["x", "--image=a\nb"]).is_err());
    }
}
