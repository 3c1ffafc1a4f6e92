//! `sortie certs`: every certificate that is loaded, in the columns of ISTIO.md B12.
//!
//! Owns: its arguments and the table.
//! Never: prints a key.
//! Called by: cli.

use std::process::ExitCode;
use std::time::SystemTime;

use serde::Deserialize;

use super::origin::{Origin, Source, printed, unreadable};
use super::table::{Table, bold, print};
use crate::certs::CertStore;
use crate::telemetry::Metrics;

/// List the certificates, keys aside, of a running proxy or of configuration files
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which proxy to ask, or which files to read
    #[command(flatten)]
    pub origin: Origin,
}

/// A row as `/certs` gives it; what the table does not show is not read.
#[derive(Debug, Default, Deserialize)]
struct Row {
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    status: String,
    valid: Option<bool>,
    serial: Option<String>,
    not_after: Option<String>,
    not_before: Option<String>,
    problem: Option<Problem>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    words: String,
}

#[derive(Debug, Default, Deserialize)]
struct Page {
    certificates: Vec<Row>,
}

/// Prints the table; exit code 0, 1 (the proxy does not answer), or 64 (the files are refused).
pub fn run(args: Args) -> ExitCode {
    let page = match args.origin.read("/certs") {
        Err(code) => return code,
        Ok(Source::Page(page)) => page,
        Ok(Source::Files(loaded)) => {
            // A store of our own: what it counts and warns of is of no interest here.
            let mut store = CertStore::new(Metrics::new(0));
            store.set(loaded.config.credentials());
            store.check(SystemTime::now());
            let rows = store.current().rows();
            format!("{:#}\n", serde_json::json!({ "certificates": rows }))
        }
    };
    if args.origin.json {
        return printed(print(&page));
    }
    match serde_json::from_str::<Page>(&page) {
        Ok(page) => printed(print(&table(&page, bold()))),
        Err(error) => unreadable(&error),
    }
}

fn table(page: &Page, bold: bool) -> String {
    let mut table = Table::new(&[
        "RESOURCE NAME",
        "TYPE",
        "STATUS",
        "VALID CERT",
        "SERIAL NUMBER",
        "NOT AFTER",
        "NOT BEFORE",
    ]);
    for row in &page.certificates {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        table.row([
            row.resource.clone(),
            row.kind.clone(),
            row.status.clone(),
            row.valid.map(|valid| valid.to_string()).unwrap_or_default(),
            text(&row.serial),
            text(&row.not_after),
            text(&row.not_before),
        ]);
    }
    let mut out = table.render(bold);
    for line in remarks(page) {
        out.push('\n');
        out.push_str(&line);
    }
    if out.ends_with('\n') { out } else { out + "\n" }
}

/// What is wrong or odd, in words, below the table; each remark once.
fn remarks(page: &Page) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for row in &page.certificates {
        let problem = row.problem.iter().map(|problem| problem.words.as_str());
        for words in problem.chain(row.warnings.iter().map(String::as_str)) {
            let line = format!(
                "{}: {}",
                row.resource,
                words.replace(['\r', '\n', '\x1b'], " ")
            );
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b12_the_columns_are_istioctls() {
        let page = serde_json::json!({ "certificates": [
            { "resource": "file-cert:a.crt~a.key", "type": "Cert Chain",
              "status": "ACTIVE (reload failed: key mismatch)", "valid": true,
              "serial": "0000000000000000000000000000002a", "not_after": "2027-01-01T00:00:00Z",
              "not_before": "2026-01-01T00:00:00Z", "subject": "CN=a", "sans": [],
              "problem": { "file": "a.key", "reason": "key_mismatch", "words": "a.key does not match",
                           "since": "2026-11-21T00:00:00Z" }, "warnings": [] },
            { "resource": "file-root:ca.crt", "type": "CA", "status": "WARMING", "valid": null,
              "serial": null, "not_after": null, "not_before": null, "warnings": ["odd"] },
        ]});
        let page: Page = serde_json::from_value(page).unwrap();
        let text = table(&page, false);
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| {
                line.split("   ")
                    .map(str::trim)
                    .filter(|c| !c.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[0],
            [
                "RESOURCE NAME",
                "TYPE",
                "STATUS",
                "VALID CERT",
                "SERIAL NUMBER",
                "NOT AFTER",
                "NOT BEFORE",
            ]
        );
        assert_eq!(
            lines[1][2..5],
            [
                "ACTIVE (reload failed: key mismatch)",
                "true",
                "0000000000000000000000000000002a",
            ]
        );
        assert_eq!(
            lines[2],
            ["file-root:ca.crt", "CA", "WARMING", "-", "-", "-", "-"]
        );
        assert!(
            text.ends_with(
                "\nfile-cert:a.crt~a.key: a.key does not match\nfile-root:ca.crt: odd\n"
            )
        );
    }

    #[test]
    fn the_rows_that_the_store_gives_can_be_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.crt");
        let mut store = CertStore::new(Metrics::new(0));
        store.set(vec![crate::model::CredentialSpec {
            identity: None,
            ca: crate::model::CaSource::File(ca),
            crl: None,
        }]);
        store.check(SystemTime::now());
        let rows = store.current().rows();
        let text = serde_json::json!({ "certificates": rows }).to_string();
        let page: Page = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (page.certificates.len(), page.certificates[0].kind.as_str()),
            (1, "CA")
        );
        assert!(!remarks(&page).is_empty());
    }
}
