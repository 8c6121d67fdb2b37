//! Who asks, and what they may.

use super::resource::Resource;
use super::status::Refusal;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum User {
    /// Everything.
    Admin,
    /// Exactly what an agent needs.
    Agent,
    /// Exactly what an agent needs that joins Flannel's nodes.
    FlannelAgent,
    /// An agent that takes its traces away.
    Cleaner,
    /// Nothing.
    Stranger,
}

/// Verbs on a resource or its subresource `status`.
type Rule = (Resource, bool, &'static [&'static str]);

const AGENT: &[Rule] = &[
    (Resource::Nodes, false, &["get"]),
    (Resource::Nodes, true, &["patch"]),
    (
        Resource::NodeNetworks,
        false,
        &["get", "list", "watch", "create", "patch"],
    ),
    (Resource::NodeNetworks, true, &["patch"]),
];
const FLANNEL: &[Rule] = &[(Resource::Nodes, false, &["list", "watch", "patch"])];
const CLEANER: &[Rule] = &[
    (Resource::Nodes, false, &["patch"]),
    (Resource::NodeNetworks, false, &["delete"]),
];

impl User {
    /// All.
    pub const ALL: [Self; 5] = [
        Self::Admin,
        Self::Agent,
        Self::FlannelAgent,
        Self::Cleaner,
        Self::Stranger,
    ];

    /// A name that is good for an object too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Agent => "agent",
            Self::FlannelAgent => "flannel-agent",
            Self::Cleaner => "cleaner",
            Self::Stranger => "stranger",
        }
    }

    pub(super) fn rules(self) -> Vec<Rule> {
        match self {
            Self::Admin | Self::Stranger => Vec::new(),
            Self::Agent => AGENT.to_vec(),
            Self::FlannelAgent => [AGENT, FLANNEL].concat(),
            Self::Cleaner => [AGENT, CLEANER].concat(),
        }
    }

    /// Whether the user may do this.
    pub(super) fn may(
        self,
        verb: &str,
        resource: Resource,
        status: bool,
        name: Option<&str>,
    ) -> Result<(), Refusal> {
        let rules = self.rules();
        let mut rules = rules.iter();
        let fits = |(what, sub, verbs): &Rule| {
            *what == resource && *sub == status && verbs.contains(&verb)
        };
        if self == Self::Admin || rules.any(fits) {
            return Ok(());
        }
        Err(forbidden(self.name(), verb, resource, status, name))
    }
}

/// A refusal of a user by name.
pub(super) fn forbidden(
    user: &str,
    verb: &str,
    resource: Resource,
    status: bool,
    name: Option<&str>,
) -> Refusal {
    let named = name.map(|name| format!(" {name:?}")).unwrap_or_default();
    let sub = if status { "/status" } else { "" };
    let message = format!(
        "{}{named} is forbidden: User {user:?} cannot {verb} resource \"{}{sub}\" in API group {:?} at the cluster scope",
        resource.qualified(),
        resource.plural(),
        resource.group()
    );
    let mut refusal = Refusal::new(403, "Forbidden", message);
    refusal.details = serde_json::json!({ "kind": resource.plural() });
    if let Some(name) = name {
        refusal.details["name"] = name.into();
    }
    if !resource.group().is_empty() {
        refusal.details["group"] = resource.group().into();
    }
    refusal
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::kube::yaml;

    #[test]
    fn the_agent_of_tests_has_the_rights_of_the_manifest() {
        let text = include_str!("../../../../examples/node-agent/deploy/base/rbac.yaml");
        let all = yaml::documents(text);
        let role = all.iter().find(|one| one["kind"] == "ClusterRole");
        let rules = role.expect("a role")["rules"].as_array().expect("rules");
        let words = |value: &Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(|one| one.as_str().map(str::to_owned))
                .collect()
        };
        let rule = |rule: &Value| {
            let parts = ["apiGroups", "resources", "verbs"];
            parts.map(|part| words(&rule[part]))
        };
        let ours = |(resource, status, verbs): &Rule| {
            let sub = if *status { "/status" } else { "" };
            let verbs = verbs.iter().map(|verb| (*verb).to_owned());
            [
                vec![resource.group().to_owned()],
                vec![format!("{}{sub}", resource.plural())],
                verbs.collect(),
            ]
        };
        let manifest: Vec<_> = rules.iter().map(rule).collect();
        let table: Vec<_> = User::Agent.rules().iter().map(ours).collect();
        assert_eq!(table, manifest);
    }
}
