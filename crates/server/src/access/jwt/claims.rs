//! From the claims of a token to a role and teams.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use yard_domain::{Grant, Role, TeamId, TeamScope};

/// How an issuer's claims are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The claim with the role: a text or a list; `a.b` is `b` inside `a`.
    pub role_claim: String,
    /// What its values mean; if empty, they are roles.
    pub roles: BTreeMap<String, Role>,
    /// The role of whoever has none by that claim.
    pub default_role: Option<Role>,
    /// The claim with the teams, likewise.
    pub teams_claim: String,
    /// What its values mean; if empty, they are teams.
    pub teams: BTreeMap<String, TeamId>,
}

impl Mapping {
    /// What these claims give: the highest role, for all teams that are named. An error says for people why nothing.
    pub(super) fn grant(&self, claims: &Map<String, Value>) -> Result<Grant, String> {
        let role_of = |value: &str| match self.roles.get(value) {
            None if self.roles.is_empty() => Role::from_code(value),
            mapped => mapped.copied(),
        };
        let roles = values(claims, &self.role_claim).into_iter().filter_map(role_of);
        let role = roles.max().or(self.default_role);
        let role = role.ok_or_else(|| format!("its claim {:?} gives no role here", self.role_claim))?;
        let team_of = |value: &str| match self.teams.get(value) {
            None if self.teams.is_empty() => value.parse().ok(),
            mapped => mapped.cloned(),
        };
        let teams = values(claims, &self.teams_claim).into_iter().filter_map(team_of);
        let teams: BTreeSet<TeamId> = teams.collect();
        Grant::new(role, TeamScope::Only(teams))
            .map_err(|_| format!("its claim {:?} gives no team here", self.teams_claim))
    }
}

/// A claim's texts. A claim whose name has dots in it (a URL, say) is found as it is first.
fn values<'c>(claims: &'c Map<String, Value>, path: &str) -> Vec<&'c str> {
    let nested = || {
        let mut parts = path.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    };
    match claims.get(path).or_else(nested) {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain() -> Mapping {
        Mapping {
            role_claim: "yard_role".to_owned(),
            roles: BTreeMap::new(),
            default_role: None,
            teams_claim: "yard_teams".to_owned(),
            teams: BTreeMap::new(),
        }
    }

    fn grant(mapping: &Mapping, claims: &Value) -> Result<Grant, String> {
        mapping.grant(claims.as_object().unwrap())
    }

    fn of(role: Role, teams: &[&str]) -> Grant {
        Grant::new(role, TeamScope::Only(teams.iter().map(|t| t.parse().unwrap()).collect())).unwrap()
    }

    #[test]
    fn claims_become_the_highest_role_for_all_teams_named() {
        let found = grant(
            &plain(),
            &json!({"yard_role": ["viewer", "submitter", 7, "boss"], "yard_teams": ["ads", "No!"]}),
        );
        assert_eq!(found.unwrap(), of(Role::Submitter, &["ads"]));
        assert_eq!(grant(&plain(), &json!({"yard_role": "operator"})).unwrap(), Grant::operator());
        let mapped = Mapping {
            role_claim: "realm.roles".to_owned(),
            roles: [("yard-ops".to_owned(), Role::Operator), ("dev".to_owned(), Role::Viewer)].into(),
            teams_claim: "groups".to_owned(),
            teams: [("g-1".to_owned(), "ads".parse().unwrap())].into(),
            ..plain()
        };
        let claims = json!({"realm": {"roles": ["dev", "operator"]}, "groups": ["g-1", "search"]});
        assert_eq!(grant(&mapped, &claims).unwrap(), of(Role::Viewer, &["ads"]), "only what is mapped");
    }

    #[test]
    fn claims_that_give_nothing_say_so() {
        let no_role = grant(&plain(), &json!({"yard_teams": "ads", "yard_role": {"a": 1}})).unwrap_err();
        assert!(no_role.contains("yard_role"), "{no_role}");
        let no_team = grant(&plain(), &json!({"yard_role": "viewer"})).unwrap_err();
        assert!(no_team.contains("yard_teams"), "{no_team}");
        let lenient = Mapping { default_role: Some(Role::Viewer), ..plain() };
        assert_eq!(grant(&lenient, &json!({"yard_teams": "ads"})).unwrap(), of(Role::Viewer, &["ads"]));
    }
}
