//! API tokens: rows of `api_tokens`.

use std::time::Duration;

use async_trait::async_trait;
use yard_domain::{ApiToken, Grant, Role, SecretHash, TeamId, TeamScope, Timestamp, TokenId};
use yard_ports::access::{NewToken, TokenAsOf};
use yard_ports::store::StoreError;

use crate::backend::{Row, SqlError, TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

const COLUMNS: &str =
    "id, name, role, teams, secret_hash, created_by, created_us, expires_us, last_used_us, revoked_us";

/// How a scope is kept: the teams' names with blanks between; NULL is every team.
fn write_scope(scope: &TeamScope) -> Option<String> {
    match scope {
        TeamScope::All => None,
        TeamScope::Only(teams) => Some(teams.iter().map(TeamId::as_str).collect::<Vec<_>>().join(" ")),
    }
}

fn read_scope(text: &str) -> Option<TeamScope> {
    text.split_whitespace().map(|team| team.parse().ok()).collect::<Option<_>>().map(TeamScope::Only)
}

fn read(row: Row) -> Result<ApiToken, Fault> {
    let mut r = Reader::new("api_tokens", row);
    let (id, name) = (r.coded("id", |t| t.parse().ok())?, r.text("name")?);
    let role = r.coded("role", Role::from_code)?;
    let teams = r.opt_coded("teams", read_scope)?.unwrap_or(TeamScope::All);
    let grant = Grant::new(role, teams).map_err(|e| r.bad("teams", &e))?;
    let secret = r.bytes("secret_hash")?.try_into().map_err(|_| r.bad("secret_hash", &"not 32 bytes"))?;
    Ok(ApiToken {
        id,
        name,
        grant,
        secret: SecretHash(secret),
        created_by: r.text("created_by")?,
        created_at: r.time("created_us")?,
        expires_at: r.opt_time("expires_us")?,
        last_used_at: r.opt_time("last_used_us")?,
        revoked_at: r.opt_time("revoked_us")?,
    })
}

async fn find(conn: &mut Conn, id: &TokenId) -> Result<Option<ApiToken>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM api_tokens WHERE id = ?");
    conn.rows(sql, vec![id.as_str().into()]).await?.pop().map(read).transpose()
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// See [`yard_ports::access::AccessStore::create_token`].
pub(crate) struct CreateToken<'a> {
    pub(crate) token: &'a NewToken,
}

#[async_trait]
impl Work for CreateToken<'_> {
    type Out = ApiToken;
    const NAME: &'static str = "create_token";

    async fn run(&self, conn: &mut Conn) -> Result<ApiToken, Fault> {
        let token = self.token;
        if let Some(known) = find(conn, &token.id).await? {
            // An answer that got lost on its way is asked for again.
            return if known.secret == token.secret {
                Ok(known)
            } else {
                let reason = format!("there is already a token {}", token.id);
                Err(StoreError::Rejected { context: Self::NAME, reason }.into())
            };
        }
        let now = catalog::now(conn).await?;
        let expires = token.lifetime.map(|span| now.as_micros().saturating_add(micros(span)));
        let sql = "INSERT INTO api_tokens (id, name, role, teams, secret_hash, created_by, created_us, expires_us) \
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        let args = vec![
            token.id.as_str().into(),
            fit_chars(&token.name, 200).into(),
            token.grant.role().code().into(),
            write_scope(token.grant.teams()).into(),
            Value::Bytes(token.secret.0.to_vec()),
            fit_chars(&token.created_by, 300).into(),
            now.as_micros().into(),
            expires.into(),
        ];
        conn.run(sql, args).await.map_err(|fault| match fault {
            Fault::Sql(SqlError::DuplicateKey(_)) => Fault::Redo("token_known"),
            other => other,
        })?;
        find(conn, &token.id)
            .await?
            .ok_or_else(|| Fault::inconsistent("api_tokens", &token.id, &"is not there"))
    }
}

/// See [`yard_ports::access::AccessStore::token`].
pub(crate) struct FindToken<'a> {
    pub(crate) id: &'a TokenId,
}

#[async_trait]
impl Work for FindToken<'_> {
    type Out = Option<TokenAsOf>;
    const NAME: &'static str = "token";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Option<TokenAsOf>, Fault> {
        // The time in the same statement: one journey less for a request.
        let now = conn.dialect.now();
        let sql = format!("SELECT {COLUMNS}, {now} FROM api_tokens WHERE id = ?");
        let Some(mut row) = conn.rows(sql, vec![self.id.as_str().into()]).await?.pop() else {
            return Ok(None);
        };
        let now = match row.pop() {
            Some(Value::Int(now)) => Timestamp::from_micros(now),
            _ => return Err(Fault::inconsistent("api_tokens", self.id, &"no time")),
        };
        Ok(Some(TokenAsOf { token: read(row)?, now }))
    }
}

/// See [`yard_ports::access::AccessStore::tokens`].
pub(crate) struct ListTokens<'a> {
    pub(crate) after: Option<&'a TokenId>,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for ListTokens<'_> {
    type Out = Vec<ApiToken>;
    const NAME: &'static str = "tokens";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<ApiToken>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM api_tokens WHERE id > ? ORDER BY id LIMIT ?");
        let after = self.after.map_or("", TokenId::as_str);
        conn.rows(sql, vec![after.into(), self.limit.into()]).await?.into_iter().map(read).collect()
    }
}

/// See [`yard_ports::access::AccessStore::revoke_token`].
pub(crate) struct RevokeToken<'a> {
    pub(crate) id: &'a TokenId,
}

#[async_trait]
impl Work for RevokeToken<'_> {
    type Out = Option<ApiToken>;
    const NAME: &'static str = "revoke_token";

    async fn run(&self, conn: &mut Conn) -> Result<Option<ApiToken>, Fault> {
        let now = conn.dialect.now();
        let sql = format!("UPDATE api_tokens SET revoked_us = {now} WHERE id = ? AND revoked_us IS NULL");
        conn.run(sql, vec![self.id.as_str().into()]).await?;
        find(conn, self.id).await
    }
}

/// See [`yard_ports::access::AccessStore::touch_token`].
pub(crate) struct TouchToken<'a> {
    pub(crate) id: &'a TokenId,
    pub(crate) apart: Duration,
}

#[async_trait]
impl Work for TouchToken<'_> {
    type Out = ();
    const NAME: &'static str = "touch_token";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let now = conn.dialect.now();
        let sql = format!(
            "UPDATE api_tokens SET last_used_us = {now} WHERE id = ? AND (last_used_us IS NULL OR last_used_us <= {now} - ?)"
        );
        conn.run(sql, vec![self.id.as_str().into(), micros(self.apart).into()]).await.map(drop)
    }
}

/// Tokens that ended long ago, by their own time or because they were revoked.
pub(crate) struct PurgeTokens {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for PurgeTokens {
    type Out = u32;
    const NAME: &'static str = "purge_tokens";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let before = catalog::now(conn).await?.as_micros().saturating_sub(micros(self.keep));
        let sql = "SELECT id FROM api_tokens WHERE expires_us < ? OR revoked_us < ? LIMIT ?";
        let args = vec![before.into(), before.into(), self.limit.into()];
        let ids: Vec<Value> = conn.rows(sql, args).await?.into_iter().flatten().collect();
        sql::delete(conn, "api_tokens", "id", &ids).await
    }
}
