//! Keeps policies from matching parts of a command's text, or of a host's name.
//!
//! `like "systemctl restart *"` also matches `systemctl restart x; rm -rf /`, and `like "*.example"` a name
//! that somebody else's resolver answers. So `context.command` and `context.to` may only be compared whole:
//! an operand of `==`, the argument of `[…].contains()`, or `context has command`. Anything else, also by
//! way of a record or an `if`, is refused. Works on Cedar's JSON form of a policy, where
//! `context["command"]` and escapes are already resolved.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::access::endpoint::Endpoint;

/// The attributes that are only compared whole, and why not by their parts.
pub(super) const WHOLE: [(&str, &str); 2] =
    [("command", "shell text cannot be judged by its parts"), ("to", "whose a host is cannot be told from a part of its name")];

/// The operator that a policy applies to `attribute` besides comparing it whole, if any.
pub(super) fn misuse(policy: &Value, attribute: &str) -> Option<String> {
    let conditions = policy.get("conditions")?.as_array()?;
    conditions.iter().filter_map(|condition| condition.get("body")).find_map(|body| misuse_in(body, attribute, "when", false))
}

/// An expression is an object of one operator and its operands (JSON policy format of Cedar).
fn misuse_in(expression: &Value, attribute: &str, parent: &str, whole: bool) -> Option<String> {
    if reads(expression, attribute) {
        return if whole && of_context(expression) { None } else { Some(parent.to_owned()) };
    }
    let (operator, operands) = expression.as_object()?.iter().next()?;
    match operands {
        _ if operator == "Value" => None,
        Value::Object(named) => named.iter().find_map(|(name, operand)| {
            let whole = operator == "==" || (operator == "contains" && name == "right");
            misuse_in(operand, attribute, operator, whole)
        }),
        Value::Array(listed) => listed.iter().find_map(|operand| misuse_in(operand, attribute, operator, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The text values of a policy that compares the command: what it may compare it with.
pub(super) fn compared(policy: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    if policy.get("conditions").is_some_and(|conditions| mentions(conditions, "command")) {
        let mut keep = |value: &Value| texts.extend(value.as_str().map(str::to_owned));
        policy.get("conditions").into_iter().for_each(|conditions| collect(conditions, &mut keep));
    }
    texts
}

/// The places that a policy tells from others: its hosts, its ports, and each host with each port.
pub(super) fn places(policy: &Value) -> BTreeSet<Endpoint> {
    let Some(conditions) = policy.get("conditions").filter(|given| ["to", "address", "port"].iter().any(|name| mentions(given, name)))
    else {
        return BTreeSet::new();
    };
    let (mut hosts, mut ports) = (vec!["*".to_owned()], vec!["*".to_owned()]);
    collect(conditions, &mut |value| match value {
        // An address is written in brackets where its colons would be taken for the port's.
        Value::String(text) if text.contains(':') => hosts.push(format!("[{text}]")),
        Value::String(text) => hosts.push(text.clone()),
        Value::Number(number) => ports.push(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {}
    });
    let each = hosts.iter().flat_map(|host| ports.iter().map(move |port| format!("{host}:{port}")));
    each.filter_map(|text| text.parse().ok()).filter(|place: &Endpoint| place.host().is_some() || place.port().is_some()).collect()
}

fn mentions(value: &Value, attribute: &str) -> bool {
    match value {
        Value::Object(named) => reads(value, attribute) || named.values().any(|value| mentions(value, attribute)),
        Value::Array(listed) => listed.iter().any(|value| mentions(value, attribute)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn collect(value: &Value, keep: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(named) => {
            named.get("Value").into_iter().for_each(&mut *keep);
            named.values().for_each(|value| collect(value, keep));
        }
        Value::Array(listed) => listed.iter().for_each(|value| collect(value, keep)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An access to an attribute of that name, of whatever: nothing else of ours has one.
fn reads(expression: &Value, attribute: &str) -> bool {
    expression.pointer("/./attr").and_then(Value::as_str) == Some(attribute)
}

fn of_context(access: &Value) -> bool {
    access.pointer("/./left/Var").and_then(Value::as_str) == Some("context")
}
