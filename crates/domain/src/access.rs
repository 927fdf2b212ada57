//! Who may do what: roles, the teams they hold for, and the rights they give. Pure: who is asking, and whether their
//! token is good, is found out elsewhere.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ids::TeamId;
use crate::time::Timestamp;

/// What somebody may do, each role with everything of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sees.
    Viewer,
    /// Submits and stops jobs.
    Submitter,
    /// Makes and revokes tokens of its teams.
    TeamAdmin,
    /// Everything, of every team: clusters, the catalog, audits.
    Operator,
}

impl Role {
    /// Every role, least first.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Submitter, Self::TeamAdmin, Self::Operator];

    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::TeamAdmin => "team-admin",
            Self::Operator => "operator",
        }
    }

    /// Reads the stable code back.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no role {0:?}; known are viewer, submitter, team-admin and operator")]
pub struct UnknownRole(String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::from_code(text).ok_or_else(|| UnknownRole(text.chars().take(60).collect()))
    }
}

/// The teams that a role holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TeamScope {
    /// Every team, also those that come later.
    All,
    /// These alone.
    Only(BTreeSet<TeamId>),
}

impl TeamScope {
    /// Whether `team` is one of them.
    pub fn contains(&self, team: &TeamId) -> bool {
        match self {
            Self::All => true,
            Self::Only(teams) => teams.contains(team),
        }
    }

    /// Whether all of `other` are among them.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Only(_), Self::All) => false,
            (Self::Only(ours), Self::Only(theirs)) => theirs.is_subset(ours),
        }
    }
}

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One team: the role must hold for that team.
    OneTeam,
    /// What belongs to no team, such as the list of clusters: the role alone counts.
    NoTeam,
    /// The installation as a whole: the role must hold for every team.
    Whole,
}

/// Something that may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// See jobs, their logs and histories, receipts, what a team uses.
    SeeTeam,
    /// Submit jobs.
    Submit,
    /// Stop jobs.
    Stop,
    /// Make, list and revoke tokens.
    ManageTokens,
    /// See clusters, and lists of which only one's own part is shown.
    SeeShared,
    /// See what tells about every team at once: metrics.
    SeeWhole,
    /// Run the installation: clusters, catalog, audits, workloads.
    Operate,
}

impl Right {
    /// The least role that has it, and what the role must hold for.
    pub fn needs(self) -> (Role, Reach) {
        match self {
            Self::SeeTeam => (Role::Viewer, Reach::OneTeam),
            Self::Submit | Self::Stop => (Role::Submitter, Reach::OneTeam),
            Self::ManageTokens => (Role::TeamAdmin, Reach::OneTeam),
            Self::SeeShared => (Role::Viewer, Reach::NoTeam),
            Self::SeeWhole => (Role::Viewer, Reach::Whole),
            Self::Operate => (Role::Operator, Reach::Whole),
        }
    }
}

/// A role for some teams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    role: Role,
    teams: TeamScope,
}

/// A role that needs teams was granted for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a {0} must be of at least one team")]
pub struct NoTeams(pub Role);

impl Grant {
    /// A role for these teams. An operator is one for every team, whatever `teams` says.
    pub fn new(role: Role, teams: TeamScope) -> Result<Self, NoTeams> {
        match (role, teams) {
            (Role::Operator, _) => Ok(Self::operator()),
            (role, TeamScope::Only(teams)) if teams.is_empty() => Err(NoTeams(role)),
            (role, teams) => Ok(Self { role, teams }),
        }
    }

    /// Everything.
    pub fn operator() -> Self {
        Self { role: Role::Operator, teams: TeamScope::All }
    }

    /// The role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The teams.
    pub fn teams(&self) -> &TeamScope {
        &self.teams
    }

    /// Whether it gives `right` for `team`.
    pub fn may(&self, right: Right, team: &TeamId) -> bool {
        self.may_somewhere(right) && self.teams.contains(team)
    }

    /// Whether it gives `right` for any team at all (for a right of the whole: for all of them).
    pub fn may_somewhere(&self, right: Right) -> bool {
        let (least, reach) = right.needs();
        self.role >= least && (reach != Reach::Whole || self.teams == TeamScope::All)
    }

    /// Whether whoever has this may hand out `other`: no higher role, no other teams.
    pub fn covers(&self, other: &Self) -> bool {
        self.role >= other.role && self.teams.covers(&other.teams)
    }
}

/// The id of an API token: the part of it that is not secret. 16 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(String);

