//! Why a transaction's work failed, before it is known whether it will be redone.

use std::fmt::Display;

use yard_ports::store::StoreError;

use crate::backend::{SqlError, TxKind};

/// The label of a cut connection.
pub(crate) const CONNECTION: &str = "connection";

/// A failure inside a transaction.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database's.
    Sql(SqlError),
    /// Ours, final.
    Store(StoreError),
    /// Somebody else was faster: redo with what is there now.
    Redo(&'static str),
}

impl From<SqlError> for Fault {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Fault {
    /// A row that does not fit the model.
    pub(crate) fn inconsistent(table: &'static str, row: &dyn Display, problem: &dyn Display) -> Self {
        Self::Store(StoreError::Inconsistent { table, row: row.to_string(), problem: problem.to_string() })
    }

    /// A stable code if the transaction may be redone as it is. After a cut connection it is not known whether a
    /// write was committed, so only what reads is redone.
    pub(crate) fn redo_code(&self, kind: TxKind) -> Option<&'static str> {
        match self {
            Self::Sql(SqlError::Connection(_)) if kind != TxKind::Write => Some(CONNECTION),
            Self::Sql(SqlError::Deadlock(_)) => Some("deadlock"),
            Self::Sql(SqlError::LockTimeout(_)) => Some("lock_timeout"),
            Self::Redo(code) => Some(code),
            Self::Sql(_) | Self::Store(_) => None,
        }
    }

    /// What the caller of the verb `name` is told.
    pub(crate) fn into_store_error(self, name: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sql(
                error @ (SqlError::Deadlock(_) | SqlError::LockTimeout(_) | SqlError::Connection(_)),
            ) => StoreError::Unavailable(error.to_string()),
            Self::Sql(error) => StoreError::Rejected { context: name, reason: error.to_string() },
            Self::Redo(code) => StoreError::Unavailable(format!("gave up on {name}: {code} again and again")),
        }
    }

    /// The result label of the transaction's count.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Sql(SqlError::Deadlock(_)) => "deadlock",
            Self::Sql(SqlError::LockTimeout(_)) => "lock_timeout",
            Self::Sql(SqlError::Connection(_)) => CONNECTION,
            Self::Sql(SqlError::DuplicateKey(_) | SqlError::Refused(_)) => "refused",
            Self::Store(StoreError::LeaseLost { .. }) => "lease_lost",
            Self::Store(_) => "error",
            Self::Redo(code) => code,
        }
    }
}
