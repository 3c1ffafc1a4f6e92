//! iptables-save and iptables-restore, and their twins for IPv6, as programs.
//!
//! Owns: how they are run, and what is put back where the second fails after the first.
//! Never: writes a rule.
//! Called by: `apply`.
//!
//! Why restore and not `iptables -A`: a table is set at once, and ours only.

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};

use super::apply::ApplyError;
use super::iptables::Ours;
use super::rules::{Family, Ruleset};

/// Of what a program says: many times the rules of a pod.
const MOST: u64 = 16 * 1024 * 1024;
/// Of what it says was wrong.
const COMPLAINT: usize = 300;

/// What is ours in both families.
///
/// # Errors
/// A program that is missing where its family is wanted, that fails, or rules that are another's.
pub fn saved(rulesets: &[Ruleset]) -> Result<Vec<(Family, Ours, Ours)>, ApplyError> {
    let mut found = Vec::new();
    for family in Family::ALL {
        let ruleset = rulesets.iter().find(|one| one.family == family);
        let wanted = ruleset.map(Ours::wanted).unwrap_or_default();
        match save(family) {
            Ok(now) => found.push((family, now, wanted)),
            // Without the program nothing can have been set by it.
            Err(ApplyError::NoProgram { .. }) if family == Family::V6 && wanted.is_empty() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Sets these rules in place of those of ours that there are.
///
/// # Errors
/// What failed; what was changed before is put back.
pub fn set(rulesets: &[Ruleset]) -> Result<bool, ApplyError> {
    let found = saved(rulesets)?;
    let mut changed: Vec<(Family, &Ours)> = Vec::new();
    for (family, now, wanted) in found.iter().filter(|(_, now, wanted)| now != wanted) {
        changed.push((*family, now));
        if let Err(error) = restore(*family, &now.to(wanted)) {
            let left: Vec<String> = changed
                .iter()
                .rev()
                .filter_map(|(family, before)| put_back(*family, before).err())
                .map(|error| error.to_string())
                .collect();
            return Err(error.with_left(left));
        }
    }
    Ok(!changed.is_empty())
}

/// Two tables are two steps: the first may have been set where the second was refused.
fn put_back(family: Family, before: &Ours) -> Result<(), ApplyError> {
    let now = save(family)?;
    match now == *before {
        true => Ok(()),
        false => restore(family, &now.to(before)),
    }
}

fn save(family: Family) -> Result<Ours, ApplyError> {
    let program = match family {
        Family::V4 => "iptables-save",
        Family::V6 => "ip6tables-save",
    };
    let text = run(program, &[], "")?;
    Ours::saved(&text).map_err(ApplyError::Foreign)
}

fn restore(family: Family, text: &str) -> Result<(), ApplyError> {
    let program = match family {
        Family::V4 => "iptables-restore",
        Family::V6 => "ip6tables-restore",
    };
    run(program, &["--noflush", "--wait=5"], text).map(drop)
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, ApplyError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => ApplyError::NoProgram { program },
        _ => ApplyError::Program {
            program,
            said: error.to_string(),
        },
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Beside the reading: a program that fails early closes its input, and says why.
    let (input, pipe) = (input.to_owned(), child.stdin.take());
    let writer = std::thread::spawn(move || {
        let _ = pipe.map(|mut pipe| pipe.write_all(input.as_bytes()));
    });
    let complaints = child.stderr.take();
    let reader = std::thread::spawn(move || read(complaints));
    let text = read(child.stdout.take());
    let status = child.wait().map_err(failed)?;
    let _ = writer.join();
    let complaint = reader.join().unwrap_or_default();
    match status.success() {
        true => Ok(text),
        false => Err(refused(program, &complaint)),
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What cannot be read is missing: the caller then sees that rules are not there.
        let _ = pipe.take(MOST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn refused(program: &'static str, complaint: &str) -> ApplyError {
    let denied = ["Permission denied", "must be root", "not permitted"];
    if denied.iter().any(|words| complaint.contains(words)) {
        return ApplyError::NotPermitted;
    }
    let words: Vec<&str> = complaint.split_whitespace().collect();
    ApplyError::Program {
        program,
        said: words.join(" ").chars().take(COMPLAINT).collect(),
    }
}
