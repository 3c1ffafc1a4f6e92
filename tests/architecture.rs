//! The floor plan of `src/lib.rs`, checked: who may import whom, what a door may hold, and the few
//! words that only one file may say.
//!
//! Owns: the table of floors, and a small reader of Rust text that knows comments, strings and
//! `#[cfg(test)]`.
//! Never: looks at tests; they may reach anywhere.
//! Called by: `cargo test`.
//!
//! Why text and not a compiler: the rules are about what a file says, and a reader who meets a
//! failure here should be able to find the line with grep.

#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Who may import whom. A room that is missing here fails the test: it has no floor yet.
const FLOORS: &[(&str, &str)] = &[
    ("model", ""),
    ("drain", ""),
    ("watch", ""),
    ("scratch", ""),
    ("message", ""),
    ("http2", "message"),
    ("telemetry", "model message"),
    ("tls", "model scratch"),
    ("capture", "model"),
    ("config", "model"),
    // The YAML reader with its bounds and messages is config's.
    ("inject", "model config"),
    // Ports and Secrets of a gateway are those that its configuration names.
    ("install", "model config inject tls"),
    ("webhook", "model drain watch telemetry tls certs inject"),
    ("upstream", "model message http2 scratch tls telemetry"),
    ("certs", "model tls watch telemetry"),
    ("route", "model message telemetry upstream"),
    ("snapshot", "model route upstream tls"),
    (
        "publish",
        "model drain watch telemetry tls config upstream certs route snapshot",
    ),
    (
        "proxy",
        "model message http2 scratch snapshot route upstream tls drain telemetry",
    ),
    (
        "listener",
        "model scratch proxy snapshot tls drain telemetry",
    ),
    (
        "worker",
        "model listener proxy snapshot route upstream tls drain telemetry",
    ),
    (
        "explain",
        "model message proxy snapshot route upstream tls telemetry",
    ),
    ("probe", "model tls upstream"),
    (
        "admin",
        "model snapshot certs telemetry drain explain probe",
    ),
    (
        "app",
        "model drain watch telemetry tls config upstream certs route snapshot publish proxy \
         listener worker explain admin probe",
    ),
    (
        "cli",
        "model drain watch telemetry tls config upstream certs route snapshot publish proxy \
         listener worker explain admin probe app capture install inject webhook",
    ),
    ("main", "cli"),
];

/// The rooms that serve requests, and those that they must never know.
const HOT: &[&str] = &[
    "proxy", "route", "upstream", "tls", "listener", "worker", "snapshot", "message",
];
const COLD: &[&str] = &["config", "certs", "publish", "watch"];

/// Words that only these files may say in code.
const RESERVED: &[(&str, &[&str])] = &[
    ("dangerous", &["tls/verify.rs"]),
    ("rustls_pemfile", &["certs/pem.rs"]),
    ("unsafe", &[]),
    ("todo", &[]),
    ("unimplemented", &[]),
];

/// Lines of code that one file may have; tests, comments and empty lines are not counted.
const MOST_LINES: usize = 400;

struct Source {
    /// Below `src`, with `/`.
    name: String,
    text: String,
    /// Comments and the insides of strings blanked, test items cut; line breaks kept.
    code: String,
}

