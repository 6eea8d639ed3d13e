//! JSON Schemas of the TOML files, for editors, made by asking the readers themselves: a [`Probe`] notes
//! what each asks for and pretends that there is nothing, then that there is everything. A key that a
//! reader knows is in the schema, and no other is (FC11 in the editor already).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::fields::File;
use super::problem::{Findings, Source};
use super::{approvals, people, retention, settings, targets};
use crate::access::people::People;
use crate::time::short;

/// One of the files that have a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Countersign,
    People,
    Targets,
    Approvals,
    Retention,
}

impl FileKind {
    pub const ALL: [FileKind; 5] = [FileKind::Countersign, FileKind::People, FileKind::Targets, FileKind::Approvals, FileKind::Retention];

    pub fn name(self) -> &'static str {
        match self {
            FileKind::Countersign => "countersign",
            FileKind::People => "people",
            FileKind::Targets => "targets",
            FileKind::Approvals => "approvals",
            FileKind::Retention => "retention",
        }
    }
}

impl FromStr for FileKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = FileKind::ALL.into_iter().find(|kind| kind.name() == text.trim_end_matches(".toml"));
        known.ok_or_else(|| format!("{text:?} has no schema: use {}", FileKind::ALL.map(FileKind::name).join(", ")))
    }
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only asked whether it is there; another question says more.
    Any,
    Text,
    Texts,
    Duration(Option<(Duration, Duration)>),
    Count(usize, usize),
    Boolean,
    Choice(Vec<String>),
    Table,
    /// `[people.alice]`
    Tables,
    /// `carol = "…"`
    NamedTexts,
    /// `office = ["…"]`
    NamedLists,
    /// `[[case]]`
    ListOfTables,
}

impl Shape {
    /// How much it says: of several questions about one key the most telling counts.
    fn tells(&self) -> u8 {
        match self {
            Shape::Any => 0,
            Shape::Text | Shape::Table => 1,
            Shape::Duration(None) => 2,
            Shape::Texts
            | Shape::Duration(Some(_))
            | Shape::Count(..)
            | Shape::Boolean
            | Shape::Choice(_)
            | Shape::Tables
            | Shape::NamedTexts
            | Shape::NamedLists
            | Shape::ListOfTables => 3,
        }
    }
}

/// The names of the tables that a probe shows where there may be many, with their places: one by itself,
/// and one that is a pattern, which may have keys of its own.
pub(super) const SHOWN: [(&str, &str); 2] = [("one", "*"), ("*.one", "**")];

/// Where the schema has a table of this name.
pub(super) fn place_of(name: &str) -> &'static str {
    if name.contains('*') { "**" } else { "*" }
}

/// Notes what readers ask for.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// What it says of every key; `None`: what the file says.
    pretends: Option<bool>,
    /// By the table's path: `/people/*`.
    tables: RefCell<BTreeMap<String, Table>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Table {
    keys: BTreeMap<&'static str, Shape>,
    required: BTreeSet<&'static str>,
}

impl Probe {
    pub fn pretends(&self) -> Option<bool> {
        self.pretends
    }

    pub fn note(&self, path: &str, key: &'static str, shape: Shape) {
        let mut tables = self.tables.borrow_mut();
        let known = tables.entry(path.to_owned()).or_default().keys.entry(key).or_insert(Shape::Any);
        if shape.tells() > known.tells() {
            *known = shape;
        }
    }

    pub fn require(&self, path: &str, key: &'static str) {
        self.tables.borrow_mut().entry(path.to_owned()).or_default().required.insert(key);
    }
}

/// The schema of a file (JSON Schema 2020-12).
pub fn of(kind: FileKind) -> Value {
    let mut tables = BTreeMap::new();
    for pretends in [false, true] {
        for (path, table) in probed(kind, Some(pretends), "") {
            let known: &mut Table = tables.entry(path).or_default();
            for (key, shape) in table.keys {
                let kept = known.keys.entry(key).or_insert(Shape::Any);
                if shape.tells() > kept.tells() {
                    *kept = shape;
                }
            }
            known.required.extend(table.required);
        }
    }
    let mut schema = object(kind, "", &tables);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(format!("Countersign: {}.toml", kind.name())));
    Value::Object(schema)
}

