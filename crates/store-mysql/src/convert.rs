//! Values to and from MySQL's, and its errors by what may be done about them.

use sqlx::mysql::{MySql, MySqlArguments, MySqlDatabaseError, MySqlRow};
use sqlx::{Arguments, Decode, Row as _, TypeInfo, ValueRef};
use yard_store_sql::{Row, SqlError, Value};

const DUPLICATE_KEY: u16 = 1062;
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const DEADLOCK: u16 = 1213;
/// MariaDB: the row has changed since the snapshot (innodb_snapshot_isolation).
const RECORD_CHANGED: u16 = 1020;
/// Too many connections, shutting down, killed, interrupted, read-only since a failover: another connection, or the
/// same question later, may do.
const GONE: [u16; 9] = [1040, 1053, 1290, 1317, 1792, 1836, 1927, 2006, 2013];

pub(crate) fn bind(args: Vec<Value>) -> Result<MySqlArguments, SqlError> {
    let mut bound = MySqlArguments::default();
    bound.reserve(args.len(), args.len() * 16);
    for value in args {
        let added = match value {
            Value::Null => Arguments::add(&mut bound, None::<i64>),
            Value::Int(value) => Arguments::add(&mut bound, value),
            Value::Text(value) => Arguments::add(&mut bound, value),
            Value::Bytes(value) => Arguments::add(&mut bound, value),
        };
        added.map_err(|e| SqlError::Refused(e.to_string()))?;
    }
    Ok(bound)
}

/// Integers as such; all else as its bytes, since a binary collation makes the server call text binary.
pub(crate) fn read(row: &MySqlRow) -> Result<Row, SqlError> {
    (0..row.len())
        .map(|i| {
            let value = row.try_get_raw(i).map_err(|e| classify(&e))?;
            if value.is_null() {
                return Ok(Value::Null);
            }
            let kind = value.type_info();
            let decoded = match kind.name() {
                "BIGINT" | "INT" | "SMALLINT" | "TINYINT" | "BOOLEAN" | "MEDIUMINT" => {
                    <i64 as Decode<MySql>>::decode(value).map(Value::Int)
                }
                "DECIMAL" | "FLOAT" | "DOUBLE" | "DATETIME" | "TIMESTAMP" | "DATE" | "TIME" => {
                    Err(format!("column {i} is a {}", kind.name()).into())
                }
                _ => <Vec<u8> as Decode<MySql>>::decode(value).map(Value::Bytes),
            };
            decoded.map_err(|e| SqlError::Refused(e.to_string()))
        })
        .collect()
}

pub(crate) fn classify(error: &sqlx::Error) -> SqlError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(e) => {
            match e.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number) {
                Some(DUPLICATE_KEY) => SqlError::DuplicateKey(text),
                Some(LOCK_WAIT_TIMEOUT) => SqlError::LockTimeout(text),
                Some(DEADLOCK | RECORD_CHANGED) => SqlError::Deadlock(text),
                Some(number) if GONE.contains(&number) => SqlError::Connection(text),
                _ => SqlError::Refused(text),
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::BeginFailed
        | sqlx::Error::WorkerCrashed => SqlError::Connection(text),
        _ => SqlError::Refused(text),
    }
}