impl Source {
    fn room(&self) -> &str {
        let first = self.name.split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// How many `super` lead from this module to the crate.
    fn depth(&self) -> usize {
        let parts = self.name.split('/').count();
        if self.name.ends_with("/mod.rs") {
            parts - 1
        } else {
            parts
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let base = root().join("src");
    let mut waiting = vec![base.clone()];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(&folder).expect("src can be read") {
            let path = entry.expect("src can be read").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found.iter().map(|path| read(&base, path)).collect()
}

fn read(base: &Path, path: &PathBuf) -> Source {
    let text = std::fs::read_to_string(path).expect("a source file can be read");
    let name = path.strip_prefix(base).expect("below src");
    let name = name.to_string_lossy().replace('\\', "/");
    // A file of nothing but tests, included by `#[cfg(test)] mod tests;`, or one of its folder.
    let code = if name.ends_with("/tests.rs") || name.contains("/tests/") {
        String::new()
    } else {
        without_tests(&blanked(&text))
    };
    Source { name, text, code }
}

/// The text with comments and the insides of strings replaced by spaces.
fn blanked(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            '/' if bytes.get(at + 1) == Some(&'/') => line_end(&bytes, at),
            '/' if bytes.get(at + 1) == Some(&'*') => block_end(&bytes, at),
            '"' => string_end(&bytes, at),
            'r' if raw_hashes(&bytes, at).is_some() => raw_end(&bytes, at),
            '\'' => char_end(&bytes, at),
            _ => {
                out.push(bytes[at]);
                at += 1;
                continue;
            }
        };
        for &skipped in &bytes[at..end] {
            out.push(if skipped == '\n' { '\n' } else { ' ' });
        }
        at = end;
    }
    out
}

fn line_end(text: &[char], from: usize) -> usize {
    (from..text.len())
        .find(|&i| text[i] == '\n')
        .unwrap_or(text.len())
}

fn block_end(text: &[char], from: usize) -> usize {
    let mut open = 0;
    let mut at = from;
    while at + 1 < text.len() {
        match (text[at], text[at + 1]) {
            ('/', '*') => (open, at) = (open + 1, at + 2),
            ('*', '/') => (open, at) = (open - 1, at + 2),
            _ => at += 1,
        }
        if open == 0 {
            return at;
        }
    }
    text.len()
}

fn string_end(text: &[char], from: usize) -> usize {
    let mut at = from + 1;
    while at < text.len() {
        match text[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The number of `#` of a raw string that begins here.
fn raw_hashes(text: &[char], at: usize) -> Option<usize> {
    let inside_word =
        at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_') && text[at - 1] != 'b';
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    (!inside_word && text.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(text: &[char], from: usize) -> usize {
    let hashes = raw_hashes(text, from).unwrap_or(0);
    let mut at = from + hashes + 2;
    while at < text.len() {
        let closed = text[at] == '"'
            && text[at + 1..]
                .iter()
                .take(hashes)
                .filter(|c| **c == '#')
                .count()
                == hashes;
        if closed {
            return at + 1 + hashes;
        }
        at += 1;
    }
    text.len()
}

/// The end of a character literal; one past the quote where it is a lifetime.
fn char_end(text: &[char], from: usize) -> usize {
    match (text.get(from + 1), text.get(from + 2)) {
        (Some('\\'), _) => {
            let close = (from + 3..text.len()).find(|&i| text[i] == '\'');
            close.map_or(text.len(), |i| i + 1)
        }
        (Some(_), Some('\'')) => from + 3,
        _ => from + 1,
    }
}

/// The text without the items that `#[cfg(test)]` and its kin mark.
fn without_tests(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let length = item_length(item);
        out.extend(item[..length].chars().filter(|c| *c == '\n'));
        rest = &item[length..];
    }
    out.push_str(rest);
    out
}

/// Up to the `;` or the closing brace of the item that begins here.
fn item_length(item: &str) -> usize {
    let mut open = 0_usize;
    let mut inside_attribute = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            '[' | '(' => inside_attribute += 1,
            ']' | ')' => inside_attribute = inside_attribute.saturating_sub(1),
            '{' => open += 1,
            '}' => {
                open = open.saturating_sub(1);
                if open == 0 {
                    return at + 1;
                }
            }
            ';' if open == 0 && inside_attribute == 0 => return at + 1,
            _ => {}
        }
    }
    item.len()
}

/// Every room that the code names by a path from the crate: the room and the line.
fn imports(source: &Source) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let words = words(&source.code);
    for (index, (word, offset)) in words.iter().enumerate() {
        let after = match *word {
            "crate" | "sortie" => index + 1,
            "super" => {
                let supers = words[index..]
                    .chunks(2)
                    .take_while(|pair| pair[0].0 == "super" && pair.len() == 2 && pair[1].0 == "::")
                    .count();
                let chained = index > 1 && words[index - 2].0 == "super";
                if chained || supers < source.depth() {
                    continue;
                }
                index + supers * 2 - 1
            }
            _ => continue,
        };
        if words.get(after).map(|w| w.0) != Some("::") {
            continue;
        }
        let line = source.code[..*offset].matches('\n').count() + 1;
        for room in heads(&words[after + 1..]) {
            found.push((room.to_string(), line));
        }
    }
    found
}

/// The first segment of a path, or of every branch of a group.
fn heads<'a>(words: &[(&'a str, usize)]) -> Vec<&'a str> {
    let Some((first, _)) = words.first() else {
        return Vec::new();
    };
    if *first != "{" {
        return vec![first];
    }
    let mut open = 0;
    let mut fresh = false;
    let mut found = Vec::new();
    for (word, _) in words {
        match *word {
            "{" => (open, fresh) = (open + 1, true),
            "}" => open -= 1,
            "," => fresh = true,
            name if open == 1 && fresh => {
                found.push(name);
                fresh = false;
            }
            _ => fresh = false,
        }
        if open == 0 {
            break;
        }
    }
    found
}

