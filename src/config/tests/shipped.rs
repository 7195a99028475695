//! Every configuration that is shipped, wherever it stands, is read without an error or a warning.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::config::{Sources, parse};

/// The key whose warning is about the machine that checks: whether a directory can be written there.
const OF_THE_MACHINE: &str = "ledger.path";

/// Every file below a directory.
fn below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The configurations in a file: itself, or what its text quotes, or the `ConfigMap`s among its manifests.
fn configurations(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    if path.extension().is_some_and(|kind| kind == "md") {
        let blocks = text.split("```yaml\n").skip(1);
        let blocks = blocks.filter_map(|block| block.split("```").next());
        return blocks.map(str::to_owned).collect();
    }
    if text.contains("kind: ConfigMap") {
        let documents = text.split("\n---\n");
        let maps = documents.filter(|document| document.contains("kind: ConfigMap"));
        let maps = maps.map(|map| serde_saphyr::from_str::<Value>(map).unwrap());
        let keys = maps.map(|map| map["data"]["config.yaml"].as_str().unwrap().to_owned());
        return keys.collect();
    }
    let folder = path.parent().unwrap();
    let is_one = folder.ends_with("config")
        || folder.ends_with("config/examples")
        || path.ends_with("tollgate.yaml");
    is_one.then_some(text).into_iter().collect()
}

#[test]
fn all_of_it_is_valid_and_warns_of_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    for directory in ["config", "deploy", "docs"] {
        below(&root.join(directory), &mut files);
    }
    // The chart's are templates: Helm's tests render them.
    let is_template = |path: &PathBuf| path.starts_with(root.join("deploy/chart"));
    files.retain(|path| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        matches!(kind, Some("yaml" | "md")) && !is_template(path)
    });
    let sources = Sources {
        variable: &|_| None,
        file: &|path| {
            let is_list = path.extension().is_some_and(|kind| kind == "jsonl");
            Ok(if is_list { "" } else { "a secret" }.to_owned())
        },
    };
    let mut seen = 0;
    for path in files {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        for text in configurations(&path) {
            let loaded = parse(&name, &text, &sources);
            let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
            let warnings = loaded.warnings.iter();
            let warnings = warnings.filter(|problem| problem.path != OF_THE_MACHINE);
            let lines: Vec<_> = warnings.map(|problem| problem.line(&name)).collect();
            assert!(lines.is_empty(), "{lines:#?}");
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} configurations");
}
