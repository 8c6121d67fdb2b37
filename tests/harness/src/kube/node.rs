//! What a Node has to be like.

use std::net::IpAddr;

use serde_json::Value;

use super::status::Refusal;

/// Checks the prefixes, and makes `podCIDR` the first of `podCIDRs`.
pub(super) fn validate(name: &str, old: Option<&Value>, node: &mut Value) -> Result<(), Refusal> {
    let refuse = |field: &str, reason: &'static str, message: String| {
        Err(Refusal::invalid(
            "Node",
            name,
            &[(field.to_owned(), reason, message)],
        ))
    };
    if node["spec"].is_null() {
        node["spec"] = serde_json::json!({});
    }
    let spec = &mut node["spec"];
    let first = spec["podCIDR"].as_str().map(str::to_owned);
    let mut all: Vec<String> = spec["podCIDRs"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|prefix| prefix.as_str().map(str::to_owned))
        .collect();
    if all.is_empty() {
        all.extend(first.clone());
    }
    if first.is_some() && first.as_ref() != all.first() {
        let message = "conversion error: podCIDR does not match podCIDRs[0]";
        return Err(Refusal::bad_request(message));
    }
    let family = |prefix: &String| {
        let (address, length) = prefix.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        (length.parse::<u8>().ok()? <= most).then_some(address.is_ipv4())
    };
    for (index, prefix) in all.iter().enumerate() {
        if family(prefix).is_none() {
            let message = format!("Invalid value: {prefix:?}: must be a valid CIDR value");
            return refuse(
                &format!("spec.podCIDRs[{index}]"),
                "FieldValueInvalid",
                message,
            );
        }
    }
    if all.len() > 2 || (all.len() == 2 && family(&all[0]) == family(&all[1])) {
        let message =
            format!("Invalid value: {all:?}: may specify no more than one CIDR for each IP family");
        return refuse("spec.podCIDRs", "FieldValueInvalid", message);
    }
    if let Some(first) = all.first() {
        spec["podCIDR"] = first.clone().into();
        spec["podCIDRs"] = all.clone().into();
    }
    let before = old.map(|old| &old["spec"]["podCIDRs"]);
    let before = before.and_then(Value::as_array);
    if before.is_some_and(|before| !before.is_empty() && *before != all) {
        let message = "Forbidden: node updates may not change podCIDR except from \"\" to valid";
        return refuse("spec.podCIDRs", "FieldValueForbidden", message.to_owned());
    }
    Ok(())
}