/// Identifiers, `::` and single signs, each with its byte offset.
fn words(code: &str) -> Vec<(&str, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(first) = code[at..].chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            code[at..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(code.len() - at)
        } else if code[at..].starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            found.push((&code[at..at + length], at));
        }
        at += length;
    }
    found
}

fn floors() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let split = |below: &'static str| below.split_whitespace().collect();
    FLOORS
        .iter()
        .map(|(room, below)| (*room, split(below)))
        .collect()
}

/// The roots of crates, which list rooms.
fn is_root(source: &Source) -> bool {
    ["lib.rs", "hot.rs"].contains(&source.name.as_str())
}

fn report(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn nobody_imports_upwards() {
    let floors = floors();
    let rooms: BTreeSet<&str> = floors.keys().copied().collect();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| !is_root(source)) {
        let Some(allowed) = floors.get(source.room()) else {
            broken.push(format!("src/{}: a room without a floor", source.name));
            continue;
        };
        for (room, line) in imports(source) {
            let known = rooms.contains(room.as_str());
            if known && room != source.room() && !allowed.contains(room.as_str()) {
                broken.push(format!("src/{}:{line} imports {room}", source.name));
            }
        }
    }
    report("a room imports only what is on a lower floor", &broken);
}

#[test]
fn the_hot_half_never_imports_the_cold_half() {
    let mut broken = Vec::new();
    for source in sources() {
        if !HOT.contains(&source.room()) {
            continue;
        }
        for (room, line) in imports(&source) {
            if COLD.contains(&room.as_str()) {
                broken.push(format!("src/{}:{line} imports {room}", source.name));
            }
        }
    }
    report("the halves meet at the snapshot alone", &broken);
}

#[test]
fn the_table_of_floors_has_no_circle() {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    let mut left = floors();
    while !left.is_empty() {
        let ready: Vec<&str> = left
            .iter()
            .filter(|(_, below)| below.iter().all(|room| done.contains(room)))
            .map(|(room, _)| *room)
            .collect();
        assert!(!ready.is_empty(), "these import one another: {left:?}");
        for room in ready {
            left.remove(room);
            done.insert(room);
        }
    }
}

#[test]
fn a_door_is_only_a_door() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.name.ends_with("/mod.rs") {
            continue;
        }
        let mut types = BTreeSet::new();
        for (item, line) in top_items(&source.code) {
            let place = format!("src/{}:{line}", source.name);
            match item[0].as_str() {
                "mod" | "use" => {}
                "struct" | "enum" | "trait" | "type" => {
                    types.insert(item.get(1).cloned().unwrap_or_default());
                }
                "impl" if types.iter().any(|name| item.contains(name)) => {}
                other => broken.push(format!("{place} has a top-level `{other}`")),
            }
        }
        if types.len() > 1 {
            broken.push(format!("src/{} has the types {types:?}", source.name));
        }
    }
    report(
        "mod.rs holds doc, mod, use, and at most one type with its methods",
        &broken,
    );
}

