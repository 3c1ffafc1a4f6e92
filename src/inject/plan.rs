//! One pod, decided.
//!
//! Owns: the order of the steps, and where the new containers stand among the others (I6, I7).
//! Never: changes anything: what it returns are changes.
//! Called by: cli (`sortie inject`), webhook.

use serde_json::{Value, json};

use super::containers::{INIT, PROXY, init, proxy};
use super::pod::{Pod, spec_path};
use super::probes::{self, Originals};
use super::status::{self, Put, SYSCTL, Stripped};
use super::wishes::Wishes;
use super::{
    LeftAlone, Op, OpError, Outcome, Owner, Path, Plan, Refusal, Settings, Warning, bypass, checks,
    diff, files, identity, known, mounts, who,
};

/// What makes of `template`, a pod or a pod template `{metadata, spec}`, one with a sidecar.
/// Planning on what came of it changes nothing. Pure.
///
/// # Errors
/// The pod asks for a sidecar and cannot have one as it is.
pub fn plan(settings: &Settings, owner: &Owner, template: &Value) -> Result<Outcome, Refusal> {
    // A pod that is nobody's business may have any shape.
    if let Some(why) = who::left_alone(settings, owner, Pod::loosely(template))? {
        return Ok(Outcome::LeftAlone(why));
    }
    Pod::read(template)?;
    let Stripped { original, taken } = status::stripped(template)?;
    let (mut desired, warnings) = with_sidecar(settings, owner, &original, &taken)?;
    keep_order(template, &mut desired);
    let ops = diff::diff(template, &desired);
    Ok(match ops.is_empty() {
        true => Outcome::LeftAlone(LeftAlone::Same),
        false => Outcome::Inject(Plan { ops, warnings }),
    })
}

/// The order of volumes means nothing: those that are there stay where they are, others among them.
fn keep_order(template: &Value, desired: &mut Value) {
    let names: Vec<&str> = Pod::loosely(template)
        .volumes()
        .map(|(_, name, _)| name)
        .collect();
    let volumes = desired
        .get_mut("spec")
        .and_then(|spec| spec.get_mut("volumes")?.as_array_mut());
    if let Some(volumes) = volumes {
        let place = |volume: &Value| {
            let name = volume.get("name").and_then(Value::as_str);
            let place = names.iter().position(|one| Some(*one) == name);
            place.unwrap_or(usize::MAX)
        };
        volumes.sort_by_cached_key(place);
    }
}

