//! The walls of the house: which room may import which, who may name which crate, how long a file is and what it is called.
//!
//! A reader of source text, not of syntax: comments are cut off, then `crate::` paths and the names of crates are looked up.

use std::fs;
use std::path::{Path, PathBuf};

/// A room may import those of the rows below its own, and itself.
const ROWS: [&[&str]; 15] = [
    &["cli"],
    &["server"],
    &["endpoints", "pages", "dialects"],
    &["web"],
    &["grants"],
    &["app"],
    &["accounts", "clients"],
    &["identity"],
    &["roles", "tokens"],
    &["storage", "outbound"],
    &["audit", "limits", "metrics"],
    &["config"],
    &["oauth2"],
    &["fuzz"],
    &["clock"],
];

/// A crate and the only places that may name it.
const CRATES: [(&str, &[&str]); 3] = [
    ("diesel", &["src/storage/", "src/storage.rs"]),
    ("ldap3", &["src/identity/ldap/", "src/identity/ldap.rs"]),
    ("warp", &["src/endpoints/", "src/pages/", "src/dialects/", "src/server/", "src/web/"]),
];

const LONGEST_FILE: usize = 400;
const GENERATED: [&str; 1] = ["src/storage/schema.rs"];

/// Everything that is wrong with the file `path` (relative to the repository) whose text is `text`.
fn violations(path: &str, text: &str) -> Vec<String> {
    let code = without_comments(text);
    let mut found = Vec::new();
    if text.lines().count() > LONGEST_FILE && !GENERATED.contains(&path) {
        found.push(format!("{} lines, {LONGEST_FILE} are allowed", text.lines().count()));
    }
    for word in path.split(['/', '.', '_', '-']) {
        if word == "data" || ["manager", "helper", "util"].iter().any(|bad| word.starts_with(bad)) {
            found.push(format!("{word} in a name says nothing: name the thing"));
        }
    }
    // Put together here, so that this file does not find itself.
    for left in [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("FIX", "ME"), concat!("TO", "DO"), concat!("#[ig", "nore")] {
        if text.contains(left) {
            found.push(format!("{left} was left behind"));
        }
    }
    if path.starts_with("src/") {
        for (name, places) in CRATES {
            let named = identifiers(&code).any(|i| i == name || i.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
            if named && !places.iter().any(|place| path.starts_with(place)) {
                found.push(format!("names {name}, which only {} may", places.join(", ")));
            }
        }
        for reading in ["SystemTime::now", "Instant::now"] {
            if code.contains(reading) && path != "src/clock.rs" {
                found.push(format!("{reading}: take a Clock, only clock.rs reads the time"));
            }
        }
        if let Some(room) = room_of(path) {
            found.extend(imports(path, &code).into_iter().filter_map(|other| wall_between(room, &other)));
        }
    }
    found
}

/// The room of a file; `main.rs` and `lib.rs` belong to none.
fn room_of(path: &str) -> Option<&str> {
    let first = path.strip_prefix("src/")?.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|room| !["main", "lib"].contains(room))
}

fn row_of(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

/// Why `room` may not import `other`, if so.
fn wall_between(room: &str, other: &str) -> Option<String> {
    if room == other {
        return None;
    }
    let Some(row) = row_of(room) else { return Some(format!("{room} is no room of the house: add it to its row")) };
    let above = row_of(other).is_some_and(|to| to <= row);
    above.then(|| format!("{room} imports {other}, which stands above it or beside it"))
}

/// The rooms that the code of a file names: `crate::room`, `crate::{room, …}`, and `super::…::room` that climbs to the root.
fn imports(path: &str, code: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => rooms.extend(first_names(group)),
            None => rooms.extend(identifiers(rest).next().map(str::to_owned)),
        }
    }
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let climb = "super::".repeat(inside.split('/').count());
    rooms.extend(code.split(&climb).skip(1).filter_map(|rest| identifiers(rest.get(..40).unwrap_or(rest)).next()).map(str::to_owned));
    rooms.retain(|room| row_of(room).is_some());
    rooms.sort();
    rooms.dedup();
    rooms
}

