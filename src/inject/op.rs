//! One change to a document, as a value.
//!
//! Owns: [`Op`], and what it means: [`Op::apply`] is the one definition that every other way of
//! applying it (text, JSON Patch) is held against.
//! Never: knows what a pod is.
//! Called by: the rest of this room.

use std::fmt;

use serde_json::{Map, Value};

/// One step down a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A key of a mapping.
    Key(String),
    /// An item of a list.
    Item(usize),
}

/// Where in a document; empty is its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// This path and a key.
    pub fn key(&self, key: &str) -> Path {
        self.with(Step::Key(key.to_owned()))
    }

    /// This path and a position.
    pub fn item(&self, at: usize) -> Path {
        self.with(Step::Item(at))
    }

    /// This path, and from there `rest`.
    pub fn join(&self, rest: &Path) -> Path {
        Path(self.0.iter().chain(&rest.0).cloned().collect())
    }

    /// What is there.
    pub fn of<'a>(&self, document: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(document, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Item(nth) => value.get(nth),
        })
    }

    fn with(&self, step: Step) -> Path {
        let mut steps = self.0.clone();
        steps.push(step);
        Path(steps)
    }
}

impl fmt::Display for Path {
    /// As diagnostics write it: `spec.containers[0].ports`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if key.contains(['.', '/', '[', ']', ' ']) => {
                    write!(f, "[{key:?}]")?
                }
                Step::Key(key) if nth == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Item(at) => write!(f, "[{at}]")?,
            }
        }
        Ok(())
    }
}

/// One change. Each path is that of the document as the changes before left it.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Sets a key, new (at the end of its mapping) or not; mappings on the way that are missing or
    /// null are made.
    Put {
        /// The path, whose last step is a key.
        at: Path,
        /// Its value from now on.
        value: Value,
    },
    /// Puts an item into a list before position `index`; a list that is missing or null is made.
    Insert {
        /// The path of the list.
        list: Path,
        /// 0 to the list's length.
        index: usize,
        /// The item.
        value: Value,
    },
    /// Takes away what is there.
    Remove {
        /// The path, not the root.
        at: Path,
    },
}

/// A change that does not fit its document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct OpError {
    /// Where.
    pub path: Path,
    /// What is not as expected.
    pub problem: &'static str,
}

impl Op {
    /// Changes `document`.
    ///
    /// # Errors
    /// The document has another shape than the path says. It may be half changed.
    pub fn apply(&self, document: &mut Value) -> Result<(), OpError> {
        let fail = |path: &Path, problem| OpError {
            path: path.clone(),
            problem,
        };
        match self {
            Op::Put { at, value } => {
                let (last, parents) =
                    at.0.split_last()
                        .ok_or_else(|| fail(at, "it is the root"))?;
                let Step::Key(key) = last else {
                    return Err(fail(at, "expected a key"));
                };
                let parent =
                    made(document, parents).ok_or_else(|| fail(at, "no mapping is there"))?;
                let parent = emptied(parent).as_object_mut();
                let parent = parent.ok_or_else(|| fail(at, "no mapping is there"))?;
                parent.insert(key.clone(), value.clone());
            }
            Op::Insert { list, index, value } => {
                let there =
                    made(document, &list.0).ok_or_else(|| fail(list, "no list is there"))?;
                if there.is_null() {
                    *there = Value::Array(Vec::new());
                }
                let items = there.as_array_mut();
                let items = items.ok_or_else(|| fail(list, "no list is there"))?;
                if *index > items.len() {
                    return Err(fail(list, "the list is shorter"));
                }
                items.insert(*index, value.clone());
            }
            Op::Remove { at } => {
                let (last, parents) =
                    at.0.split_last()
                        .ok_or_else(|| fail(at, "it is the root"))?;
                let parent = made(document, parents);
                let removed = match (parent, last) {
                    (Some(Value::Object(entries)), Step::Key(key)) => {
                        entries.shift_remove(key).is_some()
                    }
                    (Some(Value::Array(items)), Step::Item(nth)) if *nth < items.len() => {
                        items.remove(*nth);
                        true
                    }
                    _ => false,
                };
                if !removed {
                    return Err(fail(at, "nothing is there"));
                }
            }
        }
        Ok(())
    }
}

/// The value at `steps`, mappings on the way made where they are missing.
fn made<'a>(mut value: &'a mut Value, steps: &[Step]) -> Option<&'a mut Value> {
    for step in steps {
        value = match step {
            Step::Key(key) => emptied(value)
                .as_object_mut()?
                .entry(key.clone())
                .or_insert(Value::Null),
            Step::Item(nth) => value.as_array_mut()?.get_mut(*nth)?,
        };
    }
    Some(value)
}

/// A mapping in place of null.
fn emptied(value: &mut Value) -> &mut Value {
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn after(mut document: Value, ops: &[Op]) -> Value {
        for op in ops {
            op.apply(&mut document).unwrap();
        }
        document
    }

    #[test]
    fn a_put_makes_what_is_missing_on_the_way() {
        let at = Path::default().key("metadata").key("labels").key("a");
        let op = Op::Put {
            at,
            value: json!("b"),
        };
        let expected = json!({"metadata": {"labels": {"a": "b"}}});
        assert_eq!(after(json!({}), std::slice::from_ref(&op)), expected);
        assert_eq!(after(json!({"metadata": null}), &[op]), expected);
    }

    #[test]
    fn an_insert_keeps_the_order_of_the_others_and_a_remove_too() {
        let list = Path::default().key("c");
        let insert = |index| Op::Insert {
            list: list.clone(),
            index,
            value: json!(9),
        };
        assert_eq!(
            after(json!({"c": [1, 2]}), &[insert(0), insert(3)]),
            json!({"c": [9, 1, 2, 9]})
        );
        assert_eq!(after(json!({}), &[insert(0)]), json!({"c": [9]}));
        let gone = after(
            json!({"a": 1, "b": 2, "c": 3}),
            &[Op::Remove {
                at: Path::default().key("a"),
            }],
        );
        assert_eq!(gone.to_string(), r#"{"b":2,"c":3}"#);
    }

    #[test]
    fn a_change_that_does_not_fit_says_where() {
        let list = Path::default().key("spec").key("containers");
        let op = Op::Insert {
            list,
            index: 0,
            value: json!({}),
        };
        let error = op
            .apply(&mut json!({"spec": {"containers": {}}}))
            .unwrap_err();
        assert_eq!(error.to_string(), "spec.containers: no list is there");
    }
}