impl TokenId {
    /// From 64 random bits.
    pub fn new(random: u64) -> Self {
        Self(format!("{random:016x}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no token's id. The text itself is not in the message: it may be a whole token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("is not the id of a token, which is 16 digits of 0-9 and a-f")]
pub struct InvalidTokenId;

impl FromStr for TokenId {
    type Err = InvalidTokenId;

    fn from_str(text: &str) -> Result<Self, InvalidTokenId> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 16 && text.bytes().all(digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidTokenId)
        }
    }
}

/// The SHA-256 of a token's secret: all that is kept of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretHash(pub [u8; 32]);

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(…)")
    }
}

/// An API token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: TokenId,
    /// For people.
    pub name: String,
    /// What it may do.
    pub grant: Grant,
    /// What is kept of its secret.
    pub secret: SecretHash,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute or so.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// A line of the audit log: a change that somebody made, or tried to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLine {
    /// Its number; grows with time.
    pub id: i64,
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub entry: AuditEntry,
}

/// What the audit log says of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who.
    pub actor: String,
    /// From which address; `-` if it came from no network.
    pub address: String,
    /// What was asked for: a stable code such as `job.submit`.
    pub action: String,
    /// Of what: a job, a cluster, a token.
    pub target: String,
    /// What it came to: `ok`, or the code of the problem that was answered.
    pub result: String,
    /// The request's id, as in the answer's `x-request-id`.
    pub request: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(name: &str) -> TeamId {
        name.parse().unwrap()
    }

    fn grant(role: Role, teams: &[&str]) -> Grant {
        Grant::new(role, TeamScope::Only(teams.iter().map(|t| team(t)).collect())).unwrap()
    }

    #[test]
    fn each_role_has_what_the_one_before_has_and_only_for_its_teams() {
        use Right::{ManageTokens, Operate, SeeShared, SeeTeam, SeeWhole, Stop, Submit};
        let rights = [SeeTeam, SeeShared, Submit, Stop, ManageTokens, SeeWhole, Operate];
        let own = |role| rights.map(|right| grant(role, &["a"]).may(right, &team("a")));
        assert_eq!(own(Role::Viewer), [true, true, false, false, false, false, false]);
        assert_eq!(own(Role::Submitter), [true, true, true, true, false, false, false]);
        assert_eq!(own(Role::TeamAdmin), [true, true, true, true, true, false, false]);
        assert_eq!(rights.map(|right| Grant::operator().may(right, &team("z"))), [true; 7]);
        for role in [Role::Viewer, Role::Submitter, Role::TeamAdmin] {
            assert_eq!(rights.map(|right| grant(role, &["a"]).may(right, &team("b"))), [false; 7]);
            let all = Grant::new(role, TeamScope::All).unwrap();
            assert!(all.may_somewhere(SeeWhole) && !all.may_somewhere(Operate), "{role}");
        }
    }

    #[test]
    fn nobody_hands_out_more_than_they_have() {
        let admin = grant(Role::TeamAdmin, &["a", "b"]);
        assert!(
            admin.covers(&grant(Role::TeamAdmin, &["b"])) && admin.covers(&grant(Role::Viewer, &["a", "b"]))
        );
        assert!(!admin.covers(&grant(Role::Viewer, &["a", "c"])), "another team");
        assert!(!admin.covers(&Grant::operator()), "a higher role");
        assert!(!admin.covers(&Grant::new(Role::Viewer, TeamScope::All).unwrap()), "every team");
        assert!(Grant::operator().covers(&Grant::operator()));
    }

    #[test]
    fn a_role_without_teams_is_refused_and_an_operator_has_all() {
        assert_eq!(Grant::new(Role::Viewer, TeamScope::Only([].into())), Err(NoTeams(Role::Viewer)));
        assert_eq!(Grant::new(Role::Operator, TeamScope::Only([].into())), Ok(Grant::operator()));
    }

    #[test]
    fn ids_and_hashes_read_back_and_show_no_secret() {
        let id = TokenId::new(255);
        assert_eq!((id.as_str(), id.as_str().parse()), ("00000000000000ff", Ok(id.clone())));
        for bad in ["", "00000000000000FF", "yard_00000000000000ff", "00000000000000f"] {
            assert_eq!(bad.parse::<TokenId>(), Err(InvalidTokenId), "{bad}");
        }
        assert_eq!(format!("{:?}", SecretHash([7; 32])), "SecretHash(…)");
    }
}
