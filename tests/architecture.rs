//! The layers of `docs/architecture.md` as data, and the sources held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Imports point down or sideways, never up. The longest matching module counts.
const LAYERS: [(&str, &[&str]); 5] = [
    ("words", &["causes", "clock", "id", "time"]),
    ("pure", &["access", "audit", "transcript", "retention"]),
    ("edges", &["authority", "config", "judge", "notify", "pen", "recording", "store"]),
    ("flows", &["approvals", "backup", "console", "metrics", "retention::disposal", "ssh"]),
    ("assembly", &["cli", "demo", "fuzz", "lib", "main"]),
];

/// Who may name a crate: everything below these paths of `src/`. The `russh::keys` types are plain data
/// (keys, certificates, signatures), so their wall is wider than the protocol's.
const WALLS: [(&str, &[&str]); 19] = [
    ("sqlx", &["store/"]),
    ("cedar_policy", &["access/policy"]),
    ("clap", &["cli/", "console/grammar"]),
    ("russh", &["ssh/"]),
    ("russh::keys", &["ssh/", "access/", "authority/", "cli/", "config/", "judge", "pen/"]),
    ("landlock", &["pen/lock"]),
    ("seccompiler", &["pen/lock"]),
    ("totp_rs", &["access/factor"]),
    ("zeekstd", &["recording/"]),
    ("age", &["transcript/envelope", "recording/seal", "recording/unseal"]),
    ("pty_process", &["ssh/sandbox"]),
    ("tar", &["backup/archive", "cli/proof/files"]),
    ("anyhow", &["cli/", "demo/", "main.rs"]),
    ("hyper", &["metrics/"]),
    ("prometheus_client", &["metrics/"]),
    ("sd_notify", &["cli/supervised"]),
    ("listenfd", &["cli/supervised"]),
    ("reqwest", &["notify/webhook"]),
    ("hmac", &["notify/webhook"]),
];

/// A permission is made in one place (house style 7).
const MADE_IN: [(&str, &str); 5] = [
    ("Grant::opened(", "store/grants.rs"),
    ("Probe::logged(", "store/probes.rs"),
    ("VerifiedKey::proven(", "ssh/login.rs"),
    ("VerifiedKey::certified(", "ssh/login.rs"),
    ("SecondFactor::proven(", "store/factors.rs"),
];

/// Modules that guard something: each opens by saying what is always true.
const GUARDS: [&str; 9] = ["access/", "audit/", "authority/", "notify/", "pen/", "recording/", "ssh/", "store/", "transcript/"];

/// A file of `src/`, without its unit tests and its comments.
struct Source {
    /// `ssh/session.rs`
    path: String,
    /// `ssh::session`
    module: String,
    whole: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 20, "where are the sources? found {}", files.len());
    let for_tests: Vec<PathBuf> = files.iter().flat_map(|file| test_modules(file)).collect();
    files.iter().filter(|file| !for_tests.iter().any(|module| file.starts_with(module))).map(|file| read(&root, file)).collect()
}

/// The files and directories of modules that a file declares for its unit tests alone.
fn test_modules(file: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(file).unwrap();
    let dir = if file.file_name().is_some_and(|name| name == "mod.rs") { file.with_file_name("") } else { file.with_extension("") };
    let declared = text.split("#[cfg(test)]").skip(1).filter_map(|rest| {
        let line = rest.trim_start().lines().next()?.trim().strip_suffix(';')?;
        let (_, name) = line.rsplit_once("mod ")?;
        Some(name.to_owned())
    });
    declared.flat_map(|name| [dir.join(format!("{name}.rs")), dir.join(name)]).collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            files.push(path);
        }
    }
}

fn read(root: &Path, file: &Path) -> Source {
    let path = file.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let whole = std::fs::read_to_string(file).unwrap();
    // Unit tests stand last, in a block of their own; a test module in another file is not one.
    let block = |(at, mark): &(usize, &str)| whole[at + mark.len()..].trim_start().lines().next().is_some_and(|line| line.ends_with('{'));
    let production = whole.match_indices("#[cfg(test)]").find(block).map_or(&whole[..], |(at, _)| &whole[..at]);
    let code = production.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let module = path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
    Source { path, module, whole, code }
}

fn layer_of(module: &str) -> Option<usize> {
    let named = |name: &&str| module == *name || module.strip_prefix(*name).is_some_and(|rest| rest.starts_with("::"));
    LAYERS
        .iter()
        .enumerate()
        .flat_map(|(depth, (_, names))| names.iter().filter(|name| named(name)).map(move |name| (name.len(), depth)))
        .max()
        .map(|(_, depth)| depth)
}

/// The modules that a file names as `crate::a::b` or `crate::{a::b, c}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(members(list)),
            None => found.extend(path_at(rest)),
        }
    }
    found
}

