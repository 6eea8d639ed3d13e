//! The fuzzers' harnesses for some seconds each: good bytes, broken in every way that the dice find.

use std::time::{Duration, Instant};

use crate::harness::Dice;

const FOR: Duration = Duration::from_secs(3);
/// On a slow machine it goes on until so many have been tried.
const TRIES: u64 = 100;

/// Flips, cuts, repeats, moves and overwrites parts of a seed.
fn broken(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=dice.below(4) {
        let at = usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap();
        let length = usize::try_from(dice.below(64)).unwrap();
        let end = (at + length).min(bytes.len());
        match dice.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 => bytes.truncate(at),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => bytes[at..end].fill(dice.below(256) as u8),
            _ => {
                let words: [&[u8]; 8] = [b"\xff\xff\xff\xff", b"0", b"-1", b"9007199254740993", b"[[[[", b"{\"v\":1}", b"\n", b"\0\0\0\0"];
                let word = words[usize::try_from(dice.below(8)).unwrap()];
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
    bytes
}

fn fuzz(name: &str, seeds: &[Vec<u8>], target: fn(&[u8])) {
    let (mut dice, began, mut tries) = (Dice::new(name.len() as u64 + 40), Instant::now(), 0u64);
    seeds.iter().for_each(|seed| target(seed));
    while began.elapsed() < FOR || tries < TRIES {
        let seed = &seeds[usize::try_from(dice.below(seeds.len() as u64)).unwrap()];
        let bytes = broken(seed, &mut dice);
        let tried = Instant::now();
        target(&bytes);
        assert!(tried.elapsed() < Duration::from_secs(10), "{name}: one input took {:?}", tried.elapsed());
        tries += 1;
    }
}

/// A small recording and log, made by the writer that is not ours.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let vectors = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let mut make = std::process::Command::new(crate::harness::python());
    let output = make.arg(vectors.join("run.py")).arg("--good").arg(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())).collect()
}

const REQUEST: &str = r#"{"bastion":"b-1","commands":[],"env":["LANG"],"extends":{"digest":"0202020202020202020202020202020202020202020202020202020202020202","ends_us":3,"request":"ABCDEF","since_us":1,"until_us":4},"for_us":1800000000,"key":"SHA256:k","kind":"request","login":"deploy","made_us":1700000000000000,"needs":[{"message":null,"policy":"p","workflow":"lead"}],"nonce_b64":"BwcHBwcHBwcHBwcHBwcHBw==","not_after_us":1700000900000000,"once":false,"overrun_us":300000000,"person":"alice","policy":"0303030303030303030303030303030303030303030303030303030303030303","reason":"INC-42","request":"K7Q3FM","scope":["exec:*","shell"],"source":"192.0.2.7/32","start_us":null,"stdin":true,"targets":[{"id":"web-1","pin":"0404040404040404040404040404040404040404040404040404040404040404"}],"v":1}"#;
const DECISION: &str = r#"{"approver":"bob","bastion":"b-1","key":"SHA256:k","kind":"decision","note":"n","requests":["0101010101010101010101010101010101010101010101010101010101010101"],"terms":{"commands":["uptime"],"for_us":900000000,"from_us":1,"once":true,"scope":["exec:dd291cd6294bafef2a7e9c378eb320e87198d6dae214272addb569775750c802"],"until_us":5},"time_us":1700000000000000,"v":1,"verdict":"approve"}"#;

fn proof() -> String {
    let entry = r#"{"at_us":1,"file":"decision-1-bob.json","level":"key","person":"bob","verdict":"approve"}"#;
    let (digest, rest) = ("01".repeat(32), r#""kind":"proof","log_key":"k","request":"K7Q3FM","state":"approved","v":1}"#);
    let manifest = format!(r#"{{"bastion":"b-1","decisions":[{entry}],"digest":"{digest}",{rest}"#);
    let key = crate::harness::Token::new(3).public();
    let signers = format!("bob namespaces=\"countersign-decision-v1\",valid-before=\"20261125221400Z\" {key}\n");
    let signature = crate::harness::Token::new(3).signs("countersign-decision-v1", DECISION.as_bytes(), 1);
    serde_json::json!({
        "manifest.json": manifest, "request.json": REQUEST, "decision-1-bob.json": DECISION,
        "decision-1-bob.json.sig": signature, "allowed_signers": signers, "log.jsonl": "",
    })
    .to_string()
}

/// Seeds that no reader takes would only fuzz the first check.
#[test]
fn the_seeds_are_good() {
    assert!(countersign::fuzz::request(REQUEST.as_bytes()));
    assert!(countersign::fuzz::decision(DECISION.as_bytes()));
    assert!(countersign::fuzz::proof(proof().as_bytes()));
}

#[test]
fn no_reader_panics_hangs_or_grows() {
    let seeds = seeds();
    let of = |ending: &str| -> Vec<Vec<u8>> {
        let found: Vec<Vec<u8>> = seeds.iter().filter(|(name, _)| name.ends_with(ending)).map(|(_, bytes)| bytes.clone()).collect();
        assert!(!found.is_empty(), "no seed ends in {ending}: {:?}", seeds.iter().map(|(name, _)| name).collect::<Vec<_>>());
        found
    };
    fuzz("spool", &[b"CSSPOOL2".to_vec(), vec![0; 64], (0..=255).collect()], countersign::fuzz::spool);
    fuzz("asciicast", &of(".cast"), countersign::fuzz::asciicast);
    fuzz("body", &of(".cast.zst"), countersign::fuzz::body);
    fuzz("manifest", &of(".json"), countersign::fuzz::manifest);
    fuzz("audit", &of(".jsonl"), countersign::fuzz::audit);
    fuzz("request", &[REQUEST.as_bytes().to_vec()], |bytes| _ = countersign::fuzz::request(bytes));
    fuzz("decision", &[DECISION.as_bytes().to_vec()], |bytes| _ = countersign::fuzz::decision(bytes));
    fuzz("proof", &[proof().into_bytes()], |bytes| _ = countersign::fuzz::proof(bytes));
    let call =
        serde_json::json!({ "v": 1, "id": 1, "verb": "approve", "args": { "request": "K7Q3FM", "for": "15m", "scope": ["sftp,exec:id"] } });
    fuzz("call", &[call.to_string().into_bytes()], countersign::fuzz::call);
    fuzz("key file", &of(".key.age"), countersign::fuzz::key_file);
}
