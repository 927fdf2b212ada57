//! Tokens and the audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yard_domain::{ApiToken, AuditLine, TeamId, TeamScope};

use super::time::time_text;

/// How every team is named in a list of teams.
pub const EVERY_TEAM: &str = "*";

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// For people: what it is for, or whose. Up to 100 characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    pub name: String,
    /// `viewer`, `submitter`, `team-admin` or `operator`.
    #[schema(pattern = "^(viewer|submitter|team-admin|operator)$")]
    pub role: String,
    /// The teams that it is for; `*` is every team. An operator is one for every team.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<String>>, max_items = 100)]
    pub teams: Vec<String>,
    /// How long it is good for, in seconds; left out or null: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3_162_240_000_u64)]
    pub expires_in_s: Option<u64>,
}

/// A token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its id: the middle part of it, which is not secret.
    pub id: String,
    /// For people.
    pub name: String,
    /// `viewer`, `submitter`, `team-admin` or `operator`.
    pub role: String,
    /// The teams that it is for; `*` is every team.
    pub teams: Vec<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: String,
    /// When it ends; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was last used, to the minute; left out: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used_at: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// The token itself: shown this once, and kept nowhere.
    pub token: String,
    /// What it is.
    #[serde(flatten)]
    pub about: TokenView,
}

/// Some tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// The tokens, by id.
    pub tokens: Vec<TokenView>,
    /// The cursor of the next page; left out on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Some lines of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLog {
    /// The lines, newest first.
    pub lines: Vec<AuditLineView>,
    /// Ask for lines before this one to go on; left out on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<i64>,
}

/// A change that somebody made, or tried to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditLineView {
    /// Its number; grows with time.
    pub id: i64,
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// From which address.
    pub address: String,
    /// What: `job.submit`, `job.stop`, `cluster.drain`, `cluster.resume`, `catalog.apply`, `token.create`, `token.revoke`,
    /// `delivery.retry`.
    pub action: String,
    /// Of what.
    pub target: String,
    /// `ok` or another word for what it came to, or the code of the problem that was answered.
    pub result: String,
    /// The request's id, as in the answer's `x-request-id`.
    pub request: String,
}

impl From<&ApiToken> for TokenView {
    fn from(token: &ApiToken) -> Self {
        let teams = match token.grant.teams() {
            TeamScope::All => vec![EVERY_TEAM.to_owned()],
            TeamScope::Only(teams) => teams.iter().map(TeamId::to_string).collect(),
        };
        Self {
            id: token.id.to_string(),
            name: token.name.clone(),
            role: token.grant.role().code().to_owned(),
            teams,
            created_by: token.created_by.clone(),
            created_at: time_text(token.created_at),
            expires_at: token.expires_at.map(time_text),
            last_used_at: token.last_used_at.map(time_text),
            revoked_at: token.revoked_at.map(time_text),
        }
    }
}

impl From<&AuditLine> for AuditLineView {
    fn from(line: &AuditLine) -> Self {
        let entry = &line.entry;
        Self {
            id: line.id,
            at: time_text(line.at),
            actor: entry.actor.clone(),
            address: entry.address.clone(),
            action: entry.action.clone(),
            target: entry.target.clone(),
            result: entry.result.clone(),
            request: entry.request.clone(),
        }
    }
}
