//! Diagnostics as SARIF 2.1.0, for code scanning and editors.
//!
//! Owns: the shape of the log: one run, a rule for each code, a result for each diagnostic.
//! Never: decides what is wrong.
//! Called by: `cli::check`.
//!
//! Why the fingerprint leaves the line out: a scanner must know a mistake again after lines were
//! added above it.

use std::path::{Component, Path};

use serde_json::{Map, Value, json};

use crate::config::{Code, Diagnostic, Diagnostics, Severity};

/// The whole log. `base` is the folder that relative paths start from.
pub fn sarif(diagnostics: &Diagnostics, base: &Path) -> Value {
    let results: Vec<Value> = diagnostics.iter().map(|d| result(d, base)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "sortie",
                "version": env!("CARGO_PKG_VERSION"),
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": Code::ALL.iter().map(|code| rule(*code)).collect::<Vec<_>>(),
            }},
            "invocations": [invocation(diagnostics)],
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.to_string(),
        "name": format!("{code:?}"),
        "shortDescription": {"text": code.meaning()},
        "defaultConfiguration": {"level": level(code.severity())},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// What was counted and not kept is told here, so that nobody takes the list for all there is.
fn invocation(diagnostics: &Diagnostics) -> Value {
    let mut invocation = json!({"executionSuccessful": true});
    if diagnostics.dropped() > 0
        && let Some(object) = invocation.as_object_mut()
    {
        let text = format!("and {} more, which are not listed", diagnostics.dropped());
        let note = json!([{"level": "warning", "message": {"text": text}}]);
        object.insert("toolExecutionNotifications".to_owned(), note);
    }
    invocation
}

fn result(diagnostic: &Diagnostic, base: &Path) -> Value {
    let rule = Code::ALL.iter().position(|code| *code == diagnostic.code);
    let mut text = String::new();
    if !diagnostic.field.is_empty() && !diagnostic.problem.contains(&diagnostic.field) {
        text = format!("{}: ", diagnostic.field);
    }
    text.push_str(&diagnostic.problem);
    if !diagnostic.advice.is_empty() {
        text = format!("{text}; {}", diagnostic.advice);
    }
    json!({
        "ruleId": diagnostic.code.to_string(),
        "ruleIndex": rule,
        "level": level(diagnostic.severity),
        "message": {"text": text},
        "locations": [location(diagnostic, base)],
        "partialFingerprints": {"diagnostic/v1": fingerprint(diagnostic)},
    })
}

fn location(diagnostic: &Diagnostic, base: &Path) -> Value {
    let mut location = Map::new();
    // What a flag says stands in no file.
    if diagnostic.file.as_ref() != "command line" {
        let uri = uri(Path::new(diagnostic.file.as_ref()), base);
        let mut physical = json!({"artifactLocation": {"uri": uri}});
        if diagnostic.line > 0
            && let Some(object) = physical.as_object_mut()
        {
            let mut region = json!({"startLine": diagnostic.line});
            if diagnostic.column > 0
                && let Some(region) = region.as_object_mut()
            {
                region.insert("startColumn".to_owned(), diagnostic.column.into());
            }
            object.insert("region".to_owned(), region);
        }
        location.insert("physicalLocation".to_owned(), physical);
    }
    if let Some(object) = &diagnostic.object {
        let logical = json!([{"fullyQualifiedName": object.as_ref(), "kind": "resource"}]);
        location.insert("logicalLocations".to_owned(), logical);
    }
    Value::Object(location)
}

/// Relative to `base` where the file is below it, which is what code scanning shows beside the
/// source; `file://` for the others. Percent-encoded (RFC 3986 section 3.3).
fn uri(file: &Path, base: &Path) -> String {
    let below = file.strip_prefix(base).unwrap_or(file);
    let mut parts = Vec::new();
    for component in below.components() {
        match component {
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => parts.push("..".to_owned()),
            Component::Normal(name) => parts.push(encode(name.as_encoded_bytes())),
        }
    }
    let path = parts.join("/");
    match below.is_absolute() {
        true => format!("file:///{path}"),
        false => path,
    }
}

