//! `countersign targets pin`: another key in the place of the one that is pinned.

use std::fs;

use anyhow::{Context as _, bail};
use russh::keys::ssh_key::{HashAlg, PublicKey};
use serde_json::json;

use super::entry::{bare, quoted};
use super::{OUT_OF_ORDER, directory, loads_with, replace, say};
use crate::access::request::MAX_REASON;
use crate::audit::Event;
use crate::config::host_keys_span;
use crate::config::key::parse_public_key;
use crate::console::grammar::PinArgs;
use crate::store::Store;
use crate::time::Timestamp;

/// Changes the one line, and nothing else of the file; the audit log says so first.
pub async fn run(args: &PinArgs) -> anyhow::Result<u8> {
    let reason = args.reason.join(" ");
    if reason.trim().is_empty() || reason.len() > MAX_REASON {
        bail!("the reason is empty or longer than {MAX_REASON} bytes");
    }
    let key =
        |text: &std::path::PathBuf| parse_public_key(&text.to_string_lossy()).map_err(|bad| anyhow::anyhow!("--key: {bad}; {}", bad.fix()));
    let keys: Vec<PublicKey> = args.key.iter().map(key).collect::<anyhow::Result<_>>()?;
    let directory = directory(&args.dir)?;
    let Some(target) = directory.targets.find(&args.target) else { bail!("there is no target {:?}", args.target) };
    let entry = &target.entry;
    if target.host_keys.is_empty() {
        let what = entry.family.as_ref().map_or_else(|| target.id.to_string(), |pattern| format!("{} (of {pattern})", target.id));
        bail!("{what} is recognised by its host CA ({entry}): sign its new host key with that CA");
    }
    let path = args.dir.join("policies").join(&*entry.file);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let Some(place) = host_keys_span(&text, &target.id) else { bail!("{entry} is not where it was: try again") };
    let list = keys.iter().map(|key| quoted(&bare(key))).collect::<Vec<_>>().join(", ");
    let mut changed = text.clone();
    changed.replace_range(place, &format!("[{list}]"));
    if !loads_with(&args.dir, &entry.file, &changed) {
        say("nothing was changed: the lines above are what it would be");
        return Ok(OUT_OF_ORDER);
    }
    let (was, is) = (prints(&target.host_keys), prints(&keys));
    let facts =
        json!({ "target": target.id, "file": entry.file, "was": was, "is": is, "reason": reason, "by": super::super::clock::operator() });
    let logged = log(&directory.config.state, Event::new("target.pin", facts)).await?;
    replace(&args.dir, &entry.file, &changed)?;
    let unlogged = if logged { "" } else { "; this bastion has never run, so no log names it" };
    let (was, is) = (was.join(" or "), is.join(" or "));
    say(&format!(
        "{} is pinned to {is} instead of {was} ({entry}){unlogged}. Approvals of it end, they were for the other host; a running bastion takes it on SIGHUP",
        target.id
    ));
    Ok(0)
}

/// What is not in the log does not happen; without a database there is no log yet.
async fn log(state: &std::path::Path, event: Event) -> anyhow::Result<bool> {
    let path = state.join("countersign.db");
    if !path.is_file() {
        return Ok(false);
    }
    let store = Store::open(&path).await?;
    let logged = store.report(event, Timestamp::now()).await;
    store.close().await;
    logged.context("nothing was changed: the audit log cannot be written")?;
    Ok(true)
}

fn prints(keys: &[PublicKey]) -> Vec<String> {
    keys.iter().map(|key| key.fingerprint(HashAlg::Sha256).to_string()).collect()
}
