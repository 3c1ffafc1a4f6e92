//! What the proxy may use (ISTIO.md I4).
//!
//! Owns: the four annotations, and that a request is not more than its limit.
//! Never: knows the default (that is `settings`).
//! Called by: wishes.

use serde_json::{Map, Value, json};

use super::quantity::quantity;
use super::said::{Said, refused};
use super::{Refusal, Resources, Settings};

const CPU: &str = "sidecar.istio.io/proxyCPU";
const MEMORY: &str = "sidecar.istio.io/proxyMemory";
const CPU_LIMIT: &str = "sidecar.istio.io/proxyCPULimit";
const MEMORY_LIMIT: &str = "sidecar.istio.io/proxyMemoryLimit";

/// What the pod says; one annotation puts aside all that the settings say, as in Istio: else a
/// request could be above a limit that nobody of this pod has written.
///
/// # Errors
/// No quantity, or a request above its limit.
pub(super) fn resources(said: &Said<'_>, settings: &Settings) -> Result<Resources, Refusal> {
    let read = |key| {
        said.parsed(key, "a quantity such as 100m, 0.5, 128Mi or 1Gi", |text| {
            quantity(text.trim()).map(|_| text.trim().to_owned())
        })
    };
    let own = Resources {
        cpu: read(CPU)?,
        memory: read(MEMORY)?,
        cpu_limit: read(CPU_LIMIT)?,
        memory_limit: read(MEMORY_LIMIT)?,
    };
    in_order(CPU, own.cpu.as_deref(), CPU_LIMIT, own.cpu_limit.as_deref())?;
    let (memory, limit) = (own.memory.as_deref(), own.memory_limit.as_deref());
    in_order(MEMORY, memory, MEMORY_LIMIT, limit)?;
    let all = [&own.cpu, &own.memory, &own.cpu_limit, &own.memory_limit];
    let silent = all.iter().all(|one| one.is_none());
    Ok(if silent {
        settings.resources.clone()
    } else {
        own
    })
}

fn in_order(
    key: &str,
    request: Option<&str>,
    limit_key: &str,
    limit: Option<&str>,
) -> Result<(), Refusal> {
    let (Some(request), Some(limit)) = (request, limit) else {
        return Ok(());
    };
    if quantity(request) <= quantity(limit) {
        return Ok(());
    }
    let expected = format!("at most {limit}, what {limit_key} says");
    Err(refused(key, request, &expected))
}

impl Resources {
    /// As a container's `resources`.
    pub(super) fn to_json(&self) -> Value {
        let pair = |cpu: &Option<String>, memory: &Option<String>| {
            let both = [("cpu", cpu), ("memory", memory)];
            let said = both.into_iter().filter_map(|(key, value)| {
                let value = value.as_deref()?;
                Some((key.to_owned(), json!(value)))
            });
            said.collect::<Map<_, _>>()
        };
        let requests = ("requests", pair(&self.cpu, &self.memory));
        let limits = ("limits", pair(&self.cpu_limit, &self.memory_limit));
        let both = [requests, limits].into_iter();
        let said = both.filter(|(_, fields)| !fields.is_empty());
        said.map(|(key, fields)| (key.to_owned(), fields.into()))
            .collect::<Map<_, _>>()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::testing::{annotated, container, injected, refused};

    #[test]
    fn i4_one_annotation_puts_aside_all_that_the_settings_say() {
        let pod = injected(&annotated(&[("sidecar.istio.io/proxyCPU", "3")]));
        let expected = json!({"requests": {"cpu": "3"}});
        for name in ["sortie-proxy", "sortie-init"] {
            assert_eq!(container(&pod, name)["resources"], expected);
        }
        let pod = injected(&annotated(&[
            ("sidecar.istio.io/proxyMemory", "64Mi"),
            ("sidecar.istio.io/proxyMemoryLimit", "64Mi"),
            ("sidecar.istio.io/proxyCPULimit", "500m"),
        ]));
        let expected = json!({
            "requests": {"memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "64Mi"},
        });
        assert_eq!(container(&pod, "sortie-proxy")["resources"], expected);
    }

    #[test]
    fn i4_what_is_no_quantity_is_refused_by_the_annotations_name() {
        let pod = annotated(&[("sidecar.istio.io/proxyMemory", "1gb")]);
        assert_eq!(
            refused(&pod).to_string(),
            "metadata.annotations[\"sidecar.istio.io/proxyMemory\"]: \"1gb\" is not what it takes; \
             expected a quantity such as 100m, 0.5, 128Mi or 1Gi"
        );
    }

    #[test]
    fn i4_a_request_above_its_limit_is_refused_before_kubernetes_does() {
        let pod = annotated(&[
            ("sidecar.istio.io/proxyCPU", "1500m"),
            ("sidecar.istio.io/proxyCPULimit", "1"),
        ]);
        let advice = "expected at most 1, what sidecar.istio.io/proxyCPULimit says";
        assert_eq!(refused(&pod).advice, advice);
    }
}
