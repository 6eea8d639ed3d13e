//! `[presets.NAME]` of `approvals.toml`: what a tool needs, asked for under one name.

use super::fields::{Fields, File};
use crate::access::Scope;
use crate::access::preset::{Presets, classes};
use crate::id::PresetName;

pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>) -> Presets {
    let mut presets = Presets::default();
    for (name, mut table) in fields.tables("presets") {
        let mut scope = Scope::default();
        let entries = table.strings("scope");
        for entry in &entries {
            match classes(entry.get_ref()) {
                Ok(classes) => scope.0.extend(classes),
                Err(why) => file.error(entry.span().start, why, "write for example scope = [\"exec:*\", \"sftp\"]"),
            }
        }
        if entries.is_empty() {
            let what = format!("the preset {} asks for nothing", name.get_ref());
            file.error(name.span().start, what, "write for example scope = [\"exec:*\", \"sftp\"]");
        }
        table.finish();
        match name.get_ref().parse::<PresetName>() {
            Ok(name) => drop(presets.0.insert(name, scope)),
            Err(why) => file.error(name.span().start, why, "write [presets.vscode]"),
        }
    }
    presets
}
