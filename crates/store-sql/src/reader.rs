//! Reading a row column by column, with errors that name table, row and column.

use std::fmt::Display;

use uuid::Uuid;
use yard_domain::{JobId, Timestamp};

use crate::backend::{Row, Value};
use crate::fault::Fault;

/// Takes a row's values in the order of the statement's columns.
pub(crate) struct Reader {
    table: &'static str,
    key: String,
    values: std::vec::IntoIter<Value>,
}

impl Reader {
    /// A reader of `row`, which came from `table`.
    pub(crate) fn new(table: &'static str, row: Row) -> Self {
        let key = row.first().map_or_else(String::new, show_key);
        Self { table, key, values: row.into_iter() }
    }

    /// The error that this row's `column` does not fit.
    pub(crate) fn bad(&self, column: &str, problem: &dyn Display) -> Fault {
        Fault::inconsistent(self.table, &self.key, &format!("{column}: {problem}"))
    }

    pub(crate) fn opt_int(&mut self, column: &str) -> Result<Option<i64>, Fault> {
        match self.values.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Int(value)) => Ok(Some(value)),
            _ => Err(self.bad(column, &"not an integer")),
        }
    }

    pub(crate) fn int(&mut self, column: &str) -> Result<i64, Fault> {
        self.opt_int(column)?.ok_or_else(|| self.bad(column, &"is NULL"))
    }

    /// A whole number that fits the narrower type `T`.
    pub(crate) fn small<T: TryFrom<i64>>(&mut self, column: &str) -> Result<T, Fault> {
        let value = self.int(column)?;
        T::try_from(value).map_err(|_| self.bad(column, &"out of range"))
    }

    /// As [`Reader::small`], or NULL.
    pub(crate) fn opt_small<T: TryFrom<i64>>(&mut self, column: &str) -> Result<Option<T>, Fault> {
        let value = self.opt_int(column)?.map(T::try_from).transpose();
        value.map_err(|_| self.bad(column, &"out of range"))
    }

    pub(crate) fn flag(&mut self, column: &str) -> Result<bool, Fault> {
        Ok(self.int(column)? != 0)
    }

    pub(crate) fn time(&mut self, column: &str) -> Result<Timestamp, Fault> {
        self.int(column).map(Timestamp::from_micros)
    }

    pub(crate) fn opt_time(&mut self, column: &str) -> Result<Option<Timestamp>, Fault> {
        Ok(self.opt_int(column)?.map(Timestamp::from_micros))
    }

    pub(crate) fn opt_text(&mut self, column: &str) -> Result<Option<String>, Fault> {
        match self.values.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(value)) => Ok(Some(value)),
            Some(Value::Bytes(bytes)) => {
                String::from_utf8(bytes).map(Some).map_err(|_| self.bad(column, &"not UTF-8"))
            }
            _ => Err(self.bad(column, &"not a text")),
        }
    }

    pub(crate) fn text(&mut self, column: &str) -> Result<String, Fault> {
        self.opt_text(column)?.ok_or_else(|| self.bad(column, &"is NULL"))
    }

    /// A text that `read` understands.
    pub(crate) fn coded<T>(&mut self, column: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, Fault> {
        let text = self.text(column)?;
        read(&text).ok_or_else(|| self.bad(column, &format!("{text:?} is unknown")))
    }

    /// As [`Reader::coded`], or NULL.
    pub(crate) fn opt_coded<T>(
        &mut self,
        column: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Fault> {
        let Some(text) = self.opt_text(column)? else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| self.bad(column, &format!("{text:?} is unknown")))
    }

    pub(crate) fn opt_bytes(&mut self, column: &str) -> Result<Option<Vec<u8>>, Fault> {
        match self.values.next() {
            Some(Value::Null) => Ok(None),
            Some(Value::Bytes(value)) => Ok(Some(value)),
            Some(Value::Text(value)) => Ok(Some(value.into_bytes())),
            _ => Err(self.bad(column, &"not binary")),
        }
    }

    pub(crate) fn bytes(&mut self, column: &str) -> Result<Vec<u8>, Fault> {
        self.opt_bytes(column)?.ok_or_else(|| self.bad(column, &"is NULL"))
    }

    pub(crate) fn job_id(&mut self, column: &str) -> Result<JobId, Fault> {
        let bytes = self.bytes(column)?;
        Uuid::from_slice(&bytes).map(JobId).map_err(|_| self.bad(column, &"not 16 bytes"))
    }
}

/// How a job's id is bound.
pub(crate) fn id_value(id: JobId) -> Value {
    Value::Bytes(id.0.as_bytes().to_vec())
}

/// How ids are bound, in the order in which rows are locked, each once.
pub(crate) fn id_values(ids: impl IntoIterator<Item = JobId>) -> Vec<Value> {
    let ids: std::collections::BTreeSet<JobId> = ids.into_iter().collect();
    ids.into_iter().map(id_value).collect()
}

fn show_key(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Text(text) => text.clone(),
        Value::Bytes(bytes) => match Uuid::from_slice(bytes) {
            Ok(id) => id.to_string(),
            Err(_) => String::from_utf8_lossy(bytes).into_owned(),
        },
    }
}
