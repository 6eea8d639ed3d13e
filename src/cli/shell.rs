//! What a shell and `man` are given: completions, and a page for each verb.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, say};

/// Prints completions for a shell.
pub fn completions(shell: Shell) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
    say(&String::from_utf8_lossy(&script)).err().unwrap_or(0)
}

/// Writes `countersign.1` and a page for each verb, `countersign-approve.1`, into a directory.
pub fn man(dir: &Path) -> anyhow::Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let pages = pages();
    for (name, page) in &pages {
        let path = dir.join(name);
        let mut file = std::fs::File::create(&path).with_context(|| format!("{} cannot be written", path.display()))?;
        file.write_all(page).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    let first = dir.join("countersign.1");
    Ok(say(&format!("countersign: {} pages; read one: man -l {}\n", pages.len(), first.display())).err().unwrap_or(0))
}

/// File names and roff.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = Cli::command();
    command.build();
    let mut pages = Vec::new();
    write(&command, "countersign", &mut pages);
    pages
}

fn write(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) {
    let named = command.clone().display_name(name.to_owned());
    let page = clap_mangen::Man::new(named).manual("Countersign").source(concat!("countersign ", env!("CARGO_PKG_VERSION")));
    let page = page.section("1");
    let mut roff = Vec::new();
    // A vector takes every byte.
    if page.render(&mut roff).is_ok() {
        pages.push((format!("{name}.1"), roff));
    }
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        write(verb, &format!("{name}-{}", verb.get_name()), pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_has_a_page_that_is_roff() {
        let pages = pages();
        for name in ["countersign.1", "countersign-approve.1", "countersign-watch.1", "countersign-retention-plan.1", "countersign-serve.1"]
        {
            let (_, page) = pages.iter().find(|(page, _)| page == name).unwrap_or_else(|| panic!("no {name}"));
            let text = String::from_utf8(page.clone()).unwrap();
            assert!(text.contains(".TH ") && text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}: {text}");
        }
        assert!(!pages.iter().any(|(name, _)| name.contains("canary")), "the wire's own verbs are nobody's");
    }

    #[test]
    fn completions_know_the_verbs() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "countersign", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(
                ["approve", "sessions", "watch", "--reason"].iter().all(|word| script.contains(word.trim_start_matches('-'))),
                "{shell}"
            );
        }
    }
}
