//! Entrances of a configuration to entrances of a snapshot.
//!
//! Owns: which TLS configuration is kept, with its tickets, and which is made anew.
//! Never: falls back: an entrance whose certificate is missing lets nobody in (ISTIO.md T17).
//! Called by: `publish::build`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::certs::Credentials;
use crate::model::{CredentialSpec, DownstreamTls, EntranceSpec, OnExpired, ServerTlsSpec};
use crate::route::{RouteError, RouteTable, StreamTable};
use crate::snapshot::{Entrance, EntranceTls, Entrances, ServerSide, Snapshot};
use crate::tls::{Credential, ServerTls};
use crate::upstream::Upstream;

/// What all of them are made from.
pub(super) struct Ground<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) upstreams: &'a HashMap<Arc<str>, Arc<Upstream>>,
    pub(super) previous: Option<&'a Snapshot>,
    pub(super) on_expired: OnExpired,
}

/// Makes them.
///
/// # Errors
/// Every rule that cannot be compiled.
pub(super) fn build(
    specs: &[EntranceSpec],
    ground: &Ground<'_>,
) -> Result<Entrances, Vec<RouteError>> {
    let mut errors = Vec::new();
    let mut list = Vec::with_capacity(specs.len());
    for spec in specs {
        let table = RouteTable::build(&spec.hosts, ground.upstreams);
        let streams = StreamTable::build(&spec.streams, ground.upstreams);
        match (table, streams) {
            (Ok(table), Ok(streams)) => {
                list.push(Entrance::new(bare(spec), ground.tls(spec), table, streams));
            }
            (table, streams) => {
                errors.extend(table.err().into_iter().flatten());
                errors.extend(streams.err().into_iter().flatten());
            }
        }
    }
    match errors.is_empty() {
        true => Ok(Entrances::new(list)),
        false => Err(errors),
    }
}

/// Without what the tables hold, and without the content of Secrets (ISTIO.md R19).
fn bare(spec: &EntranceSpec) -> EntranceSpec {
    let tls = match &spec.tls {
        DownstreamTls::Strict(tls) => DownstreamTls::Strict(Box::new(without_documents(tls))),
        DownstreamTls::Permissive(tls) => {
            DownstreamTls::Permissive(Box::new(without_documents(tls)))
        }
        DownstreamTls::Disable | DownstreamTls::PassThrough { .. } => spec.tls.clone(),
    };
    EntranceSpec {
        name: Arc::clone(&spec.name),
        at: spec.at.clone(),
        tls,
        carries: spec.carries,
        hosts: Vec::new(),
        streams: Vec::new(),
        headers: spec.headers.clone(),
        service: spec.service.clone(),
        broken: spec.broken.clone(),
        object: spec.object.clone(),
        reasons: spec.reasons.clone(),
        place: spec.place.clone(),
    }
}

fn without_documents(tls: &ServerTlsSpec) -> ServerTlsSpec {
    let more = tls.more.iter().map(CredentialSpec::without_documents);
    ServerTlsSpec {
        credential: tls.credential.without_documents(),
        more: more.collect(),
        ..tls.clone()
    }
}

impl Ground<'_> {
    fn tls(&self, spec: &EntranceSpec) -> EntranceTls {
        let before = self.previous.and_then(|previous| {
            let entrance = previous.entrances.named(&spec.name)?;
            match (
                previous.on_expired == self.on_expired,
                entrance.tls.server(),
            ) {
                (true, Some(ServerSide::Ready(server))) => Some(server),
                _ => None,
            }
        });
        match &spec.tls {
            DownstreamTls::Disable => EntranceTls::Disable,
            DownstreamTls::PassThrough { mesh_only } => EntranceTls::PassThrough {
                mesh_only: *mesh_only,
            },
            DownstreamTls::Strict(tls) => EntranceTls::Strict(self.side(tls, before)),
            DownstreamTls::Permissive(tls) => EntranceTls::Permissive(self.side(tls, before)),
        }
    }

    fn side(&self, spec: &ServerTlsSpec, before: Option<&Arc<ServerTls>>) -> ServerSide {
        let all = std::iter::once(&spec.credential).chain(&spec.more);
        let found: Result<Vec<_>, String> = all.map(|one| self.credential(one)).collect();
        let mut found = match found {
            Ok(found) => found.into_iter(),
            Err(reason) => return ServerSide::Unavailable(reason.into()),
        };
        let Some(credential) = found.next() else {
            return ServerSide::Unavailable("it names no certificate".into());
        };
        let more: Vec<_> = found.collect();
        let spec = without_documents(spec);
        let all = std::iter::once(&credential).chain(&more);
        let generations = all.map(|one| one.generation);
        if let Some(before) = before
            && *before.spec() == spec
            && before.generations().eq(generations)
        {
            return ServerSide::Ready(Arc::clone(before));
        }
        match ServerTls::new(&spec, credential, more, self.on_expired) {
            Ok(server) => ServerSide::Ready(Arc::new(server)),
            Err(error) => ServerSide::Unavailable(error.to_string().into()),
        }
    }

    fn credential(&self, spec: &CredentialSpec) -> Result<Arc<Credential>, String> {
        let Some(state) = self.credentials.find(spec) else {
            return Err("its credential is not in the store".to_owned());
        };
        match (&state.current, &state.problem) {
            (Some(credential), _) => Ok(Arc::clone(credential)),
            (None, Some(problem)) => Err(problem.to_string()),
            (None, None) => Err("its credential has not been loaded".to_owned()),
        }
    }
}