/// The top-level items: their words up to the body, from the keyword on, and their line.
fn top_items(code: &str) -> Vec<(Vec<String>, usize)> {
    let mut items = Vec::new();
    let mut open = 0_usize;
    let mut words_so_far: Vec<String> = Vec::new();
    let mut line = 0;
    for (word, offset) in words(code) {
        let body = matches!(word, "{" | "(" | "[");
        if open == 0 && !body && words_so_far.is_empty() && !matches!(word, "#" | "!" | ";") {
            line = code[..offset].matches('\n').count() + 1;
        }
        match word {
            "{" | "(" | "[" => open += 1,
            "}" | ")" | "]" => open = open.saturating_sub(1),
            _ if open == 0 => words_so_far.push(word.to_string()),
            _ => {}
        }
        let ended = word == ";" && open == 0;
        if ended || (word == "}" && open == 0) {
            let item = keyword_first(&words_so_far);
            // `use a::{b, c};` ends twice: at its brace, and at its semicolon.
            if item.first().is_some_and(|first| first != ";") {
                items.push((item, line));
            }
            words_so_far.clear();
        }
    }
    items
}

fn keyword_first(item: &[String]) -> Vec<String> {
    let skip = ["pub", "#", "!", "async", "const", "crate", "in"];
    let function = item.iter().position(|word| word == "fn");
    let start = function.or_else(|| item.iter().position(|w| !skip.contains(&w.as_str())));
    let constant = function.is_none() && item.iter().any(|word| word == "const");
    let mut words = start.map_or_else(Vec::new, |start| item[start..].to_vec());
    if constant && words.first().is_some_and(|word| word != "impl") {
        words.insert(0, "const".to_string());
    }
    words
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            broken.push(format!("src/{}", source.name));
        }
    }
    report("a file begins with //!", &broken);
}

#[test]
fn no_file_outgrows_four_hundred_lines_of_code() {
    let mut broken = Vec::new();
    for source in sources() {
        let filled = source.code.lines().filter(|line| !line.trim().is_empty());
        let lines = filled.count();
        if lines > MOST_LINES {
            broken.push(format!("src/{}: {lines}", source.name));
        }
    }
    report(
        "at most 400 lines of code, tests and comments apart",
        &broken,
    );
}

#[test]
fn the_words_that_one_file_may_say_are_said_there_alone() {
    let mut broken = Vec::new();
    for source in sources() {
        for (word, line) in words(&source.code) {
            let Some((_, allowed)) = RESERVED.iter().find(|(reserved, _)| *reserved == word) else {
                continue;
            };
            if !allowed.contains(&source.name.as_str()) {
                let line = source.code[..line].matches('\n').count() + 1;
                broken.push(format!("src/{}:{line} says {word}", source.name));
            }
        }
    }
    report("reserved words", &broken);
}

#[test]
fn every_direct_dependency_has_its_reason_in_the_policy() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let policy = std::fs::read_to_string(root().join(".cargo-deny.toml")).expect("the policy");
    let needed = direct_dependencies(&manifest);
    let reasons: BTreeMap<String, String> = policy
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split_once(": "))
        .map(|(name, reason)| (name.trim_end_matches(" (tests)").to_string(), reason.into()))
        .filter(|(name, _)| !name.contains(' '))
        .collect();
    let mut broken = Vec::new();
    for name in &needed {
        match reasons.get(name) {
            None => broken.push(format!("{name} is in Cargo.toml and has no reason")),
            Some(reason) if reason.len() < 20 => broken.push(format!("{name}: too short a reason")),
            Some(_) => {}
        }
    }
    for name in reasons.keys().filter(|name| !needed.contains(*name)) {
        broken.push(format!("{name} has a reason and is not in Cargo.toml"));
    }
    report(
        "one line of reason per dependency, in .cargo-deny.toml",
        &broken,
    );
}

