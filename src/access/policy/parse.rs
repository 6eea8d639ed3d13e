//! From text to a validated set: each policy by itself first, then all of them against the schema.

use std::collections::BTreeMap;
use std::ops::Range;
use std::str::FromStr;

use cedar_policy::{ActionConstraint, Effect, EntityUid, Policy, PolicyId, ValidationMode, ValidationWarning, Validator};
use miette::Diagnostic;

use super::annotations::{self, Annotations, Wrong};
use super::question::{SCHEMA, TYPES};
use super::{Mention, Mentioned, PolicyProblem, PolicySet, Vocabulary, command, network, text};
use crate::access::action::ConsoleAction;

/// The longest policy text that is read.
const MAX_TEXT: usize = 1024 * 1024;

/// What the context of console actions does not have.
const OF_SESSIONS: [&str; 6] = ["login", "command", "source", "first_time", "mfa", "inner_auth"];

/// What the context of forwards alone has.
const OF_FORWARDS: [&str; 3] = ["to", "address", "port"];

pub(super) fn parse(source: &str, vocabulary: &Vocabulary) -> Result<PolicySet, Vec<PolicyProblem>> {
    if source.len() > MAX_TEXT {
        let what = format!("the policies are longer than {MAX_TEXT} bytes");
        return Err(vec![PolicyProblem { offset: 0, what, fix: "remove what is not needed".into() }]);
    }
    let mut reading = Reading { source, vocabulary, problems: Vec::new(), policies: BTreeMap::new() };
    for place in text::statements(source) {
        reading.read(place);
    }
    if reading.problems.is_empty() {
        reading.count();
    }
    reading.finish()
}

struct Reading<'a> {
    source: &'a str,
    vocabulary: &'a Vocabulary,
    problems: Vec<PolicyProblem>,
    policies: BTreeMap<String, Read>,
}

/// A policy that could be read, with its place in the text.
struct Read {
    place: Range<usize>,
    policy: Policy,
    annotations: Annotations,
}

