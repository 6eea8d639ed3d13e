//! `[notifiers.NAME]`: chats and programs that take notices to people.
//!
//! The address of a webhook is as good as a password. It stands in a file or in the environment like the
//! secret that signs; written into `countersign.toml` itself it is accepted where only the owner reads that.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use super::approvals::Placed;
use super::fields::{Fields, File};
use super::{files, modes};
use crate::id::NotifierName;
use crate::notify::{CommandPlan, Found, Hidden, Notifiers, Plan, WebhookPlan};

/// How long a command may take.
const WITHIN: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
/// The longest address or secret.
const MAX_SECRET: usize = 4096;

pub(super) fn read(file: File<'_>, fields: &mut Fields<'_>, root: &Path) -> Notifiers {
    let mut notifiers = Notifiers::new();
    for (name, table) in fields.tables("notifiers") {
        let at = name.span().start;
        let plan = plan(file, &name, table, root);
        match name.get_ref().parse::<NotifierName>() {
            Ok(name) => notifiers.extend(plan.map(|plan| (name, plan))),
            Err(why) => file.error(at, why, "write [notifiers.chat]"),
        }
    }
    notifiers
}

fn plan(file: File<'_>, name: &Spanned<&str>, mut fields: Fields<'_>, root: &Path) -> Option<Plan> {
    let literal = fields.string("webhook");
    let url = secret(file, &mut fields, root, ("webhook_file", "webhook_env"));
    let secret = secret(file, &mut fields, root, ("secret_file", "secret_env"));
    let command = fields.strings("command");
    let within = fields.duration_within("within", SECOND..=MOST);
    let ways = usize::from(literal.is_some()) + usize::from(url.is_some()) + usize::from(fields.has("command"));
    let (place, named) = (name.span().start, name.get_ref());
    if ways != 1 {
        let what = if ways == 0 { "says nowhere to go" } else { "goes to several places" };
        let fix = "write one of webhook_file = \"keys/chat.url\", webhook_env = \"CHAT_URL\" and command = [\"/usr/local/bin/page\"]";
        file.error(place, format!("the notifier {named} {what}"), fix);
    }
    for (key, wrong) in [("secret_file", fields.has("command")), ("secret_env", fields.has("command")), ("within", !fields.has("command"))]
    {
        if wrong && fields.has(key) {
            let of = if key == "within" { "a command" } else { "a webhook" };
            file.error(fields.place(key), format!("{key} belongs to {of}"), "remove it");
        }
    }
    let command_at = fields.place("command");
    let url_at = ["webhook", "webhook_file", "webhook_env"].into_iter().find(|key| fields.has(key)).map(|key| fields.place(key));
    fields.finish();
    if ways != 1 {
        return None;
    }
    if let Some((program, args)) = command.split_first() {
        return program_at(file, program).map(|program| {
            let args = args.iter().map(|arg| (*arg.get_ref()).to_owned()).collect();
            Plan::Command(CommandPlan { program, args, within: within.unwrap_or(WITHIN) })
        });
    }
    let url = match (literal, url) {
        (Some(literal), _) => {
            if is_read_by_others(&file.source.path) {
                let fix = format!("move it into keys/{named}.url (chmod 600) and write webhook_file = \"keys/{named}.url\"");
                file.warning(literal.span().start, "whoever knows a webhook's address can post there, and others can read this file", fix);
            }
            Found::Here(Hidden::new(*literal.get_ref()))
        }
        (None, Some(found)) => found?,
        (None, None) => {
            file.error(command_at, format!("the command of {named} is empty"), "write command = [\"/usr/local/bin/page\"]");
            return None;
        }
    };
    let secret = match secret {
        Some(found) => Some(found?),
        None => None,
    };
    let plan = WebhookPlan::new(url, secret);
    plan.map_err(|bad| file.error(url_at.unwrap_or(place), format!("the webhook of {named} cannot be used: {bad}"), "correct its address"))
        .ok()
        .map(Plan::Webhook)
}

/// What a file or a variable holds; `Some(None)` where that has been reported.
fn secret(file: File<'_>, fields: &mut Fields<'_>, root: &Path, (in_file, in_env): (&'static str, &'static str)) -> Option<Option<Found>> {
    let (path, variable) = (fields.string(in_file), fields.string(in_env));
    if let (Some(_), Some(second)) = (&path, &variable) {
        file.error(second.span().start, format!("{in_env} stands beside {in_file}"), "keep one of them");
        return Some(None);
    }
    if file.found.leaves_secrets && (path.is_some() || variable.is_some()) {
        return Some(Some(Found::Missing("it is not read here".into())));
    }
    if let Some(path) = path {
        return Some(from_file(file, &root.join(path.get_ref())));
    }
    let variable = variable?;
    let name = *variable.get_ref();
    Some(match std::env::var(name).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) {
        Some(text) => Some(Found::Here(Hidden::new(text))),
        None => {
            let why = format!("the environment has no {name}");
            file.warning(
                variable.span().start,
                format!("{why} here"),
                "the bastion's has to: Environment= or LoadCredential= of its service",
            );
            Some(Found::Missing(why))
        }
    })
}

fn from_file(file: File<'_>, path: &Path) -> Option<Found> {
    if let Some(problem) = modes::check(path) {
        file.found.error(problem);
        return None;
    }
    match files::read(path).map(String::from_utf8) {
        Ok(Ok(text)) if !text.trim().is_empty() && text.trim().len() <= MAX_SECRET => Some(Found::Here(Hidden::new(text.trim()))),
        Ok(_) => {
            let what = format!("it holds no secret of 1 to {MAX_SECRET} bytes of text");
            file.found.error(super::Problem::whole(path, what, "put the secret alone into it"));
            None
        }
        Err(problem) => {
            file.found.error(problem);
            None
        }
    }
}

/// The program of a command: by its whole path, and one that not everybody can replace.
fn program_at(file: File<'_>, program: &Spanned<&str>) -> Option<String> {
    let (at, path) = (program.span().start, Path::new(*program.get_ref()));
    if !path.is_absolute() {
        file.error(
            at,
            format!("{:?} is not a whole path", program.get_ref()),
            "write command = [\"/usr/local/bin/page\"]: no shell looks for it",
        );
        return None;
    }
    if let Some(problem) = modes::check_writable(path) {
        file.found.error(problem);
    }
    let runs = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0);
    if !runs {
        file.warning(at, format!("{} is not a program", path.display()), "install it there, and make it executable");
    }
    Some((*program.get_ref()).to_owned())
}

fn is_read_by_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o044 != 0)
}

/// Reports workflows that tell notifiers which are not there, and notifiers that nobody tells anything.
/// `approvals` and `settings` are their files.
pub(super) fn mentioned(approvals: File<'_>, settings: File<'_>, workflows: &[Placed], notifiers: &Notifiers) {
    let mut told = BTreeSet::new();
    for Placed { workflow, notify_at, .. } in workflows {
        for name in &workflow.notify {
            if !notifiers.contains_key(name) {
                let known: Vec<&str> = notifiers.keys().map(NotifierName::as_str).collect();
                let fix =
                    if known.is_empty() { "add it to countersign.toml".to_owned() } else { format!("known are {}", known.join(", ")) };
                approvals.error(*notify_at, format!("countersign.toml has no [notifiers.{name}]"), fix);
            }
            told.insert(name);
        }
    }
    for name in notifiers.keys().filter(|name| !told.contains(name)) {
        settings.warning(
            0,
            format!("no workflow tells the notifier {name} anything"),
            format!("write notify = [\"{name}\"] into approvals.toml"),
        );
    }
}
