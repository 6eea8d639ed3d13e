//! Who else can read our keys or write our policies, by the files' modes (FC12).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::problem::Problem;

/// Checks that nobody but the owner can read or write a secret file.
pub fn check(path: &Path) -> Option<Problem> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode() & 0o7777,
        Err(error) => return Some(Problem::whole(path, format!("it cannot be looked at: {error}"), "restore it, or run countersign init")),
    };
    let what = match mode & 0o077 {
        0 => return None,
        open if open & 0o044 != 0 => "others than its owner can read this key",
        _ => "others than its owner have rights on this key",
    };
    Some(Problem::whole(path, format!("{what} (mode {mode:04o})"), format!("chmod 600 {}", path.display())))
}

/// Checks that not everybody can write a file or directory that we obey.
pub fn check_writable(path: &Path) -> Option<Problem> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o7777;
    let anybody = mode & 0o002 != 0;
    anybody.then(|| Problem::whole(path, format!("everybody can write this (mode {mode:04o})"), format!("chmod o-w {}", path.display())))
}

/// Checks that a file is itself here: what a link points to is changed elsewhere, under other modes.
pub fn check_link(path: &Path) -> Option<Problem> {
    let link = fs::symlink_metadata(path).ok()?.file_type().is_symlink();
    link.then(|| Problem::whole(path, "this is a symbolic link", "put the file itself here: what a link points to may change unseen"))
}

/// Checks every file of `keys/` that is a secret: not the public halves, the README, the ignore file.
pub fn check_keys(keys: &Path) -> Vec<Problem> {
    let Ok(entries) = fs::read_dir(keys) else { return Vec::new() };
    let secret = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.is_file() && !name.ends_with(".pub") && name != "README.md" && name != ".gitignore"
    };
    let of_file = |path: &Path| check_link(path).or_else(|| check(path));
    let files = entries.flatten().map(|entry| entry.path()).filter(|path| secret(path)).filter_map(|path| of_file(&path));
    check_writable(keys).into_iter().chain(files).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_may_read_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("user_ca");
        fs::write(&key, "secret").unwrap();
        for (mode, good) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false), (0o601, false)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&key).is_none(), good, "{mode:o}");
        }
        assert!(check(&key).unwrap().to_string().ends_with(&format!("(mode 0601); chmod 600 {}", key.display())));
        fs::write(dir.path().join("user_ca.pub"), "public").unwrap();
        fs::write(dir.path().join("README.md"), "text").unwrap();
        assert_eq!(check_keys(dir.path()).len(), 1);
        assert!(check(&dir.path().join("gone")).unwrap().what.contains("cannot be looked at"));
    }
}