impl Reading<'_> {
    /// Reads one policy and keeps it under its `@id`.
    fn read(&mut self, place: Range<usize>) {
        let text = self.source.get(place.clone()).unwrap_or_default();
        if let Some((at, what)) = text::too_complex(self.source, &place) {
            return self.problem(at, what, "split the policy in several, or use a set: [\"…\", \"…\"].contains(…)");
        }
        let policy = match Policy::parse(None, text) {
            Ok(policy) => policy,
            Err(errors) => {
                return errors.iter().for_each(|error| {
                    let fix =
                        error.help().map_or_else(|| "see https://docs.cedarpolicy.com".to_owned(), |help| one_line(&help.to_string()));
                    self.problem(place.start + offset_of(error), one_line(&error.to_string()), &fix);
                });
            }
        };
        let mut wrong = Vec::new();
        let annotations = Annotations::read(&policy, self.vocabulary, &mut wrong);
        let id = annotations::id(&policy).map_err(|no_id| wrong.push(no_id)).ok();
        for Wrong { key, what, fix } in wrong {
            let at = text::find(self.source, &place, &["@", &key]).unwrap_or(place.start);
            self.problem(at, what, &fix);
        }
        self.lint(&policy, &annotations, &place);
        let Some(id) = id else { return };
        if let Some(first) = self.policies.get(&id) {
            let line = self.source.get(..first.place.start).map_or(1, |before| before.matches('\n').count() + 1);
            let at = text::find(self.source, &place, &["@", "id"]).unwrap_or(place.start);
            return self.problem(at, format!("@id({id:?}) is already the policy on line {line}"), "give it a name of its own");
        }
        let policy = policy.new_id(PolicyId::new(&id));
        self.policies.insert(id, Read { place, policy, annotations });
    }

    /// What Cedar accepts and we do not.
    fn lint(&mut self, policy: &Policy, annotations: &Annotations, place: &Range<usize>) {
        match policy.to_json() {
            Ok(json) => {
                for (attribute, why) in command::WHOLE {
                    let Some(operator) = command::misuse(&json, attribute) else { continue };
                    let at = text::find(self.source, place, &["like"]).filter(|_| operator == "like");
                    let at = at.or_else(|| text::find(self.source, place, &[attribute])).unwrap_or(place.start);
                    let fix = match attribute {
                        "command" => "compare the whole command: context.command == \"…\" or [\"…\", \"…\"].contains(context.command)",
                        _ => "compare the whole host: context.to == \"…\" or [\"…\", \"…\"].contains(context.to)",
                    };
                    self.problem(at, format!("{operator:?} on context.{attribute}: {why}"), fix);
                }
                for network::HostBits { given, meant } in network::host_bits(&json) {
                    let at = text::find(self.source, place, &[&format!("{given:?}")]).unwrap_or(place.start);
                    let what = format!("{given} names a host and a network at once");
                    self.problem(at, what, &format!("write ip({meant:?}), or the address alone"));
                }
            }
            Err(error) => self.problem(place.start, one_line(&error.to_string()), "write the policy more plainly"),
        }
        if annotations.hold.is_some() {
            for uid in policy.entity_literals().iter().filter(|uid| is_console(uid)) {
                let action = uid.id().unescaped();
                let at = self.find_entity(place, uid);
                let fix = "use a forbid without @hold, or name what opens a session: action in Action::\"session\"";
                self.problem(at, format!("@hold cannot hold {action:?}: nobody is asked for what is done on the console"), fix);
            }
        }
    }

    /// Checks that Cedar, reading the whole text, sees as many policies as we did.
    fn count(&mut self) {
        let all = cedar_policy::PolicySet::from_str(self.source).map(|set| set.num_of_policies() + set.num_of_templates());
        if all.ok() != Some(self.policies.len()) {
            self.problem(0, "the policies read differently as a whole than one by one".into(), "look for a stray quote or comment");
        }
    }

    /// Validates everything that could be read, even where something else could not.
    fn finish(mut self) -> Result<PolicySet, Vec<PolicyProblem>> {
        let policies = self.policies.values().map(|read| read.policy.clone());
        let whole = match cedar_policy::PolicySet::from_policies(policies) {
            Ok(whole) => whole,
            Err(error) => {
                self.problem(0, one_line(&error.to_string()), "give every policy an @id of its own");
                return Err(self.problems);
            }
        };
        let warnings = self.validate(&whole);
        if !self.problems.is_empty() {
            self.problems.sort_by_key(|problem| problem.offset);
            return Err(self.problems);
        }
        let (holds, base): (Vec<&Read>, Vec<&Read>) = self.policies.values().partition(|read| read.annotations.hold.is_some());
        let set = |of: Vec<&Read>| {
            let policies = of.into_iter().map(|read| read.policy.clone());
            cedar_policy::PolicySet::from_policies(policies).map_err(|error| one_line(&error.to_string()))
        };
        match (set(base), set(holds)) {
            (Ok(base), Ok(holds)) => {
                let mentions: Vec<Mention> = self.policies.values().flat_map(|read| self.mentions(read)).collect();
                let named = mentions.iter().filter(|mention| mention.of == Mentioned::Target).map(|mention| mention.id.clone()).collect();
                let json = self.policies.values().filter_map(|read| read.policy.to_json().ok());
                let json: Vec<_> = json.collect();
                let commands = json.iter().flat_map(command::compared).collect();
                let places = json.iter().flat_map(command::places).collect();
                let by_id = self.policies.into_iter().map(|(id, read)| (id, read.annotations)).collect();
                Ok(PolicySet { base, holds, by_id, mentions, named, warnings, commands, places })
            }
            (Err(what), _) | (_, Err(what)) => {
                Err(vec![PolicyProblem { offset: 0, what, fix: "give every policy an @id of its own".into() }])
            }
        }
    }

    /// Strict validation; returns what is worth a warning only.
    fn validate(&mut self, whole: &cedar_policy::PolicySet) -> Vec<PolicyProblem> {
        let result = Validator::new(SCHEMA.clone()).validate(whole, ValidationMode::Strict);
        // One mistake is reported once per action that it touches, in no order: one of them will do.
        let mut first: BTreeMap<usize, (String, String)> = BTreeMap::new();
        for error in result.validation_errors() {
            let offset = self.start(error.policy_id()) + offset_of(error);
            let what = one_line(&error.to_string());
            let fix = match error.help() {
                // Where a session's action lacks it, the console's does too: of both, this is the nearer.
                _ if OF_FORWARDS.iter().any(|name| what.contains(&format!("`{name}` in context for"))) => {
                    "only forwards have it: write action in [Action::\"forward-local\", Action::\"forward-remote\"]".to_owned()
                }
                _ if OF_SESSIONS.iter().any(|name| what.contains(&format!("`{name}` in context for"))) => {
                    "only what opens a session has it: write action in Action::\"session\"".to_owned()
                }
                Some(help) => one_line(&help.to_string()),
                None => "see the schema, src/access/policy/countersign.cedarschema".to_owned(),
            };
            let found = (what, fix);
            first.entry(offset).and_modify(|kept| *kept = found.clone().min(kept.clone())).or_insert(found);
        }
        for (offset, (what, fix)) in first {
            self.problem(offset, what, &fix);
        }
        let mut warnings = Vec::new();
        for warning in result.validation_warnings() {
            let offset = self.start(warning.policy_id()) + offset_of(warning);
            let what = one_line(&warning.to_string());
            match warning {
                // A forbid that never applies guards nothing; bidirectional text shows another policy than it is.
                ValidationWarning::ImpossiblePolicy(_) | ValidationWarning::InvalidActionApplication(_) => {
                    self.problem(offset, format!("this policy can never apply: {what}"), "correct its conditions or remove it");
                }
                ValidationWarning::BidiCharsInString(_) | ValidationWarning::BidiCharsInIdentifier(_) => {
                    self.problem(offset, what, "remove the bidirectional control characters");
                }
                _ => warnings.push(PolicyProblem { offset, what, fix: "use one script, so that names cannot be confused".into() }),
            }
        }
        for read in self.policies.values().filter(|read| read.policy.effect() == Effect::Permit) {
            if read.policy.action_constraint() == ActionConstraint::Any {
                warnings.push(PolicyProblem {
                    offset: read.place.start,
                    what: "this permit names no action: it also lets people approve, replay, watch and kill".into(),
                    fix: "write action in Action::\"session\", or list the actions".into(),
                });
            }
        }
        warnings
    }

    fn mentions(&self, read: &Read) -> Vec<Mention> {
        let known = [
            (&TYPES.group, Mentioned::Group),
            (&TYPES.label, Mentioned::Label),
            (&TYPES.person, Mentioned::Person),
            (&TYPES.target, Mentioned::Target),
        ];
        let literals = read.policy.entity_literals();
        let mention = |uid: &EntityUid| {
            let (_, of) = known.iter().find(|(name, _)| *name == uid.type_name())?;
            Some(Mention { offset: self.find_entity(&read.place, uid), of: *of, id: uid.id().unescaped().to_owned() })
        };
        literals.iter().filter_map(mention).collect()
    }

    fn find_entity(&self, place: &Range<usize>, uid: &EntityUid) -> usize {
        let id = format!("\"{}\"", uid.id().escaped());
        text::find(self.source, place, &[uid.type_name().basename(), ":", ":", &id]).unwrap_or(place.start)
    }

    fn start(&self, id: &PolicyId) -> usize {
        self.policies.get(AsRef::<str>::as_ref(id)).map_or(0, |read| read.place.start)
    }

    fn problem(&mut self, offset: usize, what: String, fix: &str) {
        self.problems.push(PolicyProblem { offset, what, fix: fix.to_owned() });
    }
}

fn is_console(uid: &EntityUid) -> bool {
    let id = uid.id().unescaped();
    *uid.type_name() == TYPES.action && (id == "console" || ConsoleAction::ALL.iter().any(|action| action.as_str() == id))
}

/// Where Cedar says that the trouble begins, within the text it was given.
fn offset_of(error: &dyn Diagnostic) -> usize {
    error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