fn encode(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// FNV-1a over all but the place within the file: the same in every version and on every machine.
fn fingerprint(diagnostic: &Diagnostic) -> String {
    let object = diagnostic.object.as_deref().unwrap_or_default();
    let code = diagnostic.code.to_string();
    let parts = [
        &code,
        object,
        diagnostic.field.as_str(),
        &diagnostic.problem,
    ];
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.join("\0").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MAX_DIAGNOSTICS;

    fn diagnostic(file: &str, line: u32, column: u32) -> Diagnostic {
        Diagnostic {
            file: file.into(),
            line,
            column,
            field: "spec.trafficPolicy.tls.clientCert".to_owned(),
            object: Some("DestinationRule default/bank".into()),
            code: Code::SchemaError,
            severity: Severity::Error,
            problem: "unknown field".to_owned(),
            advice: "did you mean clientCertificate?".to_owned(),
        }
    }

    fn log(list: &[Diagnostic]) -> Value {
        let diagnostics = list.iter().cloned().collect();
        sarif(&diagnostics, Path::new("/repo"))
    }

    /// Every member that the schema of SARIF 2.1.0 requires, and the types and bounds of those used.
    fn assert_valid(log: &Value) {
        assert_eq!(log["version"], "2.1.0", "3.13.2");
        for run in log["runs"].as_array().expect("3.13.4") {
            let driver = &run["tool"]["driver"];
            assert!(driver["name"].is_string(), "3.19.8");
            let rules = driver["rules"].as_array().unwrap();
            let mut ids = std::collections::HashSet::new();
            for rule in rules {
                assert!(ids.insert(rule["id"].as_str().expect("3.49.3")), "unique");
                assert!(rule["shortDescription"]["text"].is_string(), "3.12.3");
            }
            for invocation in run["invocations"].as_array().unwrap() {
                assert!(invocation["executionSuccessful"].is_boolean(), "3.20.14");
                let notes = invocation["toolExecutionNotifications"].as_array();
                for note in notes.into_iter().flatten() {
                    assert!(note["message"]["text"].is_string(), "3.58.5");
                }
            }
            assert!(matches!(
                run["columnKind"].as_str(),
                Some("utf16CodeUnits" | "unicodeCodePoints")
            ));
            for result in run["results"].as_array().expect("3.14.23") {
                assert_valid_result(result, rules);
            }
        }
    }

    fn assert_valid_result(result: &Value, rules: &[Value]) {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"], "3.27.6");
        let text = result["message"]["text"].as_str().expect("3.11.8");
        assert!(!text.is_empty());
        let level = result["level"].as_str().unwrap();
        assert!(["none", "note", "warning", "error"].contains(&level));
        for print in result["partialFingerprints"].as_object().unwrap().values() {
            assert!(print.is_string(), "3.27.17");
        }
        for location in result["locations"].as_array().unwrap() {
            let Some(physical) = location.get("physicalLocation") else {
                continue;
            };
            assert!(physical["artifactLocation"]["uri"].is_string(), "3.29.3");
            if let Some(region) = physical.get("region") {
                assert!(region["startLine"].as_u64().unwrap() >= 1, "3.30.5");
                assert!(
                    region
                        .get("startColumn")
                        .is_none_or(|c| c.as_u64() >= Some(1))
                );
            }
        }
    }

    #[test]
    fn a_result_has_rule_level_message_and_place() {
        let log = log(&[diagnostic("/repo/mesh/a rule.yaml", 12, 9)]);
        assert_valid(&log);
        let result = &log["runs"][0]["results"][0];
        assert_eq!(
            (&result["ruleId"], &result["level"]),
            (&"IST0106".into(), &"error".into())
        );
        assert_eq!(
            result["message"]["text"],
            "spec.trafficPolicy.tls.clientCert: unknown field; did you mean clientCertificate?"
        );
        let location = &result["locations"][0];
        let physical = &location["physicalLocation"];
        assert_eq!(physical["artifactLocation"]["uri"], "mesh/a%20rule.yaml");
        assert_eq!(
            physical["region"],
            json!({"startLine": 12, "startColumn": 9})
        );
        let logical = &location["logicalLocations"][0];
        assert_eq!(
            logical["fullyQualifiedName"],
            "DestinationRule default/bank"
        );
    }

    #[test]
    fn every_code_is_a_rule_with_its_meaning() {
        let log = log(&[]);
        assert_valid(&log);
        let rules = log["runs"][0]["tool"]["driver"]["rules"]
            .as_array()
            .unwrap();
        assert_eq!(rules.len(), Code::ALL.len());
        let meant = |id: &str| rules.iter().find(|rule| rule["id"] == id).unwrap();
        assert_eq!(meant("SRT0503")["defaultConfiguration"]["level"], "error");
        assert!(
            meant("IST0101")["shortDescription"]["text"]
                .as_str()
                .unwrap()
                .starts_with("What an object refers to is not there")
        );
    }

    #[test]
    fn a_place_that_is_not_known_is_left_out_and_not_made_up() {
        let log = log(&[diagnostic("a.yaml", 0, 0), diagnostic("command line", 0, 0)]);
        assert_valid(&log);
        let results = &log["runs"][0]["results"];
        let physical = &results[0]["locations"][0]["physicalLocation"];
        assert_eq!(*physical, json!({"artifactLocation": {"uri": "a.yaml"}}));
        assert!(results[1]["locations"][0].get("physicalLocation").is_none());
    }

    #[test]
    fn a_file_elsewhere_keeps_its_whole_path() {
        let base = Path::new("/repo");
        assert_eq!(
            uri(Path::new("/etc/é.yaml"), base),
            "file:///etc/%C3%A9.yaml"
        );
        assert_eq!(uri(Path::new("./a/b.yaml"), base), "a/b.yaml");
        assert_eq!(uri(Path::new("../b.yaml"), base), "../b.yaml");
    }

    #[test]
    fn a_mistake_is_known_again_on_another_line_and_not_taken_for_another_one() {
        let print = |d: Diagnostic| fingerprint(&d);
        let first = print(diagnostic("a.yaml", 12, 9));
        assert_eq!(first, print(diagnostic("a.yaml", 40, 9)));
        let other = Diagnostic {
            field: "spec.host".to_owned(),
            ..diagnostic("a.yaml", 12, 9)
        };
        assert_ne!(first, print(other));
    }

    #[test]
    fn a_list_that_was_cut_says_so() {
        let many = vec![diagnostic("a.yaml", 1, 1); MAX_DIAGNOSTICS + 7];
        let log = log(&many);
        assert_valid(&log);
        let note = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"][0];
        assert_eq!(note["message"]["text"], "and 7 more, which are not listed");
        let whole = log_of_one();
        assert!(
            whole["runs"][0]["invocations"][0]
                .get("toolExecutionNotifications")
                .is_none()
        );
    }

    fn log_of_one() -> Value {
        log(&[diagnostic("a.yaml", 1, 1)])
    }
}
