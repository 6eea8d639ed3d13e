//! `countersign ca enroll TARGET -c DIR`: a script for the host, as itself, in a playbook, or for a first boot.
//! All three are the same script: what is reviewed once is what runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::bail;

use super::{EnrollArgs, Format, load, public_keys};
use crate::access::Target;
use crate::access::target::PrincipalStyle;
use crate::authority::PublicKeys;
use crate::cli::say;
use crate::config::Directory;
use crate::id::Login;

const SCRIPT: &str = include_str!("enroll.sh");
/// Where playbook and first boot put it.
const ON_HOST: &str = "/usr/local/sbin/countersign-enroll";

pub fn run(args: &EnrollArgs) -> anyhow::Result<u8> {
    let directory = load(&args.dir)?;
    let keys = public_keys(&directory)?;
    let target = args.target.as_ref().and_then(|name| directory.targets.find(name.as_str()));
    let who = match &args.target {
        Some(name) => match &target {
            Some(target) => Who::One(target),
            None => bail!("there is no target {name} in {}/policies: add it first, or use --any for an image", args.dir.display()),
        },
        None => Who::Any,
    };
    let logins = logins(&directory, &who, &args.login)?;
    let script = script(&directory, &keys, &who, &logins);
    let text = match args.format {
        Format::Shell => script,
        Format::Ansible => ansible(&who, &script),
        Format::CloudInit => cloud_init(&script),
    };
    Ok(say(&text).err().unwrap_or(0))
}

enum Who<'a> {
    One(&'a Target),
    /// Whatever the host is called.
    Any,
}

fn logins(directory: &Directory, who: &Who<'_>, named: &[Login]) -> anyhow::Result<BTreeSet<Login>> {
    let listed: BTreeSet<Login> = match who {
        Who::One(target) => target.logins.iter().cloned().collect(),
        Who::Any => {
            let listed = directory.targets.iter().flat_map(|target| &target.logins);
            listed.chain(directory.targets.families().flat_map(|family| &family.logins)).cloned().collect()
        }
    };
    if let (Who::One(target), Some(other)) = (who, named.iter().find(|login| !listed.contains(login))) {
        bail!("{} has no login {other}: add it to its logins in targets.toml", target.id);
    }
    let logins = if named.is_empty() { listed } else { named.iter().cloned().collect() };
    if logins.is_empty() {
        bail!("no target lists a login: name the accounts to let in, --login deploy");
    }
    Ok(logins)
}

fn script(directory: &Directory, keys: &PublicKeys, who: &Who<'_>, logins: &BTreeSet<Login>) -> String {
    let trusted: Vec<String> = keys.trusted_by_targets().filter_map(|key| key.to_openssh().ok()).collect();
    let logins: Vec<&str> = logins.iter().map(Login::as_str).collect();
    let logins = logins.join(" ");
    let bastion = &directory.config.host;
    let plain = matches!(who, Who::One(target) if target.principal == PrincipalStyle::Login);
    let source = directory.config.egress.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)).to_string();
    let (title, target, others) = match who {
        Who::One(target) => (
            format!("Lets the bastion {bastion} into {} as {logins}.", target.id),
            format!("target='{}'", target.id),
            // The host may be another target too.
            r#"{ if has_line "$principals/$login" "$principal"; then cat "$root$principals/$login"; else others "$principals/$login" "$principal"; printf '%s\n' "$principal"; fi; }"#,
        ),
        Who::Any => (
            format!("Lets the bastion {bastion} into this host as {logins}; it is the target that its host name says."),
            "[ -z \"${ROOT:-}\" ] || [ -n \"${TARGET:-}\" ] || {\n  echo 'countersign: an image gets its name when it starts first: put this script into it, to be run there with --apply' >&2\n  exit 1\n}\ntarget=$(printf '%s' \"${TARGET:-$(uname -n)}\" | tr A-Z a-z)".to_owned(),
            // A clone of an enrolled host must not go on answering to its name.
            r#"printf '%s\n' "$principal""#,
        ),
    };
    let principal = if plain { r#"printf '%s\n' "$1""# } else { r#"printf '%s@%s\n' "$1" "$target""# };
    SCRIPT
        .replace("@TITLE@", &title)
        .replace("@LOGINS@", &logins)
        .replace("@TRUSTED@", &trusted.join("\n"))
        .replace("@SOURCE@", &source)
        .replace("@TARGET@", &target)
        .replace("@PRINCIPAL@", principal)
        .replace("@OTHERS@", others)
}

fn indented(script: &str, by: usize) -> String {
    let pad = " ".repeat(by);
    script.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{pad}{line}\n") }).collect()
}

/// A playbook; `--check --diff` of ansible's shows what the script would change.
fn ansible(who: &Who<'_>, script: &str) -> String {
    let (hosts, named) = match who {
        Who::One(target) => (target.id.to_string(), String::new()),
        Who::Any => ("all".to_owned(), "      environment:\n        TARGET: \"{{ inventory_hostname }}\"\n".to_owned()),
    };
    let script = indented(script, 10);
    format!(
        "# ansible-playbook -i INVENTORY THIS.yml; with --check it shows what it would change
- name: Let the bastion in
  hosts: \"{hosts}\"
  become: true
  tasks:
    - name: Bring the script
      ansible.builtin.copy:
        dest: {ON_HOST}
        mode: \"0755\"
        content: |
{script}      check_mode: false
    - name: Show what it would change
      ansible.builtin.command: {ON_HOST}
{named}      check_mode: false
      changed_when: false
    - name: Enrol
      ansible.builtin.command: {ON_HOST} --apply
{named}      register: enrolled
      changed_when: \"'nothing to change' not in enrolled.stdout\"
"
    )
}

fn cloud_init(script: &str) -> String {
    let script = indented(script, 6);
    format!(
        "#cloud-config
write_files:
  - path: {ON_HOST}
    permissions: \"0755\"
    content: |
{script}runcmd:
  - [{ON_HOST}, --apply]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_no_template_of_anybody_elses() {
        for reserved in ["{{", "{%", "{#"] {
            assert!(!SCRIPT.contains(reserved), "ansible would read {reserved} as its own");
        }
        assert!(!SCRIPT.contains('\t'));
    }
}
