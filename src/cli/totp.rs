//! `countersign totp enroll|remove|list -c DIR`: second factors, made and taken back by an operator.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use rand::TryRng as _;
use zeroize::Zeroizing;

use crate::access::factor::{Ask, SECRET, Secret};
use crate::config::{Directory, factors};
use crate::id::Person;

#[derive(Debug, Subcommand)]
pub enum Totp {
    /// Make a secret for a person and print it once, as a link that their app takes
    Enroll {
        person: Person,
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
        /// Make a new one where they have one already; the old is worth nothing from then on
        #[arg(long)]
        replace: bool,
    },
    /// Take a person's second factor away
    Remove {
        person: Person,
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
    /// Say who has one, and when they are asked for it
    List {
        #[arg(short = 'c', value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Runs the verb; what it prints goes to standard output, what comes next to standard error.
pub fn run(what: Totp) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match what {
        Totp::Enroll { person, dir, replace } => {
            let directory = load(&dir)?;
            if directory.people.named(&person).is_none() {
                bail!("there is no {person} in {}: add [people.{person}] first", dir.join("policies/people.toml").display());
            }
            let link = enroll(&dir, &person, &directory.config.host, replace)?;
            out.write_all(format!("{}\n", *link).as_bytes()).context("printing the link")?;
            eprintln!("countersign: {person} adds this link to their app (as a QR code: qrencode -t ansiutf8); it is not shown again");
            told(&dir);
        }
        Totp::Remove { person, dir } => {
            let path = factors::dir(&dir).join(person.as_str());
            match fs::remove_file(&path) {
                Ok(()) => told(&dir),
                Err(error) if error.kind() == ErrorKind::NotFound => bail!("{person} has no second factor here"),
                Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
            }
        }
        Totp::List { dir } => {
            for (person, enrolled) in &load(&dir)?.factors.0 {
                let ask = match enrolled.ask {
                    Ask::Always => "always",
                    Ask::WhenNeeded => "when-needed",
                };
                writeln!(out, "{person} {ask}").context("printing who has one")?;
            }
        }
    }
    Ok(())
}

fn load(dir: &Path) -> anyhow::Result<Directory> {
    match Directory::load(dir) {
        Ok(directory) => Ok(directory),
        Err(_) => bail!("{} is not in order: countersign check -c {0}", dir.display()),
    }
}

fn told(dir: &Path) {
    eprintln!("countersign: a running bastion takes it at SIGHUP; look first with: countersign check -c {}", dir.display());
}

/// Draws a secret, keeps it where only the bastion's account can read it, and returns it as a link
/// (`otpauth://`, as authenticator apps read it).
fn enroll(dir: &Path, person: &Person, host: &str, replace: bool) -> anyhow::Result<Zeroizing<String>> {
    let below = factors::dir(dir);
    let made = DirBuilder::new().mode(0o700).create(&below);
    if let Err(error) = made.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }) {
        return Err(error).with_context(|| format!("making {}", below.display()));
    }
    let mut bytes = Zeroizing::new([0u8; SECRET]);
    rand::rngs::SysRng.try_fill_bytes(bytes.as_mut_slice()).context("drawing random numbers")?;
    let text = Secret::new(bytes).text();
    let path = below.join(person.as_str());
    if path.exists() && !replace {
        bail!("{person} has a second factor already; for a new one add --replace: the old is worth nothing then");
    }
    // Whole or not at all: a reload may read it at any moment.
    let new = below.join(format!(".{person}.new"));
    let write = || {
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(&below)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    let link = format!("otpauth://totp/{host}:{person}?secret={}&issuer={host}&algorithm=SHA1&digits=6&period=30", *text);
    Ok(Zeroizing::new(link))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_secret_is_printed_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        super::super::init::make(dir.path(), "bastion.example.org", &super::super::init::tests::carol()).unwrap();
        let people = dir.path().join("policies/people.toml");
        fs::write(&people, "[people.alice]\ngroups = []\nsecond_factor = \"always\"\n[people.bob]\ngroups = []\n").unwrap();
        let alice: Person = "alice".parse().unwrap();
        let link = enroll(dir.path(), &alice, "bastion.example.org", false).unwrap();
        let secret = link.split_once("?secret=").unwrap().1.split_once('&').unwrap().0.to_owned();
        assert!(link.starts_with("otpauth://totp/bastion.example.org:alice?secret="), "{}", *link);

        let path = dir.path().join("keys/totp/alice");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{secret}\n"));
        let directory = Directory::load(dir.path()).unwrap();
        assert_eq!((directory.factors.of(&alice).unwrap().ask, directory.factors.0.len()), (Ask::Always, 1));
        assert!(!format!("{directory:?}").contains(&secret), "never printed");

        let again = enroll(dir.path(), &alice, "bastion.example.org", false).unwrap_err().to_string();
        assert!(again.contains("--replace"), "{again}");
        assert_ne!(*enroll(dir.path(), &alice, "bastion.example.org", true).unwrap(), *link);
        let zoe = run(Totp::Enroll { person: "zoe".parse().unwrap(), dir: dir.path().to_owned(), replace: false }).unwrap_err();
        assert!(zoe.to_string().contains("add [people.zoe] first"), "{zoe}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let open = Directory::load(dir.path()).unwrap_err();
        assert_eq!(open.len(), 1, "{open:?}");
        assert!(open[0].to_string().ends_with(&format!("(mode 0640); chmod 600 {}", path.display())), "{}", open[0]);
        fs::write(&path, "nonsense").unwrap();
        assert!(Directory::load(dir.path()).unwrap_err().iter().any(|problem| problem.what.contains("not a secret")));
    }
}
