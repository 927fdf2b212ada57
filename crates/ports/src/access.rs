//! The store's verbs about tokens and the audit log.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{ApiToken, AuditEntry, AuditLine, Grant, SecretHash, Timestamp, TokenId};

use crate::store::StoreError;

/// A token to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
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
    /// How long it is good for; `None`: for ever.
    pub lifetime: Option<Duration>,
}

/// A token and the database's time at which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenAsOf {
    /// The token.
    pub token: ApiToken,
    /// When it was read.
    pub now: Timestamp,
}

/// Tokens, and who changed what.
#[async_trait]
pub trait AccessStore: Send + Sync {
    /// Keeps a token. Sent twice (the same id and secret), it is one; another one under the same id is refused.
    async fn create_token(&self, token: &NewToken) -> Result<ApiToken, StoreError>;
    /// One token, whether it is still good or not.
    async fn token(&self, id: &TokenId) -> Result<Option<TokenAsOf>, StoreError>;
    /// Tokens in the order of their ids, those after `after`.
    async fn tokens(&self, after: Option<&TokenId>, limit: u32) -> Result<Vec<ApiToken>, StoreError>;
    /// Revokes a token; one that was revoked before stays as it is. `None` if there is no such token.
    async fn revoke_token(&self, id: &TokenId) -> Result<Option<ApiToken>, StoreError>;
    /// Notes that a token was used, unless that was noted less than `apart` ago.
    async fn touch_token(&self, id: &TokenId, apart: Duration) -> Result<(), StoreError>;
    /// Writes a line of the audit log.
    async fn write_audit(&self, entry: &AuditEntry) -> Result<(), StoreError>;
    /// Lines of the audit log, newest first, those before `before`.
    async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditLine>, StoreError>;
    /// Deletes up to `limit` lines of the audit log that are older than `keep`, and as many tokens that ended or were
    /// revoked so long ago. Answers how many in all.
    async fn purge_access(&self, keep: Duration, limit: u32) -> Result<u32, StoreError>;
}