/// What the reader of a file asks for, by table.
fn probed(kind: FileKind, pretends: Option<bool>, text: &str) -> BTreeMap<String, Table> {
    let found = Findings::probing(Probe { pretends, ..Probe::default() });
    let source = Source::new(format!("{}.toml", kind.name()).into(), text.to_owned());
    let file = File { source: &source, found: &found };
    match kind {
        FileKind::Countersign => drop(settings::read(file, Path::new("/"))),
        FileKind::People => drop(people::read(file)),
        FileKind::Targets => drop(targets::read(&[file], Path::new("/"), &People::default())),
        FileKind::Approvals => drop(approvals::read(file, &People::default())),
        FileKind::Retention => drop(retention::read(file, &BTreeSet::new())),
    }
    found.probe.map(|probe| probe.tables.into_inner()).unwrap_or_default()
}

fn object(kind: FileKind, path: &str, tables: &BTreeMap<String, Table>) -> Map<String, Value> {
    let empty = Table::default();
    let table = tables.get(path).unwrap_or(&empty);
    // What is only asked after is refused where it stands: a pattern's host_keys.
    let keys = table.keys.iter().filter(|(_, shape)| **shape != Shape::Any);
    let properties: Map<String, Value> =
        keys.map(|(key, shape)| ((*key).to_owned(), property(kind, &format!("{path}/{key}"), shape, tables))).collect();
    let mut schema = Map::new();
    schema.insert("type".into(), json!("object"));
    schema.insert("properties".into(), Value::Object(properties));
    schema.insert("additionalProperties".into(), json!(false));
    if !table.required.is_empty() {
        schema.insert("required".into(), json!(table.required));
    }
    schema
}

