//! `countersign targets import`: from what an operator has to a file of targets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use russh::keys::ssh_key::{HashAlg, PublicKey};

use super::entry::{Host, Read, bare};
use super::{OUT_OF_ORDER, ansible, csv, directory, is_targets_file, known_hosts, loads_with, replace, say};
use crate::access::target::Target;
use crate::config::Directory;
use crate::config::key::parse_public_key;
use crate::console::grammar::{From, ImportArgs};

/// The largest source that is read.
const MAX_SOURCE: u64 = 64 * 1024 * 1024;

/// What a host of the source comes to.
enum Verdict {
    New,
    /// With this key or CA already.
    There,
    /// Under another key: nothing is written at all.
    Conflict(String),
}

pub fn run(args: &ImportArgs) -> anyhow::Result<u8> {
    if !is_targets_file(&args.file) {
        bail!("{:?} is no file of targets: write --file targets.d/web.toml", args.file);
    }
    let directory = directory(&args.dir)?;
    let cas: Vec<PublicKey> = args.host_ca.iter().map(|text| host_ca(text)).collect::<anyhow::Result<_>>()?;
    let Read { hosts, mut left_out } = completed(read(args)?, args)?;
    let (mut new, mut there, mut conflicts, mut names) = (Vec::new(), 0, Vec::new(), BTreeSet::new());
    for mut host in hosts {
        let verdict = verdict(&directory, &host);
        if host.keys.is_empty() && host.cas.is_empty() {
            host.cas = cas.clone();
        }
        match verdict {
            _ if !names.insert(host.name.clone()) => conflicts.push(format!("{} stands twice in what is imported", host.name)),
            Verdict::Conflict(why) => conflicts.push(why),
            Verdict::There => there += 1,
            Verdict::New if host.keys.is_empty() && host.cas.is_empty() => {
                left_out.push(format!("{}: it has no key: give --known-hosts FILE (ssh-keyscan writes one) or --host-ca", host.name));
            }
            Verdict::New if host.logins.is_empty() => left_out.push(format!("{}: it has no account: give --login deploy", host.name)),
            Verdict::New => {
                host.aliases.retain(|alias| directory.targets.find(alias).is_none() && names.insert(alias.clone()));
                new.push(host);
            }
        }
    }
    left_out.iter().for_each(|why| say(&format!("left out: {why}")));
    if !conflicts.is_empty() {
        conflicts.iter().for_each(|why| say(why));
        say(&format!("nothing was written: {}", counted(conflicts.len(), "conflict")));
        return Ok(1);
    }
    let added: String = new.iter().map(|host| format!("\n{}", host.toml())).collect();
    let summary = format!("{}, {there} there already, {} left out", counted(new.len(), "target"), left_out.len());
    if new.is_empty() {
        say(&format!("nothing to write: {summary}"));
        return Ok(0);
    }
    let before = directory.texts.get(&args.file).cloned().unwrap_or_else(|| "# The hosts behind the bastion, imported.\n".to_owned());
    let newline = if before.ends_with('\n') { "" } else { "\n" };
    let text = format!("{before}{newline}{added}");
    if !loads_with(&args.dir, &args.file, &text) {
        say(&format!("nothing was written: the lines above are what policies/{} would hold", args.file));
        return Ok(OUT_OF_ORDER);
    }
    if args.dry_run {
        print!("{}", added.trim_start());
        say(&format!("would write to policies/{}: {summary}", args.file));
        return Ok(0);
    }
    replace(&args.dir, &args.file, &text)?;
    say(&format!("wrote to policies/{}: {summary}; a running bastion takes them on SIGHUP", args.file));
    Ok(0)
}

fn read(args: &ImportArgs) -> anyhow::Result<Read> {
    let text = source(&args.source)?;
    let read = match args.from {
        From::KnownHosts => Ok(known_hosts::read(&text)),
        From::Ansible => ansible::read(&text),
        From::Csv => csv::read(&text),
    };
    read.map_err(anyhow::Error::msg)
}

fn source(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().take(MAX_SOURCE + 1).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MAX_SOURCE + 1).read_to_string(&mut text))
    };
    let read = read.with_context(|| format!("reading {}", path.display()))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_SOURCE) {
        bail!("{} is larger than {MAX_SOURCE} bytes", path.display())
    }
    Ok(text)
}

