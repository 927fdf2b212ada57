//! The port for tokens and the audit log, handed to the transactions that do the work.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{ApiToken, AuditEntry, AuditLine, TokenId};
use yard_ports::access::{AccessStore, NewToken, TokenAsOf};
use yard_ports::store::StoreError;

use crate::store::SqlStore;
use crate::{audit_log, tokens};

#[async_trait]
impl AccessStore for SqlStore {
    async fn create_token(&self, token: &NewToken) -> Result<ApiToken, StoreError> {
        self.run(tokens::CreateToken { token }).await
    }

    async fn token(&self, id: &TokenId) -> Result<Option<TokenAsOf>, StoreError> {
        self.run(tokens::FindToken { id }).await
    }

    async fn tokens(&self, after: Option<&TokenId>, limit: u32) -> Result<Vec<ApiToken>, StoreError> {
        self.run(tokens::ListTokens { after, limit }).await
    }

    async fn revoke_token(&self, id: &TokenId) -> Result<Option<ApiToken>, StoreError> {
        self.run(tokens::RevokeToken { id }).await
    }

    async fn touch_token(&self, id: &TokenId, apart: Duration) -> Result<(), StoreError> {
        self.run(tokens::TouchToken { id, apart }).await
    }

    async fn write_audit(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.run(audit_log::WriteLine { entry }).await
    }

    async fn audit_log(&self, before: Option<i64>, limit: u32) -> Result<Vec<AuditLine>, StoreError> {
        self.run(audit_log::ListLines { before, limit }).await
    }

    async fn purge_access(&self, keep: Duration, limit: u32) -> Result<u32, StoreError> {
        let lines = self.run(audit_log::PurgeLines { keep, limit }).await?;
        let tokens = self.run(tokens::PurgeTokens { keep, limit }).await?;
        Ok(lines.saturating_add(tokens))
    }
}
