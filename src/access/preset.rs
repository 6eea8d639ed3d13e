//! What a tool needs, asked for once under one name (`users.md` 4): `[presets.vscode]`.
//!
//! A preset permits nothing. What it names is ruled whole, by the same policies as everything else, and the
//! request's bytes say it class by class: whoever decides reads what is asked, not what it is called.

use std::collections::BTreeMap;

use super::action::Class;
use super::scope::Scope;
use crate::id::PresetName;

/// The presets of an installation, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Presets(pub BTreeMap<PresetName, Scope>);

/// There is no such preset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no preset {given:?} here; {}", listed(.known))]
pub struct NoPreset {
    given: String,
    known: Vec<PresetName>,
}

impl Presets {
    pub fn named(&self, text: &str) -> Result<&Scope, NoPreset> {
        let found = text.parse::<PresetName>().ok().and_then(|name| self.0.get(&name));
        found.ok_or_else(|| NoPreset { given: text.chars().take(48).collect(), known: self.0.keys().cloned().collect() })
    }
}

fn listed(known: &[PresetName]) -> String {
    match known {
        [] => "approvals.toml has none".to_owned(),
        names => format!("there are: {}", names.iter().map(PresetName::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// Reads one entry of a preset: a class, or `sftp` for both of its directions. An exact command is none: its
/// text would have to be read by whoever decides.
pub fn classes(text: &str) -> Result<Vec<Class>, String> {
    if text == "sftp" {
        return Ok(vec![Class::SftpRead, Class::SftpWrite]);
    }
    match text.parse::<Class>() {
        Ok(Class::Exec(_)) => Err("a preset names no exact command: ask for that with --exec".into()),
        Ok(class) => Ok(vec![class]),
        Err(bad) => Err(bad.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_preset_is_told_those_that_exist() {
        let mut presets = Presets::default();
        assert!(presets.named("vscode").unwrap_err().to_string().ends_with("approvals.toml has none"));
        presets.0.insert("vscode".parse().unwrap(), Scope([Class::ExecAny].into()));
        assert!(presets.named("vscode").is_ok());
        for wrong in ["vs code", "VSCODE", "", "../x", "\u{1b}[2J"] {
            let refused = presets.named(wrong).unwrap_err().to_string();
            assert!(refused.ends_with("there are: vscode") && !refused.contains('\u{1b}'), "{refused}");
        }
    }

    #[test]
    fn a_preset_is_of_classes_and_of_no_exact_command() {
        assert_eq!(classes("sftp").unwrap(), [Class::SftpRead, Class::SftpWrite]);
        assert_eq!(classes("exec:*").unwrap(), [Class::ExecAny]);
        assert_eq!(classes("forward-local:localhost:*").unwrap()[0].to_string(), "forward-local:localhost:*");
        assert!(classes(&format!("exec:{}", crate::id::Digest([1; 32]))).unwrap_err().contains("--exec"));
        for wrong in ["", "exec", "root", "shell "] {
            assert!(classes(wrong).is_err(), "{wrong:?}");
        }
    }
}
