//! Changes to a document as a JSON Patch (RFC 6902).
//!
//! Owns: [`json_patch`]: what it means is held against [`Op::apply`].
//! Never: knows what a pod is.
//! Called by: decide.
//!
//! Why mappings on the way are made in one operation: `add` fails where its parent is missing
//! (RFC 6902 section 4.1).

use serde_json::{Value, json};

use crate::inject::{Op, OpError, Path, Step};

/// The operations that do to `document` what `ops` do, in order.
///
/// # Errors
/// An op does not fit the document.
pub fn json_patch(document: &Value, ops: &[Op]) -> Result<Vec<Value>, OpError> {
    let mut now = document.clone();
    let mut patch = Vec::with_capacity(ops.len());
    for op in ops {
        patch.push(match op {
            Op::Put { at, value } => add(&now, at, value.clone()),
            Op::Insert { list, index, value } => match found(&now, &list.0) {
                Some(Value::Array(_)) => add(&now, &list.item(*index), value.clone()),
                _ => add(&now, list, json!([value])),
            },
            Op::Remove { at } => json!({"op": "remove", "path": pointer(&at.0)}),
        });
        op.apply(&mut now)?;
    }
    Ok(patch)
}

/// Sets what is at `path`, or puts an item in there, with every mapping that is missing on the way.
fn add(document: &Value, path: &Path, value: Value) -> Value {
    let steps = &path.0;
    let there = |length: usize| {
        let parent = steps.get(..length).and_then(|steps| found(document, steps));
        parent.is_some_and(|parent| !parent.is_null())
    };
    // The root always is; of the others the first that is not is what has to be made.
    let made = (1..steps.len()).find(|length| !there(*length));
    let length = made.unwrap_or(steps.len());
    let (shown, inner) = steps.split_at(length);
    let value = inner.iter().rev().fold(value, |value, step| match step {
        Step::Key(key) => json!({ key: value }),
        // Of a list that is missing there is no item; `apply` refuses it.
        Step::Item(_) => json!([value]),
    });
    json!({"op": "add", "path": pointer(shown), "value": value})
}

fn found<'a>(document: &'a Value, steps: &[Step]) -> Option<&'a Value> {
    steps.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Item(nth) => value.get(nth),
    })
}

