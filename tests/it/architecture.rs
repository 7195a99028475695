//! The rules that keep the tree readable: who imports whom, how long files are, what they are
//! called, what is pure, and that every part is registered and shown.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tollgate::pipeline::processor::ProcessorConfig;

/// Who may import whom. A module may always import itself; `config`, `app` and `cli` are on top.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("call", &["base"]),
    ("provider", &["base", "call"]),
    ("pricing", &["base", "call"]),
    ("policy", &["base", "call"]),
    ("analysis", &["base", "call"]),
    ("ingest", &["base", "call"]),
    ("guard", &["base", "call", "policy"]),
    ("net", &["base"]),
    ("identity", &["base", "call"]),
    ("store", &["base", "call"]),
    ("ledger", &["base", "call", "policy"]),
    ("pipeline", &["base", "call", "net", "store"]),
    ("client", &["base", "provider", "net"]),
    ("mock", &["base", "net"]),
    (
        "proxy",
        &[
            "base", "call", "provider", "pricing", "policy", "guard", "ledger", "net", "pipeline",
            "identity", "ingest",
        ],
    ),
    (
        "admin",
        &[
            "base", "call", "pricing", "policy", "analysis", "guard", "ledger", "net", "store",
            "pipeline",
        ],
    ),
    (
        "kubernetes",
        &[
            "base", "call", "client", "config", "net", "pipeline", "policy", "provider",
        ],
    ),
    (
        "config",
        &[
            "base", "call", "provider", "pricing", "policy", "guard", "ledger", "net", "store",
            "pipeline", "proxy", "identity", "ingest",
        ],
    ),
];

/// Told everything, never asking: no I/O, no clock, no log.
const PURE: &[&str] = &[
    "provider", "pricing", "policy", "analysis", "guard", "ingest",
];
const IMPURE: &[&str] = &["tokio::", "tracing::", "std::fs", "std::net", "Clock"];

const MAX_LINES: usize = 500;

/// Names that say nothing about what is inside.
const JUNK_DRAWERS: &[&str] = &[
    "common", "core", "helper", "helpers", "manager", "misc", "service", "shared", "types", "util",
    "utils",
];

/// Crates that must not come in, not even through others.
const BANNED: &[(&str, &str)] = &[
    ("anyhow", "errors are enums"),
    (
        "async-trait",
        "futures are boxed by hand where they must be",
    ),
    ("aws-lc-sys", "ring is the one TLS provider"),
    ("axum", "the admin listener is hyper too"),
    ("chrono", "jiff is the one calendar"),
    ("native-tls", "rustls is the one TLS"),
    ("openssl-sys", "rustls is the one TLS"),
    ("reqwest", "hyper is the one client"),
    ("rust_decimal", "money is integers"),
    ("serde_yaml", "it is no longer maintained"),
    ("time", "jiff is the one calendar"),
];