/// The first name of each member of `a::b, c::{d, e}, f}…`.
fn first_names(group: &str) -> Vec<String> {
    let (mut names, mut depth, mut current) = (Vec::new(), 1, String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            names.extend(identifiers(&current).next().map(str::to_owned));
            current.clear();
        } else {
            current.push(character);
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Cuts each line at `//`, unless a colon stands before it, as in a URL.
fn without_comments(text: &str) -> String {
    let cut = |line: &str| {
        let end = line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'));
        line[..end.unwrap_or(line.len())].to_owned()
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_walls_stand() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for directory in ["src", "tests", "benches"] {
        sources(&root.join(directory), &mut files);
    }
    files.sort();
    assert!(files.len() > 20, "the sources were not found under {}", root.display());
    let mut all = Vec::new();
    for file in files {
        let path = file.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        all.extend(violations(&path, &text).into_iter().map(|v| format!("{path}: {v}")));
    }
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn planted_violations_are_found() {
    let found = |path: &str, text: &str| violations(path, text).len();
    assert_eq!(found("src/roles/rules.rs", "use crate::identity::Identity;"), 1);
    assert_eq!(found("src/roles/rules.rs", "use crate::tokens::Token;"), 1, "a neighbour of the same row");
    assert_eq!(found("src/roles/rules.rs", "use crate::{config, identity::{A, B}, oauth2::Scope};"), 1);
    assert_eq!(found("src/roles/rules.rs", "use crate::{\n    config,\n    grants::{A, B},\n    storage,\n};"), 1);
    assert_eq!(found("src/roles/rules.rs", "fn f() -> crate::endpoints::Reply {}"), 1);
    assert_eq!(found("src/roles/deep/rules.rs", "use super::super::super::endpoints::Reply;"), 1);
    assert_eq!(found("src/identity/mod.rs", "use crate::app::App;"), 1);
    assert_eq!(found("src/app.rs", "use crate::grants::Grant;"), 1);
    assert_eq!(found("src/attic/mod.rs", "use crate::config::Config;"), 1, "a room that the table does not know");
    assert_eq!(found("src/clients/mod.rs", "use diesel::prelude::*;"), 1);
    assert_eq!(found("src/clients/mod.rs", "use diesel_migrations::embed_migrations;"), 1);
    assert_eq!(found("src/identity/oidc/mod.rs", "use ldap3::Ldap;"), 1);
    assert_eq!(found("src/grants/mod.rs", "fn f(reply: warp::reply::Response) {}"), 1);
    assert_eq!(found("src/grants/mod.rs", "let now = std::time::SystemTime::now();"), 1);
    assert_eq!(found("src/grants/mod.rs", "let now = tokio::time::Instant::now();"), 1);
    assert_eq!(found("src/grants/token_manager.rs", ""), 1);
    assert_eq!(found("src/utils/mod.rs", ""), 1);
    assert_eq!(found("src/grants/data.rs", ""), 1);
    assert_eq!(found("src/grants/mod.rs", concat!("to", "do!()")), 1);
    assert_eq!(found("tests/stories/a.rs", concat!("#[ig", "nore = \"slow\"]")), 1);
    assert_eq!(found("tests/stories/a.rs", &"\n".repeat(LONGEST_FILE + 1)), 1);
}

#[test]
fn what_is_allowed_is_not_found() {
    let found = |path: &str, text: &str| violations(path, text);
    let none = Vec::<String>::new();
    assert_eq!(found("src/grants/mod.rs", "use crate::app::App;\nuse crate::{accounts, identity, roles};"), none);
    assert_eq!(found("src/app.rs", "use crate::accounts::Accounts;\nuse crate::clock::Clock;"), none);
    assert_eq!(found("src/roles/mod.rs", "use crate::roles::dn::Dn;\nuse super::facts::Facts; // crate::grants does this\n"), none);
    assert_eq!(found("src/config/database.rs", "use crate::oauth2::Secret;"), none);
    assert_eq!(found("src/storage/clients.rs", "use diesel::prelude::*;"), none);
    assert_eq!(found("src/endpoints/metadata.rs", "use warp::Filter;"), none);
    assert_eq!(found("src/clock.rs", "std::time::SystemTime::now()"), none);
    assert_eq!(found("src/storage/schema.rs", &"\n".repeat(LONGEST_FILE + 1)), none);
    assert_eq!(found("src/main.rs", "use countersign::cli;"), none);
}

/// Names in docs/proof.md must not outlive what they name.
#[test]
fn what_the_proof_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let code: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let proof = fs::read_to_string(root.join("docs/proof.md")).unwrap();
    let named = proof.split('`').skip(1).step_by(2).filter(|name| name.contains("::") && !name.contains(['/', ' ', '*']));
    let missing: Vec<_> = named
        .filter(|name| {
            let last = name.rsplit("::").next().unwrap();
            ![format!("fn {last}("), format!("mod {last};"), format!("mod {last} {{")].iter().any(|found| code.contains(found))
        })
        .collect();
    assert!(missing.is_empty(), "docs/proof.md names what is not there: {missing:#?}");
}