fn property(kind: FileKind, path: &str, shape: &Shape, tables: &BTreeMap<String, Table>) -> Value {
    let mut schema = match shape {
        Shape::Any => json!({}),
        Shape::Text => json!({ "type": "string" }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::Duration(bounds) => {
            let mut schema = json!({ "type": "string", "pattern": DURATION, "examples": ["30m"] });
            if let (Some((least, most)), Some(schema)) = (bounds, schema.as_object_mut()) {
                schema.insert("$comment".into(), json!(format!("{} to {}", short(*least), short(*most))));
            }
            schema
        }
        Shape::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Choice(words) => json!({ "enum": words }),
        Shape::Table => Value::Object(object(kind, path, tables)),
        Shape::Tables => {
            let one = object(kind, &format!("{path}/*"), tables);
            let pattern = object(kind, &format!("{path}/**"), tables);
            // Most readers take no such name at all.
            if one == pattern || !tables.contains_key(&format!("{path}/**")) {
                json!({ "type": "object", "additionalProperties": one })
            } else {
                json!({ "type": "object", "patternProperties": { "[*]": pattern }, "additionalProperties": one })
            }
        }
        Shape::NamedTexts => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::NamedLists => json!({ "type": "object", "additionalProperties": { "type": "array", "items": { "type": "string" } } }),
        Shape::ListOfTables => json!({ "type": "array", "items": object(kind, &format!("{path}/*"), tables) }),
    };
    // A stage's keys may stand in its workflow.
    let plain = path.replace("/**", "/*").replace("/stages/*/", "/");
    let described = DESCRIPTIONS.iter().find(|(of, at, _)| *of == kind && *at == plain);
    if let (Some((_, _, text)), Some(schema)) = (described, schema.as_object_mut()) {
        schema.insert("description".into(), json!(text));
    }
    schema
}

/// `30m`, `1h 30m`, `2 days`
const DURATION: &str = r"^\s*([0-9]+\s*[a-zA-Zµ]+\s*)+$";

/// What an editor shows beside a key.
#[rustfmt::skip]
const DESCRIPTIONS: &[(FileKind, &str, &str)] = &[
    (FileKind::Countersign, "/bastion", "The bastion's id in every signed document; made by init, never changed"),
    (FileKind::Countersign, "/host", "The name that people use after @"),
    (FileKind::Countersign, "/listen", "Addresses and ports, such as 0.0.0.0:2222"),
    (FileKind::Countersign, "/state", "The directory of the database"),
    (FileKind::Countersign, "/egress", "The address that targets see, where it is not the socket's own"),
    (FileKind::Countersign, "/recordings", "Where recordings go and who can read them"),
    (FileKind::Countersign, "/recordings/auditors", "Who reads recordings: a name and an SSH or age public key each"),
    (FileKind::Countersign, "/recordings/mode", "sealed (encrypted to the auditors), or plain, said by name"),
    (FileKind::Countersign, "/recordings/key_files", "Directories of the key files, apart from the recordings they open"),
    (FileKind::Countersign, "/recordings/durability", "second: synced each second; strict: before each byte goes on"),
    (FileKind::Countersign, "/recordings/free_floor_mb", "Free space below which no new session begins"),
    (FileKind::Countersign, "/recordings/reserve_mb", "What workflows with rescue = true may use below that"),
    (FileKind::Countersign, "/recordings/recovery", "Who opens what a crash leaves: node, or the auditors alone"),
    (FileKind::Countersign, "/limits", "Caps at the door"),
    (FileKind::Countersign, "/limits/connections_per_person", "Connections that one person may have logged in with at once"),
    (FileKind::Countersign, "/notifiers", "Chats and programs that take notices to people"),
    (FileKind::Countersign, "/notifiers/*/webhook_file", "A file with the address that notices are posted to, mode 0600"),
    (FileKind::Countersign, "/notifiers/*/webhook_env", "Or the environment's variable that holds it"),
    (FileKind::Countersign, "/notifiers/*/secret_file", "What each message is signed with (HMAC-SHA256)"),
    (FileKind::Countersign, "/notifiers/*/command", "A program by its whole path, and its arguments: it reads JSON"),
    (FileKind::Countersign, "/notifiers/*/within", "How long the program may take"),
    (FileKind::Countersign, "/console/tell_watched", "Whoever is watched reads by whom, in their terminal"),
    (FileKind::Countersign, "/metrics", "Where Prometheus reads, on loopback"),
    (FileKind::Countersign, "/limits/drain", "How long what runs may go on after SIGTERM; without it sessions end at once"),
    (FileKind::People, "/people", "A person is one human being with all their keys"),
    (FileKind::People, "/people/*/groups", "What access.cedar and approvals.toml speak of"),
    (FileKind::People, "/people/*/keys", "Public keys, as in a .pub file; a key names one person"),
    (FileKind::People, "/people/*/accounts", "Names elsewhere: chat, directory"),
    (FileKind::People, "/people/*/hours", "When they want to be asked: Mon-Fri 08-18 Europe/Berlin; a decision counts at any hour"),
    (FileKind::People, "/people/*/suspended", "Lets them in no more, and counts nothing that they decided"),
    (FileKind::People, "/people/*/second_factor", "When this person is asked for the code of their second factor"),
    (FileKind::People, "/second_factor", "When everybody who has a second factor is asked for its code"),
    (FileKind::People, "/user_cas", "CAs whose certificates name persons: one principal, the person's name"),
    (FileKind::People, "/user_cas/*/longest", "No certificate may be valid for longer; 24h where nothing is said"),
    (FileKind::People, "/revoked", "Keys and certificates that name nobody, wherever they are listed"),
    (FileKind::Targets, "/targets", "The hosts behind the bastion"),
    (FileKind::Targets, "/targets/*/address", "host, host:port, 10.0.0.5:22 or [2001:db8::5]:22"),
    (FileKind::Targets, "/targets/*/labels", "What access.cedar speaks of: env=prod, or a plain word"),
    (FileKind::Targets, "/targets/*/logins", "Accounts that may be asked for, the default first"),
    (FileKind::Targets, "/targets/*/host_keys", "What the host proves itself with"),
    (FileKind::Targets, "/targets/*/host_ca", "Or who signs its host certificate"),
    (FileKind::Targets, "/targets/*/principal", "login@target; login only for hosts that cannot be given an AuthorizedPrincipalsFile"),
    (FileKind::Approvals, "/notify", "The notifiers of workflows that name none"),
    (FileKind::Approvals, "/workflows/*/notify", "Who takes its notices to people: names of [notifiers]"),
    (FileKind::Approvals, "/presets", "What a tool needs, asked for once under one name"),
    (FileKind::Approvals, "/presets/*/scope", "Classes: shell, exec:*, sftp, sftp-read, sftp-write, forward-local:localhost:*, …; ruled whole"),
    (FileKind::Approvals, "/workflows", "Who has to agree, by the name that a @hold gives"),
    (FileKind::Approvals, "/workflows/*/stages", "Asked in order; a person counts in one of them"),
    (FileKind::Approvals, "/workflows/*/approvers", "Groups that may decide, any of them"),
    (FileKind::Approvals, "/workflows/*/all", "Groups of which one person each has to agree"),
    (FileKind::Approvals, "/workflows/*/within", "The request ends when the stage has not come together after this long"),
    (FileKind::Approvals, "/workflows/*/escalate_to", "Groups that are asked as well, at once where too few are in reach"),
    (FileKind::Approvals, "/workflows/*/escalate_after", "How long the stage waits before it asks them"),
    (FileKind::Approvals, "/workflows/*/prompt", "What whoever asks is asked, and whoever decides reads"),
    (FileKind::Approvals, "/workflows/*/people", "Persons who may decide"),
    (FileKind::Approvals, "/workflows/*/quorum", "How many of them have to agree; nobody decides on their own request"),
    (FileKind::Approvals, "/workflows/*/signature", "touch is best for production"),
    (FileKind::Approvals, "/workflows/*/decide_within", "Nobody may decide after this long"),
    (FileKind::Approvals, "/workflows/*/offered", "The window where the requester names none"),
    (FileKind::Approvals, "/workflows/*/longest", "The longest window that can be granted"),
    (FileKind::Approvals, "/workflows/*/rescue", "What it agrees to may begin on a disk that is nearly full, into the reserve"),
    (FileKind::Approvals, "/workflows/*/use_within", "An approved request lapses when it is not used for this long"),
    (FileKind::Approvals, "/workflows/*/linger", "How long a request stays for a retry when its client has left"),
    (FileKind::Approvals, "/workflows/*/reason_pattern", "A regular expression over the whole reason"),
    (FileKind::Retention, "/zone", "The IANA time zone in which days begin and end"),
    (FileKind::Retention, "/default", "The schedule where policy names none"),
    (FileKind::Retention, "/grace", "How long a recording stays marked before it is erased"),
    (FileKind::Retention, "/schedules/*/keep_at_least", "Nobody deletes before: 7y, 6mo, 2w, 90d, 12h"),
    (FileKind::Retention, "/schedules/*/delete_after", "Gone by then"),
    (FileKind::Retention, "/labels/*/at_most", "The longest for targets with this label, whatever their schedule"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a value by the part of JSON Schema that is used here.
    fn wrong(value: &Value, schema: &Value, at: &str) -> Vec<String> {
        let no = |what: &str| vec![format!("{at}: {what}")];
        if let Some(words) = schema["enum"].as_array() {
            return if words.contains(value) { vec![] } else { no("none of the words") };
        }
        match schema["type"].as_str() {
            Some("object") => {
                let Some(table) = value.as_object() else { return no("no table") };
                let missing = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let missing = missing.filter(|key| !table.contains_key(*key)).map(|key| format!("{at}: no {key}"));
                let inner = table.iter().flat_map(|(key, value)| {
                    let at = format!("{at}/{key}");
                    let pattern = &schema["patternProperties"]["[*]"];
                    let known = if key.contains('*') && pattern.is_object() { pattern } else { &schema["properties"][key] };
                    match (known, &schema["additionalProperties"]) {
                        (Value::Null, Value::Bool(_) | Value::Null) => vec![format!("{at}: unknown")],
                        (Value::Null, more) => wrong(value, more, &at),
                        (known, _) => wrong(value, known, &at),
                    }
                });
                missing.chain(inner).collect()
            }
            Some("array") => match value.as_array() {
                Some(items) => items.iter().flat_map(|item| wrong(item, &schema["items"], at)).collect(),
                None => no("no list"),
            },
            Some("string") => match (value.as_str(), schema["pattern"].as_str()) {
                (Some(text), Some(pattern)) if !regex::Regex::new(pattern).unwrap().is_match(text) => no("not of the pattern"),
                (Some(_), _) => vec![],
                (None, _) => no("no string"),
            },
            Some("integer") => match value.as_u64() {
                Some(n) if (schema["minimum"].as_u64().unwrap()..=schema["maximum"].as_u64().unwrap()).contains(&n) => vec![],
                _ => no("no such number"),
            },
            Some("boolean") => {
                if value.is_boolean() {
                    vec![]
                } else {
                    no("not true or false")
                }
            }
            _ => no("without a type"),
        }
    }

    fn read(text: &str) -> Value {
        toml::from_str(text).unwrap()
    }

    /// Everything that may stand in a file, beside the shipped examples.
    const WHOLE: &str = r#"
bastion = "b"
host = "bastion"
listen = ["0.0.0.0:2222"]
state = "s"
egress = "192.0.2.1"
[recordings]
dir = "r"
durability = "strict"
free_floor_mb = 64
reserve_mb = 256
recovery = "auditors"
single_recipient = true
key_files = ["k"]
[recordings.auditors]
carol = "age1"
[limits]
login_grace = "30s"
login_tries = 6
drain = "10m"
[notifiers.chat]
webhook_file = "keys/chat.url"
secret_file = "keys/chat.secret"
[notifiers.page]
command = ["/usr/local/bin/page", "--quiet"]
within = "20s"
"#;

    fn example(kind: FileKind) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(format!("{}.toml", kind.name()));
        if kind == FileKind::Countersign { WHOLE.to_owned() } else { std::fs::read_to_string(path).unwrap() }
    }

    #[test]
    fn the_examples_are_valid_and_slips_are_not() {
        for kind in FileKind::ALL {
            assert_eq!(wrong(&read(&example(kind)), &of(kind), ""), Vec::<String>::new(), "{}", kind.name());
        }
        for (kind, text, slip) in [
            (FileKind::People, "[people.a]\nkey = []", "/people/a/key: unknown"),
            (FileKind::People, "[people.a]\ngroups = \"x\"", "/people/a/groups: no list"),
            (FileKind::Targets, "[targets.a]\nlogins = []", "/targets/a: no address"),
            (FileKind::Targets, "[targets.a]\naddress = \"x\"\nprincipal = \"Login\"", "/targets/a/principal: none of the words"),
            (FileKind::Targets, "[targets.'*.x']\nhost_keys = []", "/targets/*.x/host_keys: unknown"),
            (FileKind::Approvals, "[workflows.a]\nquorum = 0", "/workflows/a/quorum: no such number"),
            (FileKind::Approvals, "[workflows.a]\nlinger = 5", "/workflows/a/linger: no string"),
            (FileKind::Approvals, "[workflows.a]\nlinger = \"soon\"", "/workflows/a/linger: not of the pattern"),
            (FileKind::Approvals, "[[workflows.a.stages]]\nquroum = 1", "/workflows/a/stages/quroum: unknown"),
            (FileKind::Retention, "[schedules.a]\nkeep_at_least = \"7d\"", "/schedules/a: no delete_after"),
            (FileKind::Countersign, "bastion = \"b\"\nhost = \"h\"\n[limits]\nspeed = 1", "/limits/speed: unknown"),
        ] {
            assert_eq!(wrong(&read(text), &of(kind), ""), [slip], "{text}");
        }
    }

    /// A reader may ask for a key only where another has a good value; a probe has none to offer.
    #[test]
    fn what_is_asked_of_a_real_file_is_in_the_schema() {
        for kind in FileKind::ALL {
            let known = of(kind);
            for (path, table) in probed(kind, None, &example(kind)) {
                for key in table.keys.iter().filter(|(_, shape)| **shape != Shape::Any).map(|(key, _)| key) {
                    let whole = format!("{path}/{key}");
                    let mut at = &known;
                    for step in whole.split('/').skip(1) {
                        at = match step {
                            "**" if at["patternProperties"].is_object() => &at["patternProperties"]["[*]"],
                            "*" | "**" if at["items"].is_object() => &at["items"],
                            "*" | "**" => &at["additionalProperties"],
                            key => &at["properties"][key],
                        };
                    }
                    assert!(at.is_object(), "{}: {path}/{key} is read and not in the schema", kind.name());
                }
            }
        }
    }

    #[test]
    fn every_description_has_its_key_and_every_key_a_type() {
        fn keys(schema: &Value, path: &str, all: &mut Vec<(String, bool)>) {
            for (key, value) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}/{key}");
                all.push((path.clone(), value["type"].is_string() || value["enum"].is_array()));
                keys(value, &path, all);
                keys(&value["items"], &format!("{path}/*"), all);
                keys(&value["additionalProperties"], &format!("{path}/*"), all);
                keys(&value["patternProperties"]["[*]"], &format!("{path}/**"), all);
            }
        }
        for kind in FileKind::ALL {
            let mut all = Vec::new();
            keys(&of(kind), "", &mut all);
            let untyped: Vec<_> = all.iter().filter(|(_, typed)| !typed).collect();
            assert!(untyped.is_empty(), "{}: {untyped:?}", kind.name());
            assert!(
                kind == FileKind::Targets || !of(kind).to_string().contains("patternProperties"),
                "only targets have patterns, not {}: {:#}",
                kind.name(),
                of(kind)
            );
            for (_, path, _) in DESCRIPTIONS.iter().filter(|(of, _, _)| *of == kind) {
                assert!(all.iter().any(|(known, _)| known == path), "{}: there is no {path}", kind.name());
            }
        }
    }
}
