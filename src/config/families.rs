//! `[targets."*.staging"]`: a pattern in place of a name.

use toml::Spanned;

use super::client::NamePattern;
use super::fields::{Fields, File};
use super::people::keys;
use super::targets::{labels, logins, not_revoked, parse_address, principal};
use crate::access::family::{AddressTemplate, BadPattern, Family, Overlap, TargetPattern};
use crate::access::people::People;
use crate::access::target::Entry;

/// Stands for the name in an address.
const NAME: &str = "{name}";

pub(super) fn read(file: File<'_>, name: &Spanned<&str>, mut fields: Fields<'_>, mut entry: Entry, people: &People) -> Option<Family> {
    let at = name.span().start;
    let pattern = match name.get_ref().parse::<TargetPattern>() {
        Ok(pattern) => Some(pattern),
        Err(bad) => {
            file.error(at, format!("{:?} is not a pattern: {bad}", name.get_ref()), fix(&bad));
            None
        }
    };
    let address = address(file, &mut fields);
    let labels = labels(file, &mut fields);
    let logins = logins(file, name, &mut fields);
    for (key, why) in [
        ("host_keys", "one pinned key cannot be many hosts': use host_ca, or list the targets one by one"),
        ("aliases", "an alias would be every member's: list that target by itself"),
    ] {
        if fields.has(key) {
            file.error(fields.place(key), format!("the pattern {} has {key}", name.get_ref()), why);
        }
    }
    let host_cas: Vec<_> = keys(file, &mut fields, "host_ca").into_iter().map(|(_, key)| key).collect();
    if fields.lacks("host_ca") {
        let fix = "add host_ca = [\"ssh-ed25519 …\"], the CA that signs the certificates of these hosts";
        file.error(at, format!("the pattern {} has no host_ca: nothing proves a member to be itself", name.get_ref()), fix);
    }
    not_revoked(file, name, host_cas.iter(), &entry);
    let principal = principal(file, name, &mut fields);
    entry.line = file.source.line(fields.place("host_ca"));
    fields.finish();
    let family = Family { pattern: pattern?, address: address?, labels, logins, host_cas, principal, entry };
    let person = people.iter().find(|person| person.name.as_str().parse().is_ok_and(|name| family.member(&name).is_some()));
    if let Some(person) = person {
        let fix = "narrow the pattern: a bare user name is either the console or a target";
        file.error(at, format!("the pattern {} also fits the person {}", family.pattern, person.name), fix);
        return None;
    }
    if family.pattern.as_str().starts_with("req-") {
        file.error(at, format!("{:?} is reserved: ssh req-ID@bastion opens a request", family.pattern.as_str()), "choose another name");
        return None;
    }
    if NamePattern::of_targets(&family.pattern).is_public() {
        let what =
            format!("the pattern {} covers hosts that are not yours: laptops would believe this bastion for any of them", family.pattern);
        file.error(at, what, "write a site's own names: \"*.prod.example.org\", \"*.staging\", \"web-*\"");
        return None;
    }
    if family.example().is_none() {
        let what = format!("the address of the pattern {} makes no host's name", family.pattern);
        file.error(at, what, "write address = \"{name}.internal:22\", or leave it out: the name itself");
        return None;
    }
    Some(family)
}

/// Whether a pattern can stand beside those that were read before it.
pub(super) fn fits(file: File<'_>, name: &Spanned<&str>, new: &Family, before: &[Family]) -> bool {
    let at = name.span().start;
    for other in before {
        if other.pattern == new.pattern {
            file.error(at, format!("{} is already a pattern ({})", new.pattern, other.entry), "remove one of them");
            return false;
        }
        if other.pattern.overlap(&new.pattern) == Overlap::Crossing {
            let what = format!("some names fit {} and {} ({}), and neither is the more specific", new.pattern, other.pattern, other.entry);
            file.error(at, what, "narrow one of them, so that every name has one pattern");
            return false;
        }
    }
    true
}

fn fix(bad: &BadPattern) -> &'static str {
    match bad {
        BadPattern::Addresses => "list addresses one by one: patterns are for names",
        BadPattern::Bare => "write what these names share: a bastion must not be able to pose as every host",
        BadPattern::Stars | BadPattern::TooLong | BadPattern::Characters => "write [targets.\"*.staging\"] or [targets.\"web-*\"]",
    }
}

/// Where the members are; no address is the name itself, at port 22.
fn address(file: File<'_>, fields: &mut Fields<'_>) -> Option<AddressTemplate> {
    if !fields.has("address") {
        return Some(AddressTemplate::default());
    }
    let text = fields.string("address")?;
    let at = text.span().start;
    let template = *text.get_ref();
    let mut parts = template.split(NAME);
    let (Some(before), Some(after), None) = (parts.next(), parts.next(), parts.next()) else {
        let what = format!("{template:?} does not say once where the name goes");
        file.error(at, what, "write address = \"{name}\" or address = \"{name}.internal:22\"");
        return None;
    };
    match parse_address(&template.replace(NAME, "x")) {
        Ok((_, port)) => {
            let after = after.rsplit_once(':').map_or(after, |(after, _)| after);
            Some(AddressTemplate { before: before.to_owned(), after: after.to_owned(), port })
        }
        Err(_) => {
            file.error(at, format!("{template:?} is not an address"), "write address = \"{name}\" or address = \"{name}.internal:22\"");
            None
        }
    }
}
