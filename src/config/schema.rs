//! The JSON Schema of the native format, for editors.
//!
//! Owns: how a table is written as JSON Schema 2020-12.
//! Never: says anything that the tables do not say.
//! Called by: cli (`schema`).

use serde_json::{Map, Value, json};

use super::format::Format;
use super::native::DOCUMENT;
use super::node::{Scalar, ScalarKind};
use super::shape::{Choice, Field, Shape, Table};
use super::units::{DURATION_PATTERN, PERCENT_PATTERN, SIZE_PATTERN};

/// The JSON Schema (2020-12) of one native document. It knows every key, kind, bound and word;
/// what two values say of each other only the parser knows.
pub fn schema() -> Value {
    let mut defs = Map::new();
    let mut root = table(&DOCUMENT, &mut defs);
    if let Value::Object(root) = &mut root {
        let dialect = "https://json-schema.org/draft/2020-12/schema";
        root.insert("$schema".to_owned(), json!(dialect));
        root.insert("title".to_owned(), json!("sortie configuration"));
        root.insert("$defs".to_owned(), Value::Object(defs));
    }
    root
}

fn table(table: &Table, defs: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for field in table.fields {
        properties.insert(field.name.to_owned(), self::field(field, defs));
    }
    let required = table.fields.iter().filter(|field| field.required);
    let required: Vec<_> = required.map(|field| field.name).collect();
    let mut object = json!({
        "description": table.doc,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let Value::Object(object) = &mut object {
        if !required.is_empty() {
            object.insert("required".to_owned(), json!(required));
        }
        if !table.any_of.is_empty() {
            object.insert("anyOf".to_owned(), presence(table.any_of));
        }
        if !table.one_of.is_empty() {
            let groups = table.one_of.iter();
            let groups: Vec<_> = groups
                .map(|keys| json!({"oneOf": presence(keys)}))
                .collect();
            object.insert("allOf".to_owned(), json!(groups));
        }
    }
    object
}

fn presence(keys: &[&str]) -> Value {
    keys.iter().map(|key| json!({"required": [key]})).collect()
}

fn field(field: &Field, defs: &mut Map<String, Value>) -> Value {
    let mut value = shape(&field.shape, defs);
    if let Value::Object(object) = &mut value {
        let mut doc = field.doc.to_owned();
        if let Shape::Choice(choices) = &field.shape {
            for Choice { word, doc: meaning } in *choices {
                doc.push_str(&format!("\n- {word}: {meaning}"));
            }
        }
        object.insert("description".to_owned(), json!(doc));
        if let Some(default) = field.default {
            object.insert("default".to_owned(), literal(default));
        }
    }
    value
}

/// A default as it is written in YAML, as JSON.
fn literal(text: &str) -> Value {
    if let Some(list) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return list.split(", ").map(literal).collect();
    }
    if let Some(quoted) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return json!(quoted);
    }
    plain(text)
}

/// A word as YAML takes it without quotes.
fn plain(text: &str) -> Value {
    let scalar = Scalar {
        text: text.into(),
        plain: true,
    };
    match scalar.kind() {
        ScalarKind::Bool(value) => json!(value),
        ScalarKind::Number => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        ScalarKind::Null | ScalarKind::Text => json!(text),
    }
}

fn shape(shape: &Shape, defs: &mut Map<String, Value>) -> Value {
    match shape {
        Shape::Text(format) => text(*format),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Whole { min, max } => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Duration { .. } => json!({"type": "string", "pattern": DURATION_PATTERN}),
        Shape::Size { min, max } => json!({"anyOf": [
            {"type": "string", "pattern": SIZE_PATTERN},
            {"type": "integer", "minimum": min, "maximum": max},
        ]}),
        Shape::Percent => json!({"anyOf": [
            {"type": "integer", "minimum": 0, "maximum": 100},
            {"type": "string", "pattern": PERCENT_PATTERN},
        ]}),
        Shape::Choice(choices) => json!({"enum": words(choices)}),
        Shape::Object(of) => reference(of, defs),
        Shape::List(of) => {
            json!({"type": "array", "items": self::shape(of, defs), "minItems": 1})
        }
        Shape::Many(of) => {
            let of = self::shape(of, defs);
            json!({"anyOf": [of, {"type": "array", "items": of, "minItems": 1}]})
        }
        Shape::Map(keys, of) => json!({
            "type": "object",
            "propertyNames": text(*keys),
            "additionalProperties": self::shape(of, defs),
            "minProperties": 1,
        }),
        Shape::Either(shapes) => {
            let shapes: Vec<_> = shapes.iter().map(|s| self::shape(s, defs)).collect();
            json!({"anyOf": shapes})
        }
    }
}

