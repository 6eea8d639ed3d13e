//! Everything that is tested from outside: the real binary, a real sshd, stock clients.
//!
//! A file is a subject, a test a scene: two lines through `harness`, one act, and what a person would
//! see. `tests/run` prepares the machine and runs them all.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test says what it expects by unwrapping it")]
#![allow(missing_debug_implementations, reason = "nobody prints the harness")]

mod approvals;
mod architecture;
mod auditors;
mod ca;
mod channels;
mod clients;
mod crash;
mod door;
mod drain;
mod exact;
mod extend;
mod factor;
mod faults;
mod fields;
mod flow;
mod forward;
mod fuzz;
mod glass;
mod harness;
mod held;
mod hostile;
mod hosts;
mod inbox;
mod least;
mod live;
mod login;
mod matrix;
mod names;
mod notices;
mod pen;
mod proof;
mod regress;
mod reload;
mod rescue;
mod restore;
mod sealed;
mod service;
mod storms;
mod story;
mod target;
mod targets;
mod touch;
mod tour;
mod vectors;
mod wire;
mod workflows;

/// A file that no `mod` names is compiled by nobody, and passes.
#[test]
fn no_file_was_forgotten() {
    let main = include_str!("main.rs");
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let is_module = path.extension().is_some_and(|ext| ext == "rs") || path.join("mod.rs").exists();
        assert!(!is_module || name == "main" || main.contains(&format!("mod {name};")), "{} has no `mod {name};`", path.display());
    }
}