/// Banned crates that a dependency brings for its own use, and which: nothing else may.
const BROUGHT: &[(&str, &str)] = &[
    ("async-trait", "tokio-postgres"),
    ("time", "asn1-rs"),
    ("time", "rcgen"),
    ("time", "x509-parser"),
    ("time", "yasna"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder`, as its path from there and its text.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let base = root().join(folder);
    let mut found = Vec::new();
    visit(&base, &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&base).unwrap().to_owned(), text)
        })
        .collect()
}

/// The module of `src/` that a file belongs to; none for `lib.rs` and `main.rs`.
fn module(path: &Path) -> Option<String> {
    let folder = path.parent()?.components().next()?;
    folder.as_os_str().to_str().map(str::to_owned)
}

/// The code without comments and without the tests at the end of the file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// What is named directly below `prefix`: `a` and `b` in `crate::a::x` and `crate::{a::x, b}`.
fn named_below(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(identifier(rest));
            continue;
        };
        let (mut depth, mut fresh) = (1, true);
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                _ if fresh && !letter.is_whitespace() => {
                    names.insert(identifier(&group[at..]));
                    fresh = false;
                },
                _ => {},
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.remove("");
    names
}

fn identifier(text: &str) -> String {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    text[..end.unwrap_or(text.len())].to_owned()
}

#[test]
fn modules_import_only_from_below() {
    let mut wrong = Vec::new();
    for (path, text) in files("src") {
        let Some(module) = module(&path) else {
            continue;
        };
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == module) else {
            assert!(
                ["app", "cli"].contains(&module.as_str()),
                "no rule for {module}"
            );
            continue;
        };
        for import in named_below(&code(&text), "crate::") {
            if import != module && !allowed.contains(&import.as_str()) {
                wrong.push(format!("src/{} imports {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let code = "use crate::{\n    a::{x, y},\n    b,\n};\nfn f() -> crate::c::D {}";
    let found: Vec<String> = named_below(code, "crate::").into_iter().collect();
    assert_eq!(found, ["a", "b", "c"]);
}

#[test]
fn pure_modules_are_pure() {
    let mut wrong = Vec::new();
    for (path, text) in files("src") {
        let pure = module(&path).is_some_and(|module| PURE.contains(&module.as_str()));
        if !pure || path.ends_with("tests.rs") {
            continue;
        }
        // governor's clock is ours to set: it shows what it was told.
        let code = code(&text).replace("governor::clock::Clock", "");
        let std: Vec<String> = named_below(&code, "std::").into_iter().collect();
        for impure in IMPURE {
            let named = impure.strip_prefix("std::").map_or_else(
                || words_with(&code, impure),
                |name| std.iter().any(|found| found == name),
            );
            if named {
                wrong.push(format!("src/{} names {impure}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `word` occurs in `code` and not as the end of a longer one.
fn words_with(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let joins = |letter: Option<char>| letter.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !joins(before) && (word.ends_with(':') || !joins(after))
    })
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (path, text) in files(folder) {
            let name = format!("{folder}/{}", path.display());
            let lines = text.lines().count();
            if lines > MAX_LINES {
                wrong.push(format!("{name} has {lines} lines, more than {MAX_LINES}"));
            }
            if !text.starts_with("//! ") {
                wrong.push(format!("{name} does not begin with what it is: `//! …`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn there_are_no_junk_drawers() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for (path, _) in files(folder) {
            let junk = path.components().any(|part| {
                let name = Path::new(part.as_os_str()).file_stem();
                let name = name.and_then(|name| name.to_str()).unwrap_or_default();
                JUNK_DRAWERS.contains(&name)
            });
            if junk {
                wrong.push(format!("{folder}/{}", path.display()));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "names that say nothing: {}",
        wrong.join(", ")
    );
}

#[test]
fn the_map_of_the_modules_is_whole() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules: BTreeSet<String> = files("src")
        .iter()
        .filter_map(|(path, _)| module(path))
        .collect();
    for module in modules {
        let row = format!("| [`{module}`] |");
        assert!(
            map.contains(&row),
            "src/lib.rs has no row for {module} in its map"
        );
    }
}

#[test]
fn every_processor_is_registered_and_has_an_example() {
    let folder = root().join("src/pipeline/processor");
    let parts: BTreeSet<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "mod")
        .collect();
    let registered = ProcessorConfig::TYPES.iter().map(|name| (*name).to_owned());
    assert_eq!(parts, registered.collect(), "files and registry differ");
    let examples: String = fs::read_dir(root().join("config"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for part in parts {
        let shown = format!("type: {part}");
        assert!(
            examples.contains(&shown),
            "no example in config/ has `{shown}`"
        );
    }
}

#[test]
fn no_banned_crate_comes_in() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for (name, reason) in BANNED {
        for package in lock.split("[[package]]\n") {
            let owner = package
                .lines()
                .find_map(|line| line.strip_prefix("name = "));
            let owner = owner.unwrap_or_default().trim_matches('"');
            // With its version where there are several.
            let brings = [format!(" \"{name}\",\n"), format!(" \"{name} ")];
            let brings = brings.iter().any(|line| package.contains(line));
            assert!(
                !brings || BROUGHT.contains(&(*name, owner)),
                "{owner} brings {name}, but {reason}"
            );
        }
    }
}