/// Words that are numbers or truth values without quotes may be written both ways.
fn words(choices: &[Choice]) -> Value {
    let mut words = Vec::new();
    for choice in choices {
        let bare = plain(choice.word);
        if !bare.is_string() {
            words.push(bare);
        }
        words.push(json!(choice.word));
    }
    Value::Array(words)
}

fn text(format: Format) -> Value {
    let mut object = json!({"type": "string"});
    if let (Value::Object(object), false) = (&mut object, format.may_be_empty()) {
        object.insert("minLength".to_owned(), json!(1));
    }
    if let (Value::Object(object), Some(pattern)) = (&mut object, format.pattern()) {
        object.insert("pattern".to_owned(), json!(pattern));
    }
    object
}

fn reference(of: &Table, defs: &mut Map<String, Value>) -> Value {
    if !defs.contains_key(of.name) {
        // Taken first, so that the definitions stand in the order in which they are met.
        defs.insert(of.name.to_owned(), Value::Null);
        let definition = table(of, defs);
        defs.insert(of.name.to_owned(), definition);
    }
    json!({"$ref": format!("#/$defs/{}", of.name)})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native::FULL;
    use crate::config::node::{self, Node};
    use crate::config::yaml;

    /// As much of JSON Schema as this schema uses; anything else fails the test.
    fn fits(schema: &Value, value: &Value, root: &Value) -> bool {
        let Value::Object(rules) = schema else {
            panic!("{schema}")
        };
        rules.iter().all(|(rule, arg)| match rule.as_str() {
            "$schema" | "title" | "description" | "default" | "$defs" => true,
            "$ref" => {
                let pointer = arg.as_str().unwrap().trim_start_matches('#');
                fits(root.pointer(pointer).expect("a definition"), value, root)
            }
            "type" => match arg.as_str().unwrap() {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "integer" => value.is_u64(),
                "boolean" => value.is_boolean(),
                other => panic!("{other}"),
            },
            "properties" => value.as_object().is_none_or(|object| {
                object
                    .iter()
                    .all(|(key, value)| arg.get(key).is_none_or(|schema| fits(schema, value, root)))
            }),
            "additionalProperties" => value.as_object().is_none_or(|object| {
                let known = rules.get("properties").and_then(Value::as_object);
                let mut others = object
                    .iter()
                    .filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                match arg {
                    Value::Bool(false) => others.next().is_none(),
                    schema => others.all(|(_, value)| fits(schema, value, root)),
                }
            }),
            "propertyNames" => value
                .as_object()
                .is_none_or(|object| object.keys().all(|key| fits(arg, &json!(key), root))),
            "required" => {
                let keys = arg.as_array().unwrap().iter().filter_map(Value::as_str);
                value
                    .as_object()
                    .is_none_or(|o| keys.clone().all(|key| o.contains_key(key)))
            }
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|i| fits(arg, i, root))),
            "minItems" | "minProperties" | "minLength" => {
                let least = usize::try_from(arg.as_u64().unwrap()).unwrap();
                value.as_array().is_none_or(|v| v.len() >= least)
                    && value.as_object().is_none_or(|v| v.len() >= least)
                    && value.as_str().is_none_or(|v| v.len() >= least)
            }
            "minimum" => value.as_u64().is_none_or(|n| n >= arg.as_u64().unwrap()),
            "maximum" => value.as_u64().is_none_or(|n| n <= arg.as_u64().unwrap()),
            "pattern" => {
                let regex = regex::Regex::new(arg.as_str().unwrap()).unwrap();
                value.as_str().is_none_or(|text| regex.is_match(text))
            }
            "enum" => arg.as_array().unwrap().contains(value),
            "anyOf" => arg.as_array().unwrap().iter().any(|s| fits(s, value, root)),
            "allOf" => arg.as_array().unwrap().iter().all(|s| fits(s, value, root)),
            "oneOf" => {
                let fitting = arg
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|s| fits(s, value, root));
                fitting.count() == 1
            }
            other => panic!("{other}"),
        })
    }

    fn as_json(node: &Node) -> Value {
        match &node.value {
            node::Value::Scalar(scalar) if scalar.plain => plain(&scalar.text),
            node::Value::Scalar(scalar) => json!(scalar.text),
            node::Value::List(items) => items.iter().map(as_json).collect(),
            node::Value::Map(entries) => {
                let entries = entries.iter();
                Value::Object(
                    entries
                        .map(|e| (e.key.to_string(), as_json(&e.value)))
                        .collect(),
                )
            }
        }
    }

    fn fits_document(text: &str) -> bool {
        let schema = schema();
        fits(&schema, &as_json(&yaml::parse(text).documents[0]), &schema)
    }

    #[test]
    fn the_schema_takes_what_the_parser_takes() {
        assert!(fits_document(FULL));
        for text in [
            "upstreams: [{name: a, endpoints: a:1, tls: {mode: disable}}]\n",
            "limits: {maxHeadBytes: 65536}\n",
            "routes: [{host: a, rules: [{respond: {status: 200}}]}]\n",
        ] {
            assert!(
                fits_document(text)
                    && crate::config::load::said(text)
                        .iter()
                        .all(|l| !l.contains("error")),
                "{text}"
            );
        }
    }

    #[test]
    fn the_schema_does_not_take_what_the_parser_refuses_by_itself() {
        for text in [
            "listners: []\n",
            "listeners: []\n",
            "listeners: [{adress: '127.0.0.1:80'}]\n",
            "limits: {maxStreams: 0}\n",
            "limits: {maxStreams: '5'}\n",
            "limits: {headTimeout: 10}\n",
            "limits: {headTimeout: 1d}\n",
            "unknownHosts: allow\n",
            "unknownHosts:\n",
            "upstreams: [{name: a, endpoints: a:1}]\n",
            "upstreams: [{name: a, endpoints: a:1, tls: {}}]\n",
            "upstreams: [{name: a, endpoints: a, tls: {mode: disable}}]\n",
            "upstreams: [{name: a, endpoints: a:1, tls: {mode: simple, verify: false}}]\n",
            "routes: [{host: a}]\n",
            "routes: [{host: a, hosts: [b], upstream: a}]\n",
            "routes: [{host: a, rules: [{}]}]\n",
            "routes: [{host: a, rules: [{match: {}, upstream: a}]}]\n",
            "routes: [{host: a, rules: [{upstream: a, retries: 11}]}]\n",
            "routes: [{host: a, rules: [{match: {headers: {'a b': absent}}, upstream: a}]}]\n",
        ] {
            let refused = crate::config::load::said(text)
                .iter()
                .any(|line| line.contains("error"));
            assert!(!fits_document(text) && refused, "{text}");
        }
    }

    #[test]
    fn every_definition_is_closed_described_and_used() {
        let schema = schema();
        let text = schema.to_string();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            assert_eq!(definition["additionalProperties"], json!(false), "{name}");
            assert!(text.contains(&format!("\"#/$defs/{name}\"")), "{name}");
            for (key, property) in definition["properties"].as_object().unwrap() {
                assert!(
                    property["description"]
                        .as_str()
                        .is_some_and(|d| d.len() > 3),
                    "{key}"
                );
            }
        }
    }

    #[test]
    fn defaults_are_values_that_the_schema_itself_takes() {
        fn look(value: &Value, root: &Value, count: &mut usize) {
            if let Value::Object(object) = value {
                if let Some(default) = object.get("default") {
                    assert!(fits(value, default, root), "{value}");
                    *count += 1;
                }
                object.values().for_each(|value| look(value, root, count));
            }
        }
        let (schema, mut count) = (schema(), 0);
        look(&schema, &schema, &mut count);
        assert!(count > 30, "{count}");
    }
}