/// The whole pod as it should be.
fn with_sidecar(
    settings: &Settings,
    owner: &Owner,
    original: &Value,
    taken: &[(&'static str, Value)],
) -> Result<(Value, Vec<Warning>), Refusal> {
    let pod = Pod::read(original)?;
    checks::names(pod)?;
    let (wishes, mut warnings) = Wishes::read(settings, owner, pod)?;
    checks::ports(pod, settings, &wishes)?;
    warnings.extend(known::annotations(pod));
    warnings.extend(checks::users(pod, &wishes));
    warnings.extend(checks::early(pod, &wishes));
    warnings.extend(bypass::warnings(pod, settings, &wishes));
    warnings.extend(identity::clear_text(pod, &wishes));
    warnings.extend(files::warnings(pod, &wishes.user));
    let (originals, kept) = app_probes(pod, &wishes);
    warnings.extend(kept);
    let mut parts = Parts::new(settings, &wishes, pod, &originals)?;
    parts.carry(taken);
    let labels = identity::labels(pod, owner, &wishes);
    let mut annotations = identity::annotations(pod, &wishes);
    let sysctl = needs_sysctl(settings, &wishes, pod);
    let mut put = parts.names();
    put.labels = labels.iter().map(|(key, _)| (*key).to_owned()).collect();
    put.annotations = annotations
        .iter()
        .map(|(key, _)| (*key).to_owned())
        .collect();
    put.sysctls = sysctl.then(|| SYSCTL.to_owned()).into_iter().collect();
    annotations.push((status::STATUS, put.to_text()));
    let mut additions = parts.place(pod, &wishes);
    let metadata = Path::default().key("metadata");
    for (kind, pairs) in [("labels", labels), ("annotations", annotations)] {
        additions.extend(pairs.into_iter().map(|(key, value)| Op::Put {
            at: metadata.key(kind).key(key),
            value: value.into(),
        }));
    }
    if sysctl {
        additions.push(opened(pod));
    }
    let mut desired = original.clone();
    if let (Some(port), false) = (wishes.probe_port(), originals.is_empty()) {
        probes::rewrite(&mut desired, &originals, port);
    }
    for addition in additions {
        let misfit = |error: OpError| Refusal::new(error.path, error.problem, "expected a pod");
        addition.apply(&mut desired).map_err(misfit)?;
    }
    Ok((desired, warnings))
}

/// What goes through the proxy; nothing, if nothing may.
fn app_probes(pod: Pod<'_>, wishes: &Wishes) -> (Originals, Vec<Warning>) {
    match wishes.probe_port() {
        Some(port) => probes::originals(pod, &[port, super::containers::READY_PORT]),
        None => (Originals::new(), Vec::new()),
    }
}

/// C9: a user that is not root may listen on port 80 only where the pod says so; container runtimes
/// differ in what they say by themselves.
fn needs_sysctl(settings: &Settings, wishes: &Wishes, pod: Pod<'_>) -> bool {
    let port = settings
        .listen
        .rsplit(':')
        .next()
        .and_then(|port| port.parse::<u16>().ok());
    let low = !wishes.captures() && port.is_some_and(|port| port < 1024);
    let context = pod.spec("securityContext");
    let sysctls = context.and_then(|context| context.get("sysctls")?.as_array());
    let said = |one: &Value| one.get("name").and_then(Value::as_str) == Some(SYSCTL);
    low && !sysctls.is_some_and(|sysctls| sysctls.iter().any(said))
}

/// What is put into the spec.
struct Parts {
    init: Option<Value>,
    proxy: Value,
    volumes: Vec<Value>,
    native: bool,
}

impl Parts {
    fn new(
        settings: &Settings,
        wishes: &Wishes,
        pod: Pod<'_>,
        originals: &Originals,
    ) -> Result<Parts, Refusal> {
        let mut volumes = mounts::volumes(wishes);
        volumes.extend(wishes.user.missing(pod)?);
        Ok(Parts {
            init: wishes.captures().then(|| init(settings, wishes)),
            proxy: proxy(settings, wishes, originals),
            volumes,
            native: wishes.native,
        })
    }

    /// Keeps what Kubernetes has filled in.
    fn carry(&mut self, taken: &[(&'static str, Value)]) {
        let volumes = self.volumes.iter_mut().map(|volume| ("volumes", volume));
        let containers = self.init.iter_mut().chain([&mut self.proxy]);
        let native = self.native;
        let containers = containers.map(|one| {
            let list = match is_init(one) || native {
                true => "initContainers",
                false => "containers",
            };
            (list, one)
        });
        for (list, becomes) in volumes.chain(containers) {
            let name = becomes.get("name");
            let was = taken
                .iter()
                .find(|(from, was)| *from == list && was.get("name") == name);
            if let Some((_, was)) = was {
                status::carry(was, becomes);
            }
        }
    }

    fn names(&self) -> Put {
        let proxy = vec![PROXY.to_owned()];
        let mut put = Put {
            init_containers: self.init.iter().map(|_| INIT.to_owned()).collect(),
            ..Put::default()
        };
        match self.native {
            true => put.init_containers.extend(proxy),
            false => put.containers = proxy,
        }
        let names = self
            .volumes
            .iter()
            .filter_map(|volume| volume.get("name")?.as_str());
        put.volumes = names.map(str::to_owned).collect();
        put
    }

    /// I6: capture, proxy, then the application's own init containers. I7: capture after these, the
    /// proxy last; or first of all containers, if they are to wait for it.
    fn place(self, pod: Pod<'_>, wishes: &Wishes) -> Vec<Op> {
        let end = |list| pod.spec(list).and_then(Value::as_array).map_or(0, Vec::len);
        let insert = |list, index, value| Op::Insert {
            list: spec_path(list),
            index,
            value,
        };
        let volumes = self.volumes.into_iter().enumerate();
        let last = end("volumes");
        let mut ops: Vec<Op> = volumes
            .map(|(nth, volume)| insert("volumes", last + nth, volume))
            .collect();
        let (inits, containers) = ("initContainers", "containers");
        if self.native {
            let new = self.init.into_iter().chain([self.proxy]).enumerate();
            ops.extend(new.map(|(nth, one)| insert(inits, nth, one)));
            return ops;
        }
        ops.extend(self.init.map(|init| insert(inits, end(inits), init)));
        let at = if wishes.hold { 0 } else { end(containers) };
        ops.push(insert(containers, at, self.proxy));
        ops
    }
}

/// Ports below 1024 for everybody in the pod.
fn opened(pod: Pod<'_>) -> Op {
    let context = pod.spec("securityContext");
    let sysctls = context.and_then(|context| context.get("sysctls")?.as_array());
    Op::Insert {
        list: spec_path("securityContext").key("sysctls"),
        index: sysctls.map_or(0, Vec::len),
        value: json!({"name": SYSCTL, "value": "0"}),
    }
}

fn is_init(container: &Value) -> bool {
    container.get("name").and_then(Value::as_str) == Some(INIT)
}
