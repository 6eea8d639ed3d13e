//! Networks that policies name: `ip("192.0.2.7/24")` is either a host or a network, and Cedar would take it
//! for the network. Whoever wrote it may have meant the host, so it is refused.

use std::net::IpAddr;

use serde_json::Value;

/// A network with bits behind its prefix, and without them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HostBits {
    pub given: String,
    pub meant: String,
}

/// Those of a policy (in Cedar's JSON form, where a call of `ip` is an object of that name).
pub(super) fn host_bits(policy: &Value) -> Vec<HostBits> {
    let mut found = Vec::new();
    policy.get("conditions").into_iter().for_each(|conditions| collect(conditions, &mut found));
    found
}

fn collect(expression: &Value, found: &mut Vec<HostBits>) {
    match expression {
        Value::Object(named) => {
            let called = named.get("ip").and_then(Value::as_array).into_iter().flatten();
            found.extend(called.filter_map(|given| with_host_bits(given.get("Value")?.as_str()?)));
            named.values().for_each(|inner| collect(inner, found));
        }
        Value::Array(listed) => listed.iter().for_each(|inner| collect(inner, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn with_host_bits(given: &str) -> Option<HostBits> {
    let (address, prefix) = given.split_once('/')?;
    let prefix: u32 = prefix.parse().ok()?;
    let network: IpAddr = match address.parse().ok()? {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32u32.checked_sub(prefix)?).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128u32.checked_sub(prefix)?).unwrap_or(0)).into()),
    };
    let meant = format!("{network}/{prefix}");
    (address.parse().ok() != Some(network)).then(|| HostBits { given: given.to_owned(), meant })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_nothing_behind_its_prefix() {
        let meant = |given: &str| with_host_bits(given).map(|bits| bits.meant);
        assert_eq!(meant("192.0.2.7/24").as_deref(), Some("192.0.2.0/24"));
        assert_eq!(meant("192.0.2.7/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!(meant("2001:db8::1/64").as_deref(), Some("2001:db8::/64"));
        for good in ["192.0.2.0/24", "192.0.2.7/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "192.0.2.7", "192.0.2.7/33", "x/24"] {
            assert_eq!(meant(good), None, "{good}");
        }
    }

    #[test]
    fn it_is_found_however_deep_it_stands() {
        let policy = serde_json::json!({ "conditions": [{ "kind": "when", "body": { "&&": { "left": { "Value": true }, "right": {
            "isInRange": [{ ".": { "left": { "Var": "context" }, "attr": "source" } }, { "ip": [{ "Value": "10.0.0.1/8" }] }] } } } }] });
        assert_eq!(host_bits(&policy), [HostBits { given: "10.0.0.1/8".into(), meant: "10.0.0.0/8".into() }]);
    }
}
