//! Starts everything, floor by floor, and undoes nothing half-way: what fails ends the start.
//!
//! Owns: the order: configuration, credentials, threads, listeners, readiness (ISTIO.md I14).
//! Never: reports ready before listeners are bound.
//! Called by: cli, tests.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use tokio::sync::{Semaphore, mpsc, watch};

use super::cold::Cold;
use super::doors::{DoorError, Doors};
use super::inside::{Levers, View};
use super::options::RunOptions;
use super::running::{Bound, Ended, Running};
use super::sockets::OpenListeners;
use crate::admin::{self, AdminState};
use crate::drain::Drain;
use crate::listener::{KernelOriginalDst, OriginalDestination};
use crate::model::{
    AccessLogSpec, ListenerKind, ListenerSpec, Place, Resolution, Retries, TlsPolicy, UpstreamSpec,
};
use crate::proxy::{PassThrough, ProxyContext, headers::Pseudonym};
use crate::publish::{self, LoadError, Overrides, Parts, Shared};
use crate::route::RetryBudget;
use crate::snapshot::SnapshotCell;
use crate::telemetry::{
    AccessFormat, AccessLog, AccessLogError, BLACK_HOLE, LogControl, Metrics, PASSTHROUGH, Status,
    UNKNOWN,
};
use crate::upstream::{OwnAddrs, Resolver, Upstream, UpstreamContext, UpstreamTls};
use crate::worker::Worker;

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration: exit code 64.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Neither a flag nor a file names a listener: exit code 64. Where Gateways were looked for, why
    /// none opens one.
    #[error(
        "there is nothing to listen on; {}",
        .0.as_deref().unwrap_or("give --listen ADDR, or `listeners` in the configuration")
    )]
    NoListener(Option<Arc<str>>),
    /// The access log.
    #[error(transparent)]
    AccessLog(#[from] AccessLogError),
    /// The access log's format: exit code 64.
    #[error("the access log's format: {0}")]
    AccessFormat(String),
    /// A port.
    #[error("{}", .0.join("\n"))]
    Listen(Vec<String>),
    /// The admin port or a status port.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// A thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

impl StartError {
    /// True where what the user wrote is wrong, and not the machine.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            StartError::Load(_)
                | StartError::NoListener(_)
                | StartError::AccessFormat(_)
                | StartError::Door(DoorError::Twice { .. })
        )
    }
}

/// Starts a proxy. It runs until [`Running::stop`].
///
/// # Errors
/// See [`StartError`]; nothing is left behind.
pub fn start(options: RunOptions) -> Result<Running, StartError> {
    start_with(options, Arc::new(KernelOriginalDst), None)
}

/// The same, with the source of original destinations, and the handle that changes the log level.
pub fn start_with(
    options: RunOptions,
    original_dst: Arc<dyn OriginalDestination>,
    log: Option<LogControl>,
) -> Result<Running, StartError> {
    let mut ground = Ground::new(&options)?;
    let doors = Doors::bind(&options)?;
    let bound = Bound {
        listeners: Vec::new(),
        admin: doors.admin_address(),
        status: doors.status_addresses(),
    };
    let taken = doors.addresses();
    let shared = Shared::default();
    // Making upstreams may begin look-ups, which belong to the cold runtime.
    let handle = ground.cold.handle().clone();
    let _entered = handle.enter();
    // From here on whoever asks is told what the start waits for.
    let admin = doors.open_status(&ground)?;
    let first = publish::first_load(Parts {
        sources: options.config.clone(),
        load: options.load.clone(),
        overrides: overrides(&options),
        context: ground.context.clone(),
        metrics: Arc::clone(&ground.metrics),
        status: Arc::clone(&ground.status),
        shared: shared.clone(),
        secrets_timeout: options.secrets_timeout,
    })?;
    if first.config().listeners.is_empty() {
        return Err(StartError::NoListener(first.config().no_gateway.clone()));
    }
    if ground.access_log.is_none()
        && let Some(spec) = &first.config().access_log
    {
        let metrics = &ground.metrics;
        ground.access_log = Some(access_log_of(spec, metrics)?);
    }
    let max_connections = first.config().limits.max_connections;
    let (cell, unopened) = first.publish();
    let workers = ground.start_workers(&options, &cell, max_connections, &original_dst)?;
    let bound = Arc::new(Mutex::new(bound));
    let own = ground.context.own.clone();
    let shown = Arc::clone(&bound);
    let how = options.interception;
    let sockets = OpenListeners::new(Arc::clone(&workers), own, shown, taken, how);
    let reloader = unopened
        .open(Box::new(sockets))
        .map_err(StartError::Listen)?;
    let (reload, requests) = mpsc::channel(16);
    ground.cold.handle().spawn(reloader.run(requests));
    let (told, ended) = watch::channel(Ended::No);
    if let Some(socket) = admin {
        let view = View {
            shared,
            cell,
            sources: options.config,
            bound: Arc::clone(&bound),
        };
        ground.serve_admin(socket, reload.clone(), told, view, log)?;
    }
    ground.status.release("listeners");
    Ok(Running {
        bound,
        drain: ground.drain,
        metrics: ground.metrics,
        drain_time: options.drain_time,
        drain_until_idle: options.drain_until_idle,
        drain_timeout: options.drain_timeout,
        status: ground.status,
        reload,
        access_log: ground.access_log,
        workers,
        stop: ground.stop,
        cold: ground.cold,
        ended,
    })
}

/// What everything else stands on. Dropping it ends the threads: they watch `stop`.
pub(super) struct Ground {
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Status>,
    access_log: Option<Arc<AccessLog>>,
    stop: watch::Sender<bool>,
    pub(super) drain: Drain,
    pub(super) cold: Cold,
    pub(super) context: UpstreamContext,
}

