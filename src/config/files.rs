//! The files of a directory, each read once: what is parsed is what was digested.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::modes;
use super::problem::{Findings, Problem, Source};
use crate::id::Digest;

/// What `policies/` has to hold.
pub const POLICIES: [&str; 5] = ["people.toml", "targets.toml", "access.cedar", "approvals.toml", "retention.toml"];
/// Below `policies/`: more files of targets, each like `targets.toml`.
pub const MORE_TARGETS: &str = "targets.d/";
/// The largest file that is read.
const MAX_FILE: u64 = 16 * 1024 * 1024;
const MAX_DEPTH: usize = 4;

#[derive(Debug)]
pub(super) struct Files {
    pub settings: Option<Source>,
    /// By name below `policies/`; those of [`POLICIES`] that could not be read are empty.
    pub policies: BTreeMap<&'static str, Source>,
    /// Those of [`MORE_TARGETS`], by name.
    pub more_targets: Vec<Source>,
    pub digest: Digest,
    /// What was digested, by name below `policies/`.
    pub texts: BTreeMap<String, String>,
}

impl Files {
    /// Reads everything; what cannot be read is reported and taken for empty. `instead` is a file of
    /// `policies/` as it would be: its name and what it would hold.
    pub fn read(root: &Path, instead: Option<(&str, &str)>, found: &Findings) -> Self {
        let settings_path = root.join("countersign.toml");
        let settings = match read(&settings_path) {
            Ok(bytes) => Some(text(&settings_path, bytes, found)),
            Err(problem) => {
                found.error(problem);
                None
            }
        };
        let below = root.join("policies");
        let mut all = BTreeMap::new();
        gather(&below, "", MAX_DEPTH, &mut all, found);
        all.extend(instead.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())));
        modes::check_link(&settings_path).into_iter().for_each(|problem| found.error(problem));
        for path in [root, &settings_path, &below] {
            modes::check_writable(path).into_iter().for_each(|problem| found.error(problem));
        }
        let digest = digest(&all);
        let texts = all.iter().map(|(name, bytes)| (name.clone(), String::from_utf8_lossy(bytes).into_owned())).collect();
        let mut policies = BTreeMap::new();
        for name in POLICIES {
            let path = below.join(name);
            let source = match all.remove(name) {
                Some(bytes) => text(&path, bytes, found),
                None if path.exists() => Source::new(path, String::new()),
                None => {
                    found.error(Problem::whole(&path, "this file is missing", "make it, even if empty; countersign init shows one"));
                    Source::new(path, String::new())
                }
            };
            policies.insert(name, source);
        }
        let mut more_targets = Vec::new();
        for (name, bytes) in all {
            let path = below.join(&name);
            match name.strip_prefix(MORE_TARGETS) {
                Some(file) if file.ends_with(".toml") && !file.contains('/') => more_targets.push(text(&path, bytes, found)),
                Some("README.md") => {}
                Some(_) => found.warning(Problem::whole(&path, "this file is not read", "read are targets.d/*.toml")),
                None if name.contains('/') || name == "README.md" => {}
                None => {
                    let fix = format!("read are {}, targets.d/ and cases/", POLICIES.join(", "));
                    found.warning(Problem::whole(&path, "this file is not read", fix));
                }
            }
        }
        Self { settings, policies, more_targets, digest, texts }
    }
}

/// Reads a regular file of bounded size.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let wrong = |what: String, fix: &str| Problem::whole(path, what, fix);
    let metadata =
        fs::metadata(path).map_err(|error| wrong(format!("it cannot be read: {error}"), "countersign init DIR makes a directory"))?;
    if !metadata.is_file() {
        return Err(wrong("it is not a file".into(), "put a regular file there"));
    }
    if metadata.len() > MAX_FILE {
        return Err(wrong(format!("it is larger than {MAX_FILE} bytes"), "split or shorten it"));
    }
    fs::read(path).map_err(|error| wrong(format!("it cannot be read: {error}"), "correct its owner and mode"))
}

fn text(path: &Path, bytes: Vec<u8>, found: &Findings) -> Source {
    match String::from_utf8(bytes) {
        Ok(text) => Source::new(path.to_owned(), text),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let source = Source::new(path.to_owned(), text);
            found.error(source.problem(good, "this byte is not UTF-8", "save the file as UTF-8"));
            source
        }
    }
}

/// Every file below a directory, by its relative name; names that begin with a dot are an editor's.
fn gather(dir: &Path, prefix: &str, depth: usize, all: &mut BTreeMap<String, Vec<u8>>, found: &Findings) {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) => {
            return found.error(Problem::whole(dir, format!("it cannot be read: {error}"), "countersign init DIR makes a directory"));
        }
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let Some(name) = entry.file_name().to_str().map(|name| format!("{prefix}{name}")) else {
            found.error(Problem::whole(&path, "its name is not UTF-8", "rename it"));
            continue;
        };
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if let Some(problem) = modes::check_link(&path) {
            found.error(problem);
        }
        modes::check_writable(&path).into_iter().for_each(|problem| found.error(problem));
        if !path.is_dir() {
            match read(&path) {
                Ok(bytes) => {
                    all.insert(name, bytes);
                }
                Err(problem) => found.error(problem),
            }
        } else if depth == 0 {
            found.error(Problem::whole(&path, "directories nest too deeply", "keep policies/ flat"));
        } else {
            gather(&path, &format!("{name}/"), depth - 1, all, found);
        }
    }
}

/// Over names and contents, each with its length before it, in the order of the names.
fn digest(all: &BTreeMap<String, Vec<u8>>) -> Digest {
    let mut bytes = Vec::new();
    for (name, content) in all {
        bytes.extend((name.len() as u64).to_be_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(Digest::of(content).0);
    }
    Digest::of(&bytes)
}
