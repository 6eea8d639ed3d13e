//! `[keys]` of `countersign.toml`: where the CAs' keys are, and which come next.

use std::path::{Path, PathBuf};

use super::fields::{Fields, File};
use crate::authority::{CaPlan, KeyPlan};

/// Keys of one list: more is a mistake.
const MOST: usize = 8;

pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>, root: &Path) -> KeyPlan {
    let usual = KeyPlan::usual(root);
    let Some(mut table) = fields.table("keys") else { return usual };
    let user_ca = list(file, &mut table, ("user_ca", "user_ca_agent"), usual.user_ca, root);
    let host_ca = list(file, &mut table, ("host_ca", "host_ca_agent"), usual.host_ca, root);
    table.finish();
    KeyPlan { dir: usual.dir, user_ca, host_ca }
}

fn list(file: File<'_>, table: &mut Fields<'_>, (key, agent_key): (&'static str, &'static str), usual: CaPlan, root: &Path) -> CaPlan {
    let socket = table.string(agent_key);
    let agent = socket.as_ref().map(|socket| root.join(socket.get_ref()));
    let listed = table.strings(key);
    if table.has(key) && table.lacks(key) || listed.len() > MOST {
        file.error(table.place(key), format!("{key} lists {} keys", listed.len()), format!("list 1 to {MOST}; the first signs"));
    }
    let mut paths = listed.iter().map(|path| root.join(path.get_ref()));
    let Some(first) = paths.next() else {
        // The private half is the agent's, the public one has its usual name.
        let first = if agent.is_some() { usual.first.with_extension("pub") } else { usual.first };
        return CaPlan { first, agent, ..CaPlan::of(PathBuf::new()) };
    };
    let next: Vec<PathBuf> = paths.collect();
    let public = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "pub");
    let named = listed.first().map(|path| *path.get_ref()).unwrap_or_default();
    match (public(&first), &agent) {
        (true, None) => {
            let what = format!("{named} is a public key: nothing signs with it");
            file.error(
                table.place(key),
                what,
                format!("put the private one first, or name the agent that holds it: {agent_key} = \"/run/…\""),
            );
        }
        (false, Some(_)) => {
            let what = format!("{agent_key} is set, and {named} is a private key in a file");
            file.error(table.place(key), what, format!("name the public half first ({key} = [\"keys/{key}.pub\"]), or remove {agent_key}"));
        }
        (true, Some(_)) | (false, None) => {}
    }
    CaPlan { first, next, agent }
}
