//! `countersign targets import|pin`: an operator's changes to the files of targets.
//!
//! A file is changed whole or not at all, and only into one with which the directory still loads. What
//! is pinned is never replaced in passing: `pin` alone does that, for one target and into the audit log.

mod ansible;
mod csv;
mod entry;
mod import;
mod known_hosts;
mod pin;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::{Directory, MORE_TARGETS, Problem};
use crate::console::grammar::TargetsWhat;
use crate::console::render;

/// Something has to be corrected (EX_CONFIG of sysexits.h).
const OUT_OF_ORDER: u8 = 78;

pub async fn run(what: &TargetsWhat) -> anyhow::Result<u8> {
    match what {
        TargetsWhat::Import(args) => import::run(args),
        TargetsWhat::Pin(args) => pin::run(args).await,
    }
}

/// The directory as it is, which has to load: places in it are told, and a change is judged against it.
fn directory(root: &Path) -> anyhow::Result<Directory> {
    match Directory::load(root) {
        Ok(directory) => Ok(directory),
        Err(_) => bail!("{} is not in order: countersign check -c {0}", root.display()),
    }
}

/// Whether the directory still loads with this text in that file; says what is wrong where it does not.
fn loads_with(root: &Path, file: &str, text: &str) -> bool {
    let would = Directory::inspect_with(root, Some((file, text)));
    would.errors.iter().for_each(|problem: &Problem| eprintln!("{problem}"));
    would.directory.is_some()
}

/// `targets.toml`, or a file of `targets.d/`: nothing above, nothing deeper, nothing hidden.
fn is_targets_file(file: &str) -> bool {
    let name = file.strip_prefix(MORE_TARGETS).unwrap_or(if file == "targets.toml" { file } else { "" });
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.len() <= 128 && name.len() > ".toml".len() && name.ends_with(".toml") && !name.starts_with(['.', '-']) && name.chars().all(good)
}

/// Replaces a file below `policies/`, or makes it, in one step.
fn replace(root: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let path = root.join("policies").join(file);
    let write = || -> std::io::Result<()> {
        let dir = path.parent().unwrap_or(root);
        fs::create_dir_all(dir)?;
        let mode = fs::metadata(&path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
        let mut new = tempfile::NamedTempFile::new_in(dir)?;
        new.write_all(text.as_bytes())?;
        new.as_file().set_permissions(Permissions::from_mode(mode))?;
        new.as_file().sync_all()?;
        new.persist(&path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// Says something to the operator, harmless whatever a file held.
fn say(text: &str) {
    eprint!("{}", render::prefixed(&render::visible(text)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_targets_are_written() {
        for good in ["targets.toml", "targets.d/web.toml", "targets.d/a-1_b.2.toml"] {
            assert!(is_targets_file(good), "{good}");
        }
        for bad in [
            "people.toml",
            "targets.d/../people.toml",
            "targets.d/a/b.toml",
            "/etc/x.toml",
            "targets.d/.x.toml",
            "targets.d/.toml",
            "targets.d/x.cedar",
            "targets.d/",
            "",
            "targets.d/-x.toml",
            "targets.d/a\n.toml",
        ] {
            assert!(!is_targets_file(bad), "{bad:?}");
        }
    }
}
