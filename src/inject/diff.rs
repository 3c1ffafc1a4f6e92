//! Two documents, and the few changes that make the second of the first.
//!
//! Owns: what is one change: as deep in the document as can be, so that what stays is not touched.
//! Never: knows what a pod is, but that items of its lists have names.
//! Called by: plan.
//!
//! Why: a pod with its sidecar is easier to build, and to be right about, as a whole; and a sidecar
//! that is there already is then no case of its own. What is written to a user's file is this.

use serde_json::Value;

use super::pod::Fields;
use super::{Op, Path};

/// The changes after which `from` equals `to`.
pub(super) fn diff(from: &Value, to: &Value) -> Vec<Op> {
    let mut ops = Vec::new();
    values(from, to, &Path::default(), &mut ops);
    ops
}

/// `at` ends in a key wherever the two are not of one kind: lists are only entered by [`lists`].
fn values(from: &Value, to: &Value, at: &Path, out: &mut Vec<Op>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(from), Value::Object(to)) => mappings(from, to, at, out),
        (Value::Array(from), Value::Array(to)) if all_named(from) && all_named(to) => {
            lists(from, to, at, out);
        }
        // A list that is missing is made by its first item.
        (Value::Null, Value::Array(to)) if all_named(to) && !to.is_empty() => {
            lists(&[], to, at, out);
        }
        _ => out.push(Op::Put {
            at: at.clone(),
            value: to.clone(),
        }),
    }
}

fn mappings(from: &Fields, to: &Fields, at: &Path, out: &mut Vec<Op>) {
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        out.push(Op::Remove { at: at.key(key) });
    }
    for (key, to) in to {
        let from = from.get(key);
        match from {
            Some(from) => values(from, to, &at.key(key), out),
            None => added(to, &at.key(key), out),
        }
    }
}

/// A key that is new.
fn added(to: &Value, at: &Path, out: &mut Vec<Op>) {
    match to {
        Value::Null => out.push(Op::Put {
            at: at.clone(),
            value: Value::Null,
        }),
        to => values(&Value::Null, to, at, out),
    }
}

/// Items are the same if their names are.
fn lists(from: &[Value], to: &[Value], at: &Path, out: &mut Vec<Op>) {
    let mut now: Vec<&Value> = Vec::with_capacity(to.len());
    let stays = |item: &&Value| to.iter().any(|other| name(other) == name(item));
    // From the end, so that positions before stay what they are.
    for (nth, _) in from.iter().enumerate().rev().filter(|(_, one)| !stays(one)) {
        out.push(Op::Remove { at: at.item(nth) });
    }
    now.extend(from.iter().filter(stays));
    for (nth, wanted) in to.iter().enumerate() {
        let there = now.iter().position(|one| name(one) == name(wanted));
        match there {
            Some(there) if there == nth => {}
            Some(there) => {
                now.remove(there);
                out.push(Op::Remove { at: at.item(there) });
                insert(&mut now, wanted, nth, at, out);
            }
            None => insert(&mut now, wanted, nth, at, out),
        }
        if let Some(is) = now.get(nth) {
            values(is, wanted, &at.item(nth), out);
        }
    }
}

fn insert<'a>(now: &mut Vec<&'a Value>, item: &'a Value, nth: usize, at: &Path, out: &mut Vec<Op>) {
    now.insert(nth, item);
    out.push(Op::Insert {
        list: at.clone(),
        index: nth,
        value: item.clone(),
    });
}

/// Every item is a mapping with a name of its own.
fn all_named(items: &[Value]) -> bool {
    let names: std::collections::HashSet<&str> = items.iter().filter_map(name).collect();
    names.len() == items.len()
}

fn name(item: &Value) -> Option<&str> {
    item.as_object()?.get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn after(mut document: Value, ops: &[Op]) -> Value {
        for op in ops {
            op.apply(&mut document).unwrap();
        }
        document
    }

    #[test]
    fn what_is_equal_is_not_changed() {
        let pod = json!({"spec": {"containers": [{"name": "a"}]}, "metadata": null});
        assert_eq!(diff(&pod, &pod), []);
    }

    #[test]
    fn a_change_deep_in_a_list_touches_nothing_beside_it() {
        let from = json!({"c": [{"name": "a", "p": 1, "q": 2}, {"name": "b"}]});
        let to = json!({"c": [{"name": "a", "p": 3, "q": 2}, {"name": "n"}, {"name": "b"}]});
        let at = Path::default().key("c");
        let expected = [
            Op::Put {
                at: at.item(0).key("p"),
                value: json!(3),
            },
            Op::Insert {
                list: at,
                index: 1,
                value: json!({"name": "n"}),
            },
        ];
        assert_eq!(diff(&from, &to), expected);
    }

    #[test]
    fn a_list_without_names_is_put_whole() {
        let ops = diff(&json!({"args": ["a", "b"]}), &json!({"args": ["a"]}));
        assert_eq!(ops.len(), 1);
        assert_eq!(
            after(json!({"args": ["a", "b"]}), &ops),
            json!({"args": ["a"]})
        );
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[ab]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let named = proptest::collection::vec(("[abc]", inner.clone()), 0..4);
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map("[abcd]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
                named.prop_map(|items| items
                    .into_iter()
                    .map(|(name, v)| json!({"name": name, "v": v}))
                    .collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_changes_between_two_documents_make_the_second_of_the_first(
            from in document(), to in document(),
        ) {
            let (from, to) = (json!({"d": from}), json!({"d": to}));
            prop_assert_eq!(after(from.clone(), &diff(&from, &to)), to);
        }
    }
}