/// Adds what the operator says of all hosts, and the keys that are known of them elsewhere.
fn completed(mut all: Read, args: &ImportArgs) -> anyhow::Result<Read> {
    let mut known: BTreeMap<String, Vec<PublicKey>> = BTreeMap::new();
    if let Some(file) = &args.known_hosts {
        for host in known_hosts::read(&source(file)?).hosts {
            let named = |name: &String| match host.address.as_ref().and_then(|address| address.rsplit_once(':')) {
                Some((_, port)) => format!("{name} {port}"),
                None => format!("{name} 22"),
            };
            for name in std::iter::once(&host.name).chain(&host.aliases) {
                known.insert(named(name), host.keys.clone());
            }
        }
    }
    for host in &mut all.hosts {
        let place = crate::config::parse_address(host.address.as_deref().unwrap_or(&host.name)).ok();
        if let Some((at, port)) = place {
            let found = [&at.to_ascii_lowercase(), &host.name].into_iter().find_map(|name| known.get(&format!("{name} {port}")));
            for key in found.into_iter().flatten() {
                Host::knows(&mut host.keys, key.clone());
            }
        }
        if host.logins.is_empty() {
            host.logins = args.login.clone();
        }
        host.labels.extend(args.label.iter().cloned());
    }
    Ok(all)
}

fn host_ca(text: &str) -> anyhow::Result<PublicKey> {
    let line = if text.contains(' ') { text.to_owned() } else { source(Path::new(text))? };
    parse_public_key(line.trim()).map_err(|bad| anyhow::anyhow!("--host-ca: {bad}; {}", bad.fix()))
}

/// Compares with what is pinned.
fn verdict(directory: &Directory, host: &Host) -> Verdict {
    let same = |a: &[PublicKey], b: &[PublicKey]| a.iter().any(|a| b.iter().any(|b| a.key_data() == b.key_data()));
    if host.is_pattern() {
        let Some(family) = directory.targets.families().find(|family| family.pattern.as_str() == host.name) else { return Verdict::New };
        return if same(&host.cas, &family.host_cas) {
            Verdict::There
        } else {
            let why = format!("{} is {}, trusted {} ({})", host.name, shown(&host.cas), shown(&family.host_cas), family.entry);
            Verdict::Conflict(why)
        };
    }
    let Some(target) = directory.targets.find(&host.name) else { return Verdict::New };
    let nothing_else = host.keys.is_empty() && host.cas.is_empty();
    // A pattern's member proves itself by certificate; its labels stay the pattern's.
    if target.entry.family.is_some() || nothing_else || same(&host.cas, &target.host_cas) || agrees(host, &target) {
        return Verdict::There;
    }
    let keys = if host.keys.is_empty() { &host.cas } else { &host.keys };
    let pinned = if target.host_keys.is_empty() { &target.host_cas } else { &target.host_keys };
    let mut why = format!("{} shows {}, pinned {} ({})", host.name, shown(keys), shown(pinned), target.entry);
    if let (Some(key), false) = (host.keys.first(), target.host_keys.is_empty()) {
        let name = &target.id;
        why.push_str(&format!(
            ". Reimaged? countersign targets pin {name} --key '{}' --reason … -c {}",
            bare(key),
            directory.root.display()
        ));
    }
    Verdict::Conflict(why)
}

/// Some key is pinned, and none of a pinned key's kind is another.
fn agrees(host: &Host, target: &Target) -> bool {
    let pinned = |key: &PublicKey| target.host_keys.iter().any(|known| known.key_data() == key.key_data());
    let other = |key: &PublicKey| !pinned(key) && target.host_keys.iter().any(|known| known.algorithm() == key.algorithm());
    host.keys.iter().any(pinned) && !host.keys.iter().any(other)
}

fn shown(keys: &[PublicKey]) -> String {
    keys.iter().map(|key| key.fingerprint(HashAlg::Sha256).to_string()).collect::<Vec<_>>().join(" or ")
}