/// The first two words of a path that begins with a module: `store::grants`. Types are not modules.
fn path_at(text: &str) -> Option<String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let words: Vec<&str> = text[..end].split("::").take(2).take_while(|word| word.starts_with(|c: char| c.is_lowercase())).collect();
    (!words.is_empty()).then(|| words.join("::"))
}

/// The members of a brace list, up to its closing brace.
fn members(list: &str) -> Vec<String> {
    let mut depth = 1;
    let mut starts = vec![0];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => break,
            '}' => depth -= 1,
            ',' if depth == 1 => starts.push(at + 1),
            _ => {}
        }
    }
    starts.into_iter().filter_map(|start| path_at(list[start..].trim_start())).collect()
}

/// Whether `code` names the path `name`, as a whole word.
fn names(code: &str, name: &str) -> Vec<usize> {
    let whole = |(at, _): &(usize, &str)| !code[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    code.match_indices(&format!("{name}::")).filter(whole).map(|(at, _)| at).collect()
}

#[test]
fn every_module_has_a_layer() {
    let strays: Vec<String> = sources().into_iter().filter(|source| layer_of(&source.module).is_none()).map(|s| s.path).collect();
    assert!(strays.is_empty(), "in no layer of the table: {strays:?}");
}

#[test]
fn imports_point_down() {
    let mut upward = Vec::new();
    for source in sources() {
        let from = layer_of(&source.module);
        for import in imports(&source.code) {
            if layer_of(&import) > from {
                upward.push(format!("{} names {import}", source.path));
            }
        }
    }
    assert!(upward.is_empty(), "arrows that point up:\n{}", upward.join("\n"));
}

#[test]
fn no_two_modules_need_each_other() {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        // A part of a module that has a layer of its own counts as one.
        let top = |module: &str| {
            let first = module.split("::").next().unwrap_or_default();
            let own = LAYERS.iter().flat_map(|(_, names)| *names).find(|name| name.contains("::") && module.starts_with(*name));
            own.copied().unwrap_or(first).to_owned()
        };
        let from = top(&source.module);
        // The top puts everything together, each part with the others.
        if layer_of(&source.module) == Some(LAYERS.len() - 1) {
            continue;
        }
        needs.entry(from.clone()).or_default().extend(imports(&source.code).iter().map(|to| top(to)).filter(|to| *to != from));
    }
    // What no longer needs anybody is taken away until nothing is left, or only circles.
    while let Some(free) = needs.iter().find(|(_, to)| to.iter().all(|to| !needs.contains_key(to))).map(|(from, _)| from.clone()) {
        needs.remove(&free);
    }
    assert!(needs.is_empty(), "in a circle: {needs:#?}");
}

#[test]
fn third_parties_stay_behind_their_walls() {
    let mut through = Vec::new();
    for source in sources() {
        for (name, allowed) in WALLS {
            let inside = allowed.iter().any(|path| source.path.starts_with(path));
            // `russh::keys` has a wall of its own.
            let own = |at: &usize| name != "russh" || !source.code[*at..].starts_with("russh::keys");
            if !inside && names(&source.code, name).iter().any(own) {
                through.push(format!("{} names {name}, which belongs in {}", source.path, allowed.join(", ")));
            }
        }
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
}

#[test]
fn a_guarding_module_says_what_it_guards() {
    let guards = |path: &str| path.ends_with("/mod.rs") || !path.contains('/') || GUARDS.iter().any(|guard| path.starts_with(guard));
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| guards(&source.path) && source.path != "main.rs" && !source.whole.starts_with("//!"))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "these begin without `//!`: {silent:?}");
}

#[test]
fn a_permission_is_made_in_one_place() {
    let mut elsewhere = Vec::new();
    for source in sources() {
        for (constructor, home) in MADE_IN {
            if source.code.contains(constructor) && source.path != home {
                elsewhere.push(format!("{} calls {constructor}…), which only {home} may", source.path));
            }
        }
    }
    assert!(elsewhere.is_empty(), "{}", elsewhere.join("\n"));
}

/// Not a failure: four hundred lines are a question (house style 4).
#[test]
fn long_files_are_listed() {
    for source in sources() {
        let lines = source.whole.lines().count();
        if lines > 400 {
            println!("{} has {lines} lines: what is the second thing in here?", source.path);
        }
    }
}

/// The reader above is a reader too.
#[test]
fn the_reader_reads() {
    let code = "use crate::{access::Grant, store::{a, b}, Foo};\nuse crate::time;\nlet x = crate::ssh::flow::Item; $crate::no; mycrate::no";
    let found: Vec<String> = imports(code).into_iter().collect();
    assert_eq!(found, ["access", "ssh::flow", "store", "time"]);
    assert_eq!(layer_of("retention::disposal"), Some(3));
    assert_eq!(layer_of("retention::schedule"), Some(1));
    assert_eq!(layer_of("idea"), None);
    assert!(names("sqlx::query; my_sqlx::x; a::sqlx::y", "sqlx").len() == 1);
}