impl Ground {
    fn new(options: &RunOptions) -> Result<Ground, StartError> {
        let workers = options.workers.unwrap_or_else(granted_cores).max(1);
        let metrics = Metrics::new(workers);
        let status = Status::new();
        status.hold("listeners", "not bound yet");
        let access_log = open_access_log(options, &metrics)?;
        let stop = watch::Sender::new(false);
        let cold = Cold::start(stop.subscribe())?;
        let context = UpstreamContext {
            workers,
            resolver: Resolver::system(cold.handle().clone()),
            own: OwnAddrs::new(),
            metrics: Arc::clone(&metrics),
        };
        Ok(Ground {
            metrics,
            status,
            access_log,
            stop,
            drain: Drain::new(),
            cold,
            context,
        })
    }

    fn start_workers(
        &self,
        options: &RunOptions,
        cell: &Arc<SnapshotCell>,
        max_connections: usize,
        original_dst: &Arc<dyn OriginalDestination>,
    ) -> io::Result<Arc<Vec<Worker>>> {
        let spec = UpstreamSpec {
            resolution: Resolution::OriginalDst { port: None },
            tls: TlsPolicy::Disable,
            ..UpstreamSpec::new(PASSTHROUGH)
        };
        let pass_through = Upstream::new(spec, UpstreamTls::Plain, &self.context);
        let black_hole = self.metrics.upstream(BLACK_HOLE);
        let unrouted = self.metrics.upstream(UNKNOWN);
        let pseudonym = Pseudonym::new(random()?);
        let workers = (0..self.context.workers).map(|worker| {
            let context = ProxyContext {
                worker,
                cell: Arc::clone(cell),
                metrics: Arc::clone(&self.metrics),
                access_log: self.access_log.clone(),
                terse: options.terse_errors,
                places: Arc::new(Semaphore::new(
                    max_connections
                        .div_ceil(self.context.workers)
                        .min(Semaphore::MAX_PERMITS),
                )),
                lot: Default::default(),
                mirrors: Arc::default(),
                pass_through: PassThrough {
                    upstream: Arc::clone(&pass_through),
                    retries: Retries::default(),
                    budget: RetryBudget::default(),
                },
                black_hole: Arc::clone(&black_hole),
                unrouted: Arc::clone(&unrouted),
                pseudonym: pseudonym.clone(),
                drain: self.drain.clone(),
            };
            let original_dst = Arc::clone(original_dst);
            let stop = self.stop.subscribe();
            Worker::start(Arc::new(context), original_dst, self.drain.clone(), stop)
        });
        Ok(Arc::new(workers.collect::<io::Result<_>>()?))
    }

    fn serve_admin(
        &self,
        socket: TcpListener,
        reload: mpsc::Sender<publish::Request>,
        ended: watch::Sender<Ended>,
        view: View,
        log: Option<LogControl>,
    ) -> io::Result<()> {
        let (commands, orders) = mpsc::channel(16);
        let state = AdminState {
            metrics: Arc::clone(&self.metrics),
            status: Arc::clone(&self.status),
            drain: self.drain.clone(),
            log,
            commands,
            inside: Box::new(view),
        };
        let levers = Levers {
            reload,
            drain: self.drain.clone(),
            status: Arc::clone(&self.status),
            ended,
            access_log: self.access_log.clone(),
        };
        self.cold.handle().spawn(levers.obey(orders));
        let socket = tokio::net::TcpListener::from_std(socket)?;
        tracing::info!(address = %socket.local_addr()?, "admin port");
        self.cold
            .handle()
            .spawn(admin::serve(socket, Arc::new(state)));
        Ok(())
    }
}

/// The cores that the cgroup grants: the standard library counts quota and affinity.
fn granted_cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn overrides(options: &RunOptions) -> Overrides {
    let spec = |kind| {
        move |address: &SocketAddr| ListenerSpec {
            address: *address,
            kind,
            place: Place::default(),
        }
    };
    let direct = options.listen.iter().map(spec(ListenerKind::Direct));
    let captured = options.capture.iter().map(spec(ListenerKind::Capture));
    Overrides {
        listeners: direct.chain(captured).collect(),
        // Where Istio's sidecar takes captured connections (ISTIO.md C1).
        fallback: Some(spec(ListenerKind::Capture)(&SocketAddr::from((
            [127, 0, 0, 1],
            15001,
        )))),
    }
}

fn open_access_log(
    options: &RunOptions,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<AccessLog>>, StartError> {
    let Some(target) = &options.access_log else {
        return Ok(None);
    };
    let format = AccessFormat::parse(&options.access_log_format)
        .map_err(|error| StartError::AccessFormat(error.to_string()))?;
    let log = AccessLog::open(&target.to_string_lossy(), format, metrics)?;
    Ok(Some(Arc::new(log)))
}

/// The access log that the mesh configuration asks for (ISTIO.md K7). A format that sortie cannot
/// write is no reason to serve nothing: it is said, and the default is written.
fn access_log_of(
    spec: &AccessLogSpec,
    metrics: &Arc<Metrics>,
) -> Result<Arc<AccessLog>, StartError> {
    let format = AccessFormat::parse(&spec.format).or_else(|error| {
        tracing::warn!(
            "{}: accessLogFormat: {error}; the default text format is written instead",
            spec.place
        );
        AccessFormat::parse("text")
    });
    let format = format.map_err(|error| StartError::AccessFormat(error.to_string()))?;
    Ok(Arc::new(AccessLog::open(&spec.file, format, metrics)?))
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(u64::from_le_bytes(bytes))
}