fn counted(n: usize, of: &str) -> String {
    format!("{n} {of}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMiAl+OVmPF9mkJzINSbs1F6jCR66NlI5M7/VFn7qhNC";

    struct Scene {
        home: tempfile::TempDir,
    }

    impl Scene {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            crate::cli::init::make(&home.path().join("d"), "bastion", &crate::cli::init::tests::carol()).unwrap();
            Self { home }
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.home.path().join(name);
            fs::write(&path, text.replace("ONE", ONE).replace("TWO", TWO)).unwrap();
            path
        }

        /// Imports `text`; the status, and what the file holds after it.
        fn imports(&self, from: From, text: &str, change: impl FnOnce(&mut ImportArgs)) -> (u8, String) {
            let mut args = ImportArgs {
                source: self.file("source", text),
                from,
                dry_run: false,
                file: "targets.d/imported.toml".into(),
                login: vec!["deploy".into()],
                label: vec!["env=prod".into()],
                host_ca: vec![],
                known_hosts: None,
                dir: self.home.path().join("d"),
            };
            change(&mut args);
            let status = run(&args).unwrap();
            (status, fs::read_to_string(args.dir.join("policies").join(&args.file)).unwrap_or_default())
        }
    }

    #[test]
    fn known_hosts_become_targets_and_patterns_and_a_second_time_nothing() {
        let scene = Scene::new();
        let text = "web-1,10.0.0.5 ONE\n[db-1]:2222 TWO\n@cert-authority *.staging ONE\n@cert-authority * ONE\n";
        let (status, first) = scene.imports(From::KnownHosts, text, |_| {});
        assert_eq!(status, 0);
        let expected = "# The hosts behind the bastion, imported.\n
[targets.\"*.staging\"]\nlabels = [\"env=prod\"]\nlogins = [\"deploy\"]\nhost_ca = [\"ONE\"]\n
[targets.\"db-1\"]\naddress = \"db-1:2222\"\nlabels = [\"env=prod\"]\nlogins = [\"deploy\"]\nhost_keys = [\"TWO\"]\n
[targets.\"web-1\"]\naddress = \"web-1\"\naliases = [\"10.0.0.5\"]\nlabels = [\"env=prod\"]\nlogins = [\"deploy\"]\nhost_keys = [\"ONE\"]\n";
        assert_eq!(first, expected.replace("ONE", ONE).replace("TWO", TWO));
        assert_eq!(scene.imports(From::KnownHosts, text, |_| {}), (0, first.clone()));
        // Another key, another CA, a key of another kind only: all of it or nothing.
        for conflict in ["web-1 TWO\nnew-1 TWO\n", "@cert-authority *.staging TWO\nnew-1 TWO\n", "@cert-authority web-1 TWO\nnew-1 TWO\n"] {
            assert_eq!(scene.imports(From::KnownHosts, conflict, |_| {}), (1, first.clone()), "{conflict}");
        }
        let (status, more) = scene.imports(From::KnownHosts, "x.staging TWO\nnew-1 TWO\n", |_| {});
        assert_eq!((status, more.matches("[targets.").count()), (0, 4), "a pattern's member keeps the pattern's labels");
    }

    #[test]
    fn an_inventory_takes_its_keys_from_known_hosts_or_a_ca() {
        let scene = Scene::new();
        let known = scene.file("known", "10.0.0.5 ONE\n[10.0.0.6]:2222 TWO\n");
        let inventory = r#"{"_meta": {"hostvars": {"web-1": {"ansible_host": "10.0.0.5"}, "web-2": {"ansible_host": "10.0.0.6", "ansible_port": 2222},
            "web-3": {}, "web-4": {"ansible_host": "{{ x }}"}}}, "web": {"hosts": ["web-1"]}}"#;
        let (status, text) = scene.imports(From::Ansible, inventory, |args| args.known_hosts = Some(known.clone()));
        assert_eq!((status, text.matches("[targets.").count()), (0, 2), "those without a key are left out: {text}");
        assert!(text.contains("address = \"10.0.0.6:2222\"") && text.contains("labels = [\"env=prod\", \"web\"]"), "{text}");
        let (status, unchanged) = scene.imports(From::Ansible, inventory, |args| args.host_ca = vec![ONE.into()]);
        assert_eq!((status, unchanged), (OUT_OF_ORDER, text.clone()), "a template is no address, and nothing is half written");
        let (status, _) = scene.imports(From::Ansible, &inventory.replace("{{ x }}", "10.0.0.9"), |args| args.host_ca = vec![ONE.into()]);
        assert_eq!(status, 0);
        let directory = Directory::load(&scene.home.path().join("d")).unwrap();
        assert_eq!(directory.targets.find("web-3").unwrap().host_cas.len(), 1);
        assert_eq!(directory.targets.find("web-1").unwrap().host_keys.len(), 1, "what was there stays as it was");
    }

    #[test]
    fn a_dry_run_and_a_strange_file_write_nothing() {
        let scene = Scene::new();
        assert_eq!(scene.imports(From::KnownHosts, "web-1 ONE\n", |args| args.dry_run = true), (0, String::new()));
        assert_eq!(scene.imports(From::KnownHosts, "web-1 ONE\n", |args| args.login.clear()), (0, String::new()), "nobody could log in");
        let mut args = ImportArgs {
            source: scene.file("source", "web-1 ONE\n"),
            from: From::KnownHosts,
            dry_run: false,
            file: "people.toml".into(),
            login: vec!["deploy".into()],
            label: vec![],
            host_ca: vec![],
            known_hosts: None,
            dir: scene.home.path().join("d"),
        };
        assert!(run(&args).unwrap_err().to_string().contains("no file of targets"));
        args.file = "targets.toml".into();
        assert_eq!(run(&args).unwrap(), 0, "beside what the starter file says");
        assert!(
            fs::read_to_string(args.dir.join("policies/targets.toml"))
                .unwrap()
                .starts_with("# The hosts behind the bastion. `countersign init`")
        );
    }
}
