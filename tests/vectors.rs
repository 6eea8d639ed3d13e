//! Hostile recordings and logs, one fault each, by a writer that is not ours (`tests/vectors`).

use std::process::Command;

use crate::harness::python;

#[test]
fn every_vector_gets_its_verdict() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut run = Command::new(python());
    run.arg(dir.join("run.py")).args(["--binary", env!("CARGO_BIN_EXE_countersign")]);
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let vectors =
        std::fs::read_dir(&dir).unwrap().filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "toml")).count();
    assert!(vectors >= 60 && said.contains(&vectors.to_string()), "{vectors} vectors: {said}");
}
