//! Rows as they are in the database, to be written again in plain SQL: the floor writes what was really written.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::mysql::{MySqlArguments, MySqlConnection, MySqlPool, MySqlRow};
use sqlx::{Arguments, AssertSqlSafe, Column, Row, TypeInfo};

use crate::Result;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// NULL.
    Null,
    /// Of any integer column.
    Int(i64),
    /// Of any other column. A text too: the server calls those with a `_bin` collation binary.
    Bytes(Vec<u8>),
}

impl Cell {
    /// What is in it; empty if that is NULL or a number.
    pub fn bytes(&self) -> &[u8] {
        if let Self::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// As [`Cell::bytes`], as text.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(self.bytes())?)
    }
}

/// Rows with the names of their columns.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The columns, in the order of the cells.
    pub columns: Vec<String>,
    /// The rows.
    pub cells: Vec<Vec<Cell>>,
}

impl Rows {
    /// Reads what `sql` selects.
    pub async fn read(pool: &MySqlPool, sql: &str) -> Result<Self> {
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(pool).await?;
        let columns =
            rows.first().map_or_else(Vec::new, |r| r.columns().iter().map(|c| c.name().to_owned()).collect());
        let cells: Result<Vec<Vec<Cell>>> = rows.iter().map(read_row).collect();
        Ok(Self { columns, cells: cells? })
    }

    /// Where a column is.
    pub fn column(&self, name: &str) -> Result<usize> {
        let found = self.columns.iter().position(|c| c == name);
        found.ok_or_else(|| format!("there is no column {name}").into())
    }
}

fn read_row(row: &MySqlRow) -> Result<Vec<Cell>> {
    let cell = |(i, column): (usize, &sqlx::mysql::MySqlColumn)| -> Result<Cell> {
        Ok(if column.type_info().name().contains("INT") {
            row.try_get_unchecked::<Option<i64>, _>(i)?.map_or(Cell::Null, Cell::Int)
        } else {
            row.try_get_unchecked::<Option<Vec<u8>>, _>(i)?.map_or(Cell::Null, Cell::Bytes)
        })
    };
    row.columns().iter().enumerate().map(cell).collect()
}

/// Adds a value to a statement's.
pub fn bind(args: &mut MySqlArguments, cell: &Cell) -> Result<()> {
    match cell {
        Cell::Null => args.add(None::<i64>)?,
        Cell::Int(value) => args.add(*value)?,
        Cell::Bytes(bytes) => args.add(bytes.as_slice())?,
    }
    Ok(())
}

/// Prepares each statement's text once, whatever the number of times that it is run.
#[derive(Debug, Default)]
pub struct Texts(HashMap<(String, usize), Arc<str>>);

impl Texts {
    /// The text for `n` rows or members, made by `make` the first time.
    pub fn of(&mut self, name: &str, n: usize, make: impl FnOnce() -> String) -> Arc<str> {
        self.0.entry((name.to_owned(), n)).or_insert_with(|| make().into()).clone()
    }

    /// One INSERT of all these rows, prepared and kept by the connection.
    pub async fn insert(
        &mut self,
        connection: &mut MySqlConnection,
        table: &str,
        columns: &[String],
        rows: &[&[Cell]],
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let sql = self.of(table, rows.len(), || {
            let row = format!("({})", marks(columns.len()));
            format!(
                "INSERT INTO {table} ({}) VALUES {}",
                columns.join(", "),
                vec![row; rows.len()].join(", ")
            )
        });
        let mut args = MySqlArguments::default();
        for cell in rows.iter().copied().flatten() {
            bind(&mut args, cell)?;
        }
        execute(connection, sql, args).await?;
        Ok(())
    }
}

/// `?, ?, ?`
pub fn marks(n: usize) -> String {
    vec!["?"; n].join(", ")
}

/// Runs a prepared statement, which the connection keeps.
pub async fn execute(connection: &mut MySqlConnection, sql: Arc<str>, args: MySqlArguments) -> Result<u64> {
    let done = sqlx::query_with(AssertSqlSafe(sql), args).persistent(true).execute(connection).await?;
    Ok(done.rows_affected())
}
