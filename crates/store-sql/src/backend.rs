//! What the verbs need of a database: transactions that run statements with bound values, and the few points
//! in which the dialects differ. Adapters (store-mysql, store-sqlite) fill it; nothing else does.

use std::borrow::Cow;

use async_trait::async_trait;
use thiserror::Error;

/// A value bound to a statement or read from a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// Any integer column.
    Int(i64),
    /// A text column.
    Text(String),
    /// A binary column. An adapter may also give text as its UTF-8 bytes.
    Bytes(Vec<u8>),
}

impl Value {
    /// Roughly how many bytes it takes on the wire.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// The values of one row, in the order of the statement's columns.
pub type Row = Vec<Value>;

/// Why a statement, or the way to the database, failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SqlError {
    /// The database chose this transaction as a deadlock's victim (MySQL 1213): it may be redone.
    #[error("deadlock: {0}")]
    Deadlock(String),
    /// A lock was not had in time (MySQL 1205, SQLite BUSY): the transaction may be redone.
    #[error("lock not had in time: {0}")]
    LockTimeout(String),
    /// The row's key is taken.
    #[error("duplicate key: {0}")]
    DuplicateKey(String),
    /// The database can't be reached or went away.
    #[error("connection: {0}")]
    Connection(String),
    /// The database refuses the statement.
    #[error("{0}")]
    Refused(String),
}

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxKind {
    /// Reads that each see what is committed by then.
    Read,
    /// Reads that all see one moment.
    Snapshot,
    /// Reads and writes, with row locks where the database has them.
    Write,
}

/// An open transaction. Dropped without [`Tx::commit`], it is rolled back.
#[async_trait]
pub trait Tx: Send {
    /// Runs a query.
    async fn rows(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<Vec<Row>, SqlError>;
    /// Runs a write; how many rows its condition *matched* (or it inserted).
    async fn run(&mut self, sql: Cow<'static, str>, args: Vec<Value>) -> Result<u64, SqlError>;
    /// Commits.
    async fn commit(self: Box<Self>) -> Result<(), SqlError>;
}

/// A database with the product's schema.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Opens a transaction.
    async fn begin(&self, kind: TxKind) -> Result<Box<dyn Tx>, SqlError>;
    /// The points in which databases differ.
    fn dialect(&self) -> Dialect;
}

/// Which dialect of SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL 8.0+, Aurora, MariaDB 10.6+.
    MySql,
    /// SQLite 3.42+: one writer at a time, so row locks are neither there nor needed.
    Sqlite,
}

impl Dialect {
    /// The database's clock as whole microseconds since the epoch. (SQLite's has milliseconds.)
    pub(crate) fn now(self) -> &'static str {
        match self {
            Self::MySql => "CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)",
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 + 0.5 AS INTEGER) * 1000",
        }
    }

    /// After a SELECT: its rows are ours until the end of the transaction.
    pub(crate) fn for_update(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE",
            Self::Sqlite => "",
        }
    }

    /// After a SELECT: as [`Dialect::for_update`], leaving out rows that are in other hands.
    pub(crate) fn skip_locked(self) -> &'static str {
        match self {
            Self::MySql => " FOR UPDATE SKIP LOCKED",
            Self::Sqlite => "",
        }
    }

    /// After a SELECT: nobody changes its rows until the end of the transaction. (The old spelling: MariaDB
    /// doesn't know FOR SHARE.)
    pub(crate) fn share(self) -> &'static str {
        match self {
            Self::MySql => " LOCK IN SHARE MODE",
            Self::Sqlite => "",
        }
    }

    /// After a table's name: use this index. Without it, an optimizer that finds a small table cheaper to scan
    /// would lock rows that are none of the statement's business.
    pub(crate) fn index(self, name: &'static str) -> String {
        match self {
            Self::MySql => format!(" FORCE INDEX ({name})"),
            Self::Sqlite if name == "PRIMARY" => String::new(),
            Self::Sqlite => format!(" INDEXED BY {name}"),
        }
    }

    /// The text at a path (an argument) of a JSON column.
    pub(crate) fn json_text(self, column: &str) -> String {
        match self {
            Self::MySql => format!("JSON_UNQUOTE(JSON_EXTRACT({column}, ?))"),
            Self::Sqlite => format!("json_extract({column}, ?)"),
        }
    }

    /// The text of the object at a path of a JSON column.
    pub(crate) fn json_object(self, column: &str, path: &'static str) -> String {
        match self {
            Self::MySql => format!("CAST(JSON_EXTRACT({column}, '{path}') AS CHAR)"),
            Self::Sqlite => format!("json_extract({column}, '{path}')"),
        }
    }

    /// The beginning of an INSERT that leaves rows alone whose key is taken.
    pub(crate) fn insert_ignore(self) -> &'static str {
        match self {
            Self::MySql => "INSERT IGNORE INTO ",
            Self::Sqlite => "INSERT OR IGNORE INTO ",
        }
    }
}
