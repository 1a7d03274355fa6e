//! The architecture of this crate, read from the paths in its source: data flows one way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules that each module names, as paths from `src`; `cpu/kernel` stands for `cpu/kernel/mod.rs`.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// The source without comments and tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().expect("text before the tests");
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    lines.join("\n")
}

/// The paths that begin with `crate::` or `super::`. Braces give a path for each item.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let boundary =
                code[..at].chars().next_back().is_none_or(|before| !before.is_alphanumeric() && before != ':');
            if boundary {
                let rest = &code[at..];
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
                let path = &rest[..end];
                match rest[end..].strip_prefix('{') {
                    Some(items) => {
                        let items = items.split('}').next().expect("a closing brace");
                        found.extend(items.split(',').map(|item| format!("{path}{}", item.trim())));
                    }
                    None => found.push(path.to_owned()),
                }
            }
        }
    }
    found
}

/// The module to which a path in `module` leads: the longest prefix that is a module.
fn target(path: &str, module: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut names: Vec<&str> = module.split('/').collect();
    let mut parts = path.split("::").peekable();
    if parts.next_if_eq(&"crate").is_some() {
        names.clear();
    }
    while parts.next_if_eq(&"super").is_some() {
        names.pop();
    }
    names.extend(parts.take_while(|part| !part.is_empty()).map(|part| part.split(' ').next().unwrap_or(part)));
    (1..=names.len()).rev().map(|n| names[..n].join("/")).find(|name| modules.contains(name))
}

fn graph() -> Graph {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&source, &mut found);
    let mut texts = BTreeMap::new();
    for path in found.iter().filter(|path| !path.ends_with("tests.rs") && !path.ends_with("lib.rs")) {
        let relative = path.strip_prefix(&source).expect("below src").with_extension("");
        let is_folder = relative.ends_with("mod");
        let module = if is_folder { relative.parent().expect("a folder") } else { &relative };
        let name = module.to_str().expect("UTF-8").replace('\\', "/");
        texts.insert(name, (is_folder, code(&fs::read_to_string(path).expect("source"))));
    }
    let modules: BTreeSet<String> = texts.keys().cloned().collect();
    let mut graph = Graph::new();
    for (module, (is_folder, code)) in &texts {
        let mut used: BTreeSet<String> = paths(code).iter().filter_map(|path| target(path, module, &modules)).collect();
        if *is_folder {
            // A folder uses the modules that it declares, so these must not use the folder.
            let inside =
                modules.iter().filter(|other| other.rsplit_once('/').is_some_and(|(folder, _)| folder == module));
            used.extend(inside.cloned());
        }
        used.remove(module);
        graph.insert(module.clone(), used);
    }
    graph
}

#[test]
fn the_definition_uses_nothing_else() {
    let graph = graph();
    let definition = |module: &str| module.split('/').next() == Some("definition");
    assert!(graph.keys().filter(|module| definition(module)).count() > 5, "the folder has its modules");
    for (module, used) in graph.iter().filter(|(module, _)| definition(module)) {
        assert!(used.iter().all(|other| definition(other)), "{module} uses {used:?}");
    }
}

#[test]
fn folders_are_layers() {
    let layers = ["definition", "memory", "progress", "request", "batch", "cpu"];
    let layer = |module: &str| {
        let top = module.split('/').next().expect("a name");
        layers.iter().position(|layer| *layer == top).unwrap_or_else(|| panic!("{top} is no layer"))
    };
    for (module, used) in graph() {
        for other in used {
            assert!(layer(&other) <= layer(&module), "{module} uses {other}, which is above it");
        }
    }
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let mut graph = graph();
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 100, "paths are found");
    // Removes modules that use no others until none is left.
    while !graph.is_empty() {
        let free: Vec<String> =
            graph.iter().filter(|(_, used)| used.is_empty()).map(|(module, _)| module.clone()).collect();
        assert!(!free.is_empty(), "a circle among {graph:#?}");
        for module in &free {
            graph.remove(module);
        }
        for used in graph.values_mut() {
            used.retain(|other| !free.contains(other));
        }
    }
}
