//! What Kubernetes itself would say of a manifest: its schemas, as PyPI's kubernetes-validate
//! carries them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::needs::skip;

/// From the oldest that the manifests are for to the newest that there are schemas of.
const VERSIONS: [&str; 4] = ["1.30", "1.32", "1.34", "1.37"];
/// Kinds of others that our manifests hold.
const FOREIGN: [&str; 2] = [
    "cert-manager.io/v1/Certificate",
    "cert-manager.io/v1/Issuer",
];

/// Fails unless every YAML document of `manifests` is one that several versions of Kubernetes take,
/// unknown fields and duplicate keys being mistakes. False where the test cannot run here.
#[track_caller]
pub fn kubernetes_validate(manifests: &str) -> bool {
    kubernetes_validate_for(&VERSIONS, manifests)
}

/// The same for these versions.
#[track_caller]
pub fn kubernetes_validate_for(versions: &[&str], manifests: &str) -> bool {
    match kubernetes_mistakes(versions, manifests) {
        None => false,
        Some(mistakes) => {
            assert!(mistakes.is_empty(), "{mistakes}\n{manifests}");
            true
        }
    }
}

/// What is wrong with them, a line for each mistake; `None` where the test cannot run here.
#[track_caller]
pub fn kubernetes_mistakes(versions: &[&str], manifests: &str) -> Option<String> {
    let python = python()?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/harness/schemas.py");
    let (code, out, err) = told(
        Command::new(python)
            .arg(script)
            .args(FOREIGN)
            .arg("--")
            .args(versions),
        manifests,
    );
    assert!(code <= 1 && err.is_empty(), "{err}{out}");
    assert_eq!(code == 0, out.is_empty(), "{out}");
    Some(out)
}

/// Every YAML document of a text, as Python's YAML 1.1 reads it: another reader than ours.
#[track_caller]
pub fn yaml_documents(text: &str) -> Option<Vec<serde_json::Value>> {
    let script = "import json, sys, yaml\n\
                  json.dump([one for one in yaml.safe_load_all(sys.stdin) if one], sys.stdout)";
    let (code, out, err) = told(Command::new(python()?).args(["-c", script]), text);
    assert_eq!(code, 0, "{err}");
    Some(serde_json::from_str(&out).unwrap())
}

/// The interpreter that tests/run has put there.
fn python() -> Option<PathBuf> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => PathBuf::from(target),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target"),
    };
    let python = target.join("kubernetes-validate/bin/python");
    match python.exists() {
        true => Some(python),
        false => {
            let place = python.display();
            skip(&format!(
                "kubernetes-validate is not at {place} (tests/run installs it)"
            ));
            None
        }
    }
}

fn told(command: &mut Command, input: &str) -> (i32, String, String) {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A reader that fails early closes its end, which is told by its exit code.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let code = output.status.code().unwrap_or(-1);
    (code, text(output.stdout), text(output.stderr))
}
