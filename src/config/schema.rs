//! The JSON Schema of the native format, for editors.
//!
//! Owns: how a table is written as JSON Schema 2020-12.
//! Never: says anything that the tables do not say.
//! Called by: cli (`schema`).

use serde_json::{Map, Value, json};

use super::format::Format;
use super::native::DOCUMENT;
use super::shape::{Choice, Field, Shape, Table};
use super::units::{DURATION_PATTERN, PERCENT_PATTERN, SIZE_PATTERN};
use super::yaml::{Scalar, ScalarKind};

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
