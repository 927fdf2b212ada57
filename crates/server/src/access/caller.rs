//! Who is asking, as handlers see it.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use yard_domain::{AuditEntry, Grant, JobId, Right, TeamId, TeamScope, TokenId};
use yard_wire::views::ProblemCode;

use crate::problem::ApiError;

/// How somebody has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// By an API token.
    Token {
        /// Its id.
        id: TokenId,
        /// Its name.
        name: String,
    },
    /// By a token of an issuer that is trusted.
    Issued {
        /// The issuer's name here.
        issuer: String,
        /// Its word for who it is.
        subject: String,
    },
    /// By the operator token of the configuration.
    Bootstrap,
    /// Not at all, where that is allowed.
    Anonymous,
}

/// As written into histories and the audit log; the same for all requests of one caller.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { id, name } => write!(f, "{name} (token {id})"),
            Self::Issued { issuer, subject } => write!(f, "{subject} ({issuer})"),
            Self::Bootstrap => f.write_str("bootstrap"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

/// What is to be written into the audit log about a request.
#[derive(Debug, Default)]
struct Note {
    target: Option<String>,
    result: Option<&'static str>,
    is_no_change: bool,
}

/// Whoever sent a request, and what they may do. Handlers take it as an extractor.
#[derive(Debug, Clone)]
pub struct Caller {
    identity: Identity,
    grant: Grant,
    address: Option<IpAddr>,
    note: Arc<Mutex<Note>>,
}

impl Caller {
    pub(super) fn new(identity: Identity, grant: Grant, address: Option<IpAddr>) -> Self {
        Self { identity, grant, address, note: Arc::default() }
    }

    /// Who, for histories.
    pub fn actor(&self) -> String {
        self.identity.to_string()
    }

    /// What they may do.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// Whether they have this right for this team.
    pub fn may(&self, right: Right, team: &TeamId) -> bool {
        self.grant.may(right, team)
    }

    /// Whether they see what belongs to this team. What somebody doesn't see is not there for them: 404.
    pub fn sees(&self, team: &TeamId) -> bool {
        self.may(Right::SeeTeam, team)
    }

    /// Whether they see every team.
    pub fn sees_all(&self) -> bool {
        self.grant.may_somewhere(Right::SeeWhole)
    }

    /// The teams to which lists are to keep; `None`: all.
    pub fn teams(&self) -> Option<Vec<TeamId>> {
        match self.grant.teams() {
            TeamScope::All => None,
            TeamScope::Only(teams) => Some(teams.iter().cloned().collect()),
        }
    }

    /// The team of a caller who has just one.
    pub fn only_team(&self) -> Option<&TeamId> {
        match self.grant.teams() {
            TeamScope::Only(teams) if teams.len() == 1 => teams.first(),
            _ => None,
        }
    }

    /// An error unless they have this right for this team, which they see.
    pub fn need(&self, right: Right, team: &TeamId) -> Result<(), ApiError> {
        if self.may(right, team) {
            return Ok(());
        }
        let (least, _) = right.needs();
        let detail = format!("this takes a {least} of team {team}; you are a {}", self.grant.role());
        Err(ApiError::new(ProblemCode::Forbidden, detail))
    }

    /// Says what a change is about, for the audit log.
    pub fn about(&self, target: impl Into<String>) {
        self.with_note(|note| note.target = Some(target.into()));
    }

    /// As [`Caller::about`], of a job.
    pub fn about_job(&self, team: &TeamId, job: JobId) {
        self.about(format!("job {job} of team {team}"));
    }

    /// Says what a change came to, where `ok` says too little.
    pub fn came_to(&self, result: &'static str) {
        self.with_note(|note| note.result = Some(result));
    }

    /// Says that nothing was to be changed, so that there is nothing to write down.
    pub fn changes_nothing(&self) {
        self.with_note(|note| note.is_no_change = true);
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The line for the audit log; `None` if nothing was to be changed. `failure` is the code of the problem that was
    /// answered.
    pub(super) fn audit(&self, asked: Asked, failure: Option<String>) -> Option<AuditEntry> {
        let note = std::mem::take(&mut *self.note.lock().unwrap_or_else(PoisonError::into_inner));
        if note.is_no_change {
            return None;
        }
        Some(AuditEntry {
            actor: self.actor(),
            address: self.address.map_or_else(|| "-".to_owned(), |address| address.to_string()),
            action: asked.action.to_owned(),
            target: note.target.unwrap_or(asked.path),
            result: failure.unwrap_or_else(|| note.result.unwrap_or("ok").to_owned()),
            request: asked.request,
        })
    }

    fn with_note(&self, change: impl FnOnce(&mut Note)) {
        change(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What was asked for.
pub(super) struct Asked {
    /// The rule's word for it.
    pub(super) action: &'static str,
    /// The path.
    pub(super) path: String,
    /// The request's id.
    pub(super) request: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // There is none on a route that is open to anybody: a handler that wants one must have a rule.
        let missing = || ApiError::new(ProblemCode::Forbidden, "nobody may do this");
        parts.extensions.get::<Self>().cloned().ok_or_else(missing)
    }
}