/// RFC 6901.
fn pointer(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        out.push('/');
        match step {
            Step::Key(key) => out.push_str(&key.replace('~', "~0").replace('/', "~1")),
            Step::Item(nth) => out.push_str(&nth.to_string()),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6902, as far as it is used here: `add` and `remove`, strictly.
    pub(in super::super) fn patched(mut document: Value, patch: &[Value]) -> Value {
        for one in patch {
            let path = one["path"].as_str().unwrap();
            let (parent, last) = path.rsplit_once('/').unwrap();
            let last = last.replace("~1", "/").replace("~0", "~");
            let parent = document.pointer_mut(parent).expect("the parent is there");
            match (one["op"].as_str().unwrap(), parent) {
                ("add", Value::Object(entries)) => drop(entries.insert(last, one["value"].clone())),
                ("add", Value::Array(items)) => {
                    items.insert(last.parse().unwrap(), one["value"].clone())
                }
                ("remove", Value::Object(entries)) => drop(entries.shift_remove(&last).unwrap()),
                ("remove", Value::Array(items)) => drop(items.remove(last.parse().unwrap())),
                (op, parent) => panic!("{op} on {parent}"),
            }
        }
        document
    }

    fn path(steps: &[&str]) -> Path {
        steps
            .iter()
            .fold(Path::default(), |path, step| match step.parse() {
                Ok(nth) => path.item(nth),
                Err(_) => path.key(step),
            })
    }

    #[track_caller]
    fn same(document: Value, ops: &[Op]) -> Vec<Value> {
        let patch = json_patch(&document, ops).unwrap();
        let mut applied = document.clone();
        ops.iter().for_each(|op| op.apply(&mut applied).unwrap());
        assert_eq!(patched(document, &patch), applied);
        patch
    }

    #[test]
    fn keys_with_slashes_and_tildes_are_escaped() {
        let at = path(&["metadata", "labels", "a/b~1"]);
        let patch = same(
            json!({"metadata": {"labels": {}}}),
            &[Op::Put {
                at,
                value: json!("x"),
            }],
        );
        assert_eq!(patch[0]["path"], "/metadata/labels/a~1b~01");
    }

    #[test]
    fn mappings_that_are_missing_or_null_are_made_in_one_operation() {
        let op = || Op::Put {
            at: path(&["metadata", "annotations", "a/b"]),
            value: json!(1),
        };
        for document in [
            json!({}),
            json!({"metadata": null}),
            json!({"metadata": {}}),
            json!({"metadata": {"annotations": null}}),
        ] {
            assert_eq!(same(document, &[op()]).len(), 1);
        }
        let both = [
            op(),
            Op::Put {
                at: path(&["metadata", "annotations", "c"]),
                value: json!(2),
            },
        ];
        let patch = same(json!({}), &both);
        assert_eq!(
            patch[0],
            json!({"op": "add", "path": "/metadata", "value": {"annotations": {"a/b": 1}}})
        );
        assert_eq!(patch[1]["path"], "/metadata/annotations/c");
    }

    #[test]
    fn items_go_into_lists_and_lists_that_are_missing_are_made() {
        let insert = |index| Op::Insert {
            list: path(&["spec", "volumes"]),
            index,
            value: json!("v"),
        };
        same(
            json!({"spec": {"volumes": ["a", "b"]}}),
            &[insert(0), insert(3), insert(1)],
        );
        let patch = same(json!({"spec": {"volumes": null}}), &[insert(0), insert(1)]);
        assert_eq!(patch[0]["value"], json!(["v"]));
        same(json!({}), &[insert(0)]);
        let deep = Op::Insert {
            list: path(&["spec", "containers", "0", "env"]),
            index: 0,
            value: json!(1),
        };
        same(json!({"spec": {"containers": [{}]}}), &[deep]);
    }

    #[test]
    fn what_is_there_is_replaced_or_removed() {
        let put = Op::Put {
            at: path(&["a"]),
            value: json!({"b": null}),
        };
        let remove = Op::Remove {
            at: path(&["l", "1"]),
        };
        same(json!({"a": [1], "l": [1, 2, 3]}), &[put, remove]);
        let gone = [Op::Remove { at: path(&["x"]) }];
        assert!(json_patch(&json!({}), &gone).is_err());
    }

    fn steps() -> impl Strategy<Value = Path> {
        prop::collection::vec(prop::sample::select(vec!["a", "b/~", "0", "1", ""]), 1..4)
            .prop_map(|steps| path(&steps))
    }

    fn op() -> impl Strategy<Value = Op> {
        let value = || {
            prop::sample::select(vec![
                json!(1),
                json!({}),
                json!([]),
                json!(null),
                json!({"a": [{}]}),
            ])
        };
        prop_oneof![
            (steps(), value()).prop_map(|(at, value)| Op::Put { at, value }),
            (steps(), 0..3usize, value()).prop_map(|(list, index, value)| Op::Insert {
                list,
                index,
                value
            }),
            steps().prop_map(|at| Op::Remove { at }),
        ]
    }

    proptest! {
        #[test]
        fn a_patch_does_what_the_changes_do(ops in prop::collection::vec(op(), 0..6)) {
            let mut document = json!({"a": {"b/~": [1, {"a": null}]}});
            // Of what does not fit, what came before stands.
            let mut fitting = Vec::new();
            for op in ops {
                let mut next = document.clone();
                if op.apply(&mut next).is_ok() {
                    let patch = json_patch(&document, std::slice::from_ref(&op)).unwrap();
                    prop_assert_eq!(patched(document, &patch), next.clone());
                    document = next;
                    fitting.push(op);
                }
            }
            let start = json!({"a": {"b/~": [1, {"a": null}]}});
            let whole = json_patch(&start, &fitting).unwrap();
            prop_assert_eq!(patched(start, &whole), document);
        }
    }
}