#[test]
fn the_hot_half_is_built_of_the_versions_and_features_that_the_root_names() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("a manifest");
    let all = read("Cargo.toml");
    let mut broken = Vec::new();
    let hot = read("hot/Cargo.toml");
    let mut shared = direct_dependencies(&hot);
    shared.extend(["version", "edition", "rust-version"].map(String::from));
    for line in hot.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if shared.contains(key) && !all.lines().any(|theirs| theirs == line) {
            broken.push(format!("hot/Cargo.toml: {line}"));
        }
    }
    report("a line of this manifest is one of Cargo.toml", &broken);
}

fn direct_dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end_matches(']').ends_with("dependencies");
        } else if inside
            && !line.starts_with('#')
            && let Some((name, _)) = line.split_once('=')
        {
            names.insert(name.trim().to_string());
        }
    }
    names
}

#[test]
fn a_folder_of_tests_belongs_to_a_file_of_tests() {
    let all = sources();
    let has = |name: &str, text: &str| {
        let mut files = all.iter();
        files.any(|source| source.name == name && source.text.contains(text))
    };
    for source in &all {
        let Some((room, _)) = source.name.split_once("/tests/") else {
            continue;
        };
        let declared = "#[cfg(test)]\nmod tests;";
        let door = [format!("{room}.rs"), format!("{room}/mod.rs")];
        assert!(
            has(&format!("{room}/tests.rs"), "") && door.iter().any(|door| has(door, declared)),
            "{}: only what `#[cfg(test)] mod tests;` includes may be in a folder of tests",
            source.name
        );
    }
}

mod the_reader_itself {
    use super::*;

    fn source(name: &str, text: &str) -> Source {
        Source {
            name: name.into(),
            text: text.into(),
            code: without_tests(&blanked(text)),
        }
    }

    fn rooms(name: &str, text: &str) -> Vec<String> {
        imports(&source(name, text))
            .into_iter()
            .map(|(room, _)| room)
            .collect()
    }

    #[test]
    fn it_sees_imports_in_paths_groups_and_supers() {
        let text = "use crate::{model::{A, B}, tls};\nfn f() { crate::route::x(); }";
        assert_eq!(rooms("proxy/a.rs", text), ["model", "tls", "route"]);
        assert_eq!(
            rooms("proxy/a.rs", "use super::super::config::C;"),
            ["config"]
        );
        assert_eq!(rooms("proxy/mod.rs", "use super::config::C;"), ["config"]);
    }

    #[test]
    fn it_does_not_see_comments_strings_tests_or_siblings() {
        let text = "// crate::config\nconst A: &str = \"crate::config\"; use super::config;\n\
                    #[cfg(test)]\nmod tests { use crate::config; }";
        assert_eq!(rooms("proxy/a.rs", text), Vec::<String>::new());
        let raw = "const A: &str = r#\"\" crate::config\"#; const B: char = '\"'; use crate::tls;";
        assert_eq!(rooms("proxy/a.rs", raw), ["tls"]);
    }

    #[test]
    fn it_tells_what_a_door_holds() {
        let text = "#[derive(Debug)]\npub struct A { x: [u8; 4] }\nimpl A { fn b() {} }\npub(crate) \
                    async fn c() {}\nconst fn d() {}\npub use x::{y, z};\nmod e;\nconst F: u8 = 1;";
        let kinds: Vec<String> = top_items(text)
            .into_iter()
            .map(|(i, _)| i[0].clone())
            .collect();
        assert_eq!(
            kinds,
            ["struct", "impl", "fn", "fn", "use", "mod", "const"].map(String::from)
        );
    }
}
