//! What every object has: kind, name, namespace, labels, age and place.
//!
//! Owns: [`Meta`], [`Written`], the order of age (ISTIO.md Z1) and `exportTo` (H5).
//! Never: reads a `spec`.
//! Called by: every kind.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::model::Place;

/// Labels of a pod, a workload or an object.
pub type Labels = BTreeMap<String, String>;

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// The value.
    pub value: T,
    /// Where.
    pub place: Place,
}

/// What every object has.
#[derive(Clone, Debug)]
pub struct Meta {
    /// `ServiceEntry`, ...
    pub kind: &'static str,
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// Its namespace, the default one where it names none (Z1); empty where its kind has none.
    pub namespace: Arc<str>,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// `creationTimestamp`, in seconds since 1970.
    pub created: Option<i64>,
    /// Its position in the order of loading: paths sorted, then documents as written.
    pub order: usize,
    /// Its first line.
    pub place: Place,
}

impl Meta {
    /// The older first: those with a timestamp, then the others by the order of loading, then name,
    /// then namespace (ISTIO.md Z1). What has no timestamp has not been applied yet; and an order
    /// that compared some pairs by age and others by position would be none.
    pub fn by_age(&self, other: &Meta) -> Ordering {
        let stamp = |meta: &Meta| meta.created.unwrap_or(i64::MAX);
        stamp(self)
            .cmp(&stamp(other))
            .then(self.order.cmp(&other.order))
            .then_with(|| self.name.cmp(&other.name))
            .then_with(|| self.namespace.cmp(&other.namespace))
    }

    /// What messages call it: `DestinationRule ns/name`.
    pub fn object(&self) -> Arc<str> {
        self.to_string().into()
    }
}

impl fmt::Display for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_ref() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Who sees an object (ISTIO.md H5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExportTo {
    /// Every namespace: `*`, or nothing said.
    #[default]
    All,
    /// Nobody: `~`.
    Nobody,
    /// These; `.` was replaced by the object's own.
    Namespaces(Vec<Arc<str>>),
}

impl ExportTo {
    /// True where a proxy in `namespace` sees it.
    pub fn is_visible_in(&self, namespace: &str) -> bool {
        match self {
            ExportTo::All => true,
            ExportTo::Nobody => false,
            ExportTo::Namespaces(list) => list.iter().any(|one| one.as_ref() == namespace),
        }
    }
}

/// True where `labels` has all of `wanted`. Nothing wanted is true.
pub fn selects(wanted: &Labels, labels: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(created: Option<i64>, order: usize) -> Meta {
        Meta {
            kind: "VirtualService",
            name: "a".into(),
            namespace: "b".into(),
            labels: Labels::new(),
            annotations: BTreeMap::new(),
            created,
            order,
            place: Place {
                file: "a.yaml".into(),
                line: 1,
            },
        }
    }

    #[test]
    fn z1_ages_are_one_order_whoever_has_a_timestamp() {
        let (old, young, none) = (meta(Some(1), 3), meta(Some(2), 1), meta(None, 2));
        assert_eq!(old.by_age(&young), Ordering::Less);
        assert_eq!(young.by_age(&none), Ordering::Less);
        // By position it would be older than the first, and so on in a circle.
        assert_eq!(old.by_age(&none), Ordering::Less);
        assert_eq!(meta(None, 1).by_age(&none), Ordering::Less);
    }
}
