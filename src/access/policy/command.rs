//! Keeps policies from matching parts of a command's text.
//!
//! `like "systemctl restart *"` also matches `systemctl restart x; rm -rf /`. So `context.command` may
//! only be compared whole: an operand of `==`, the argument of `[…].contains()`, or `context has command`.
//! Anything else, also by way of a record or an `if`, is refused. Works on Cedar's JSON form of a policy,
//! where `context["command"]` and escapes are already resolved.

use serde_json::Value;

/// The operator that a policy applies to the command besides comparing it whole, if any.
pub(super) fn misuse(policy: &Value) -> Option<String> {
    let conditions = policy.get("conditions")?.as_array()?;
    conditions.iter().filter_map(|condition| condition.get("body")).find_map(|body| misuse_in(body, "when", false))
}

/// An expression is an object of one operator and its operands (JSON policy format of Cedar).
fn misuse_in(expression: &Value, parent: &str, whole: bool) -> Option<String> {
    if reads_command(expression) {
        return if whole && of_context(expression) { None } else { Some(parent.to_owned()) };
    }
    let (operator, operands) = expression.as_object()?.iter().next()?;
    match operands {
        _ if operator == "Value" => None,
        Value::Object(named) => named.iter().find_map(|(name, operand)| {
            let whole = operator == "==" || (operator == "contains" && name == "right");
            misuse_in(operand, operator, whole)
        }),
        Value::Array(listed) => listed.iter().find_map(|operand| misuse_in(operand, operator, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// The text values of a policy that compares the command: what it may compare it with.
pub(super) fn compared(policy: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    if policy.get("conditions").is_some_and(mentions_command) {
        policy.get("conditions").into_iter().for_each(|conditions| collect(conditions, &mut texts));
    }
    texts
}

fn mentions_command(value: &Value) -> bool {
    match value {
        Value::Object(named) => reads_command(value) || named.values().any(mentions_command),
        Value::Array(listed) => listed.iter().any(mentions_command),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Object(named) => {
            texts.extend(named.get("Value").and_then(Value::as_str).map(str::to_owned));
            named.values().for_each(|value| collect(value, texts));
        }
        Value::Array(listed) => listed.iter().for_each(|value| collect(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// An access to an attribute called `command`, of whatever: nothing else of ours has one.
fn reads_command(expression: &Value) -> bool {
    expression.pointer("/./attr").and_then(Value::as_str) == Some("command")
}

fn of_context(access: &Value) -> bool {
    access.pointer("/./left/Var").and_then(Value::as_str) == Some("context")
}
