//! Values to and from SQLite's, and its errors by what may be done about them.

use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteRow};
use sqlx::{Arguments, Decode, Row as _, TypeInfo, ValueRef};
use yard_store_sql::{Row, SqlError, Value};

/// SQLITE_BUSY and SQLITE_LOCKED, without what the extended codes add in the higher bits.
const BUSY: [i64; 2] = [5, 6];
/// SQLITE_IOERR, SQLITE_FULL, SQLITE_CANTOPEN: the file can't be used now.
const UNUSABLE: [i64; 3] = [10, 13, 14];

pub(crate) fn bind(args: Vec<Value>) -> Result<SqliteArguments, SqlError> {
    let mut bound = SqliteArguments::default();
    bound.reserve(args.len(), 0);
    for value in args {
        let added = match value {
            Value::Null => bound.add(None::<i64>),
            Value::Int(value) => bound.add(value),
            Value::Text(value) => bound.add(value),
            Value::Bytes(value) => bound.add(value),
        };
        added.map_err(|e| SqlError::Refused(e.to_string()))?;
    }
    Ok(bound)
}

pub(crate) fn read(row: &SqliteRow) -> Result<Row, SqlError> {
    (0..row.len())
        .map(|i| {
            let value = row.try_get_raw(i).map_err(|e| classify(&e))?;
            if value.is_null() {
                return Ok(Value::Null);
            }
            let kind = value.type_info();
            let decoded = match kind.name() {
                "INTEGER" | "BOOLEAN" => <i64 as Decode<Sqlite>>::decode(value).map(Value::Int),
                "TEXT" => <String as Decode<Sqlite>>::decode(value).map(Value::Text),
                "BLOB" => <Vec<u8> as Decode<Sqlite>>::decode(value).map(Value::Bytes),
                other => Err(format!("column {i} holds a {other}").into()),
            };
            decoded.map_err(|e| SqlError::Refused(e.to_string()))
        })
        .collect()
}

pub(crate) fn classify(error: &sqlx::Error) -> SqlError {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(e) => {
            let code = e.code().and_then(|code| code.parse::<i64>().ok()).unwrap_or(0);
            if e.is_unique_violation() {
                SqlError::DuplicateKey(text)
            } else if BUSY.contains(&(code & 0xff)) {
                SqlError::LockTimeout(text)
            } else if UNUSABLE.contains(&(code & 0xff)) {
                SqlError::Connection(text)
            } else {
                SqlError::Refused(text)
            }
        }
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => SqlError::Connection(text),
        _ => SqlError::Refused(text),
    }
}
