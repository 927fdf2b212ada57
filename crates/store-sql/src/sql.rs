//! Building statements of a few repeating sizes, so that prepared ones are found again: lists are padded and
//! batches are cut to powers of two. Only names of tables and columns are ever written into a statement; data
//! is always bound.

use std::collections::BTreeMap;

use crate::backend::Value;
use crate::fault::Fault;
use crate::tx::Conn;

/// Most rows or list members in one statement.
pub(crate) const BATCH: usize = 256;

/// Most bytes of values in one INSERT of several rows, far below every server's packet limit.
const INSERT_BYTES_MAX: usize = 1 << 20;

/// Up to how many distinct updates of the same columns are sent as statements of their own.
const VARIANTS_MAX: usize = 3;

/// `?, ?, ?` for a list of at least `n`, padded to a power of two.
pub(crate) fn marks(n: usize) -> String {
    let n = n.max(1).next_power_of_two();
    let mut list = "?, ".repeat(n);
    list.truncate(list.len() - 2);
    list
}

/// Appends `values` to `args`, padded like [`marks`] by repeating the last one.
pub(crate) fn pad(args: &mut Vec<Value>, values: &[Value]) {
    args.extend_from_slice(values);
    let n = values.len().max(1).next_power_of_two();
    let last = values.last().cloned().unwrap_or(Value::Null);
    args.extend(std::iter::repeat_n(last, n - values.len()));
}

/// Inserts rows in the given order. `head` is everything before the column list: `INSERT INTO jobs`.
pub(crate) async fn insert(
    conn: &mut Conn,
    head: &str,
    columns: &[&str],
    rows: Vec<Vec<Value>>,
) -> Result<(), Fault> {
    let mut one = "?, ".repeat(columns.len());
    one.truncate(one.len() - 2);
    let columns = columns.join(", ");
    let mut rows = rows.into_iter().peekable();
    let mut pending: Vec<Vec<Value>> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next() {
        bytes += row.iter().map(Value::size).sum::<usize>();
        pending.push(row);
        if rows.peek().is_some() && pending.len() < BATCH && bytes < INSERT_BYTES_MAX {
            continue;
        }
        bytes = 0;
        let mut batch = std::mem::take(&mut pending).into_iter();
        while batch.len() > 0 {
            let n = 1 << batch.len().ilog2();
            let mut sql = format!("{head} ({columns}) VALUES ({one})");
            for _ in 1..n {
                sql.push_str(", (");
                sql.push_str(&one);
                sql.push(')');
            }
            let args = batch.by_ref().take(n).flatten().collect();
            conn.run(sql, args).await?;
        }
    }
    Ok(())
}

/// Deletes rows of `table` by `key`. Answers how many keys there were.
pub(crate) async fn delete(
    conn: &mut Conn,
    table: &'static str,
    key: &'static str,
    ids: &[Value],
) -> Result<u32, Fault> {
    for ids in ids.chunks(BATCH) {
        let mut args = Vec::new();
        pad(&mut args, ids);
        conn.run(format!("DELETE FROM {table} WHERE {key} IN ({})", marks(ids.len())), args).await?;
    }
    Ok(u32::try_from(ids.len()).unwrap_or(u32::MAX))
}

/// What one UPDATE does to one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    /// Gives it this value.
    To(&'static str, Value),
    /// Adds to it.
    Add(&'static str, i64),
}

/// Which columns an update changes, and whether by adding.
type Columns = Vec<(&'static str, bool)>;

impl Set {
    fn column(&self) -> (&'static str, bool) {
        match self {
            Self::To(column, _) => (column, false),
            Self::Add(column, _) => (column, true),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::To(_, value) => value.clone(),
            Self::Add(_, by) => Value::Int(*by),
        }
    }
}

/// Updates rows of `table` by `key`, each with its own changes, in as few statements as may be: rows that change
/// the same columns to the same values share one; where values differ from row to row, a CASE by key sets them.
/// Answers how many rows there were to update.
pub(crate) async fn update(
    conn: &mut Conn,
    table: &'static str,
    key: &'static str,
    rows: Vec<(Value, Vec<Set>)>,
) -> Result<u64, Fault> {
    let mut by_columns: BTreeMap<Columns, BTreeMap<Vec<Set>, Vec<Value>>> = BTreeMap::new();
    for (id, sets) in rows {
        let columns = sets.iter().map(Set::column).collect();
        by_columns.entry(columns).or_default().entry(sets).or_default().push(id);
    }
    let mut matched = 0;
    for variants in by_columns.into_values() {
        if variants.len() <= VARIANTS_MAX {
            for (sets, ids) in variants {
                for ids in ids.chunks(BATCH) {
                    matched += update_alike(conn, table, key, &sets, ids).await?;
                }
            }
        } else {
            let rows: Vec<(Value, Vec<Set>)> = variants
                .into_iter()
                .flat_map(|(s, ids)| ids.into_iter().map(move |id| (id, s.clone())))
                .collect();
            for rows in rows.chunks(BATCH) {
                matched += update_unlike(conn, table, key, rows).await?;
            }
        }
    }
    Ok(matched)
}

async fn update_alike(
    conn: &mut Conn,
    table: &'static str,
    key: &'static str,
    sets: &[Set],
    ids: &[Value],
) -> Result<u64, Fault> {
    let list: Vec<String> = sets.iter().map(|s| assignment(s.column(), "?")).collect();
    let mut args: Vec<Value> = sets.iter().map(Set::value).collect();
    pad(&mut args, ids);
    let index = conn.dialect.index("PRIMARY");
    let sql = format!("UPDATE {table}{index} SET {} WHERE {key} IN ({})", list.join(", "), marks(ids.len()));
    conn.run(sql, args).await
}

async fn update_unlike(
    conn: &mut Conn,
    table: &'static str,
    key: &'static str,
    rows: &[(Value, Vec<Set>)],
) -> Result<u64, Fault> {
    let Some((_, first)) = rows.first() else { return Ok(0) };
    let cases = rows.len().next_power_of_two();
    let (mut list, mut args) = (Vec::new(), Vec::new());
    for (i, set) in first.iter().enumerate() {
        let value = set.value();
        if rows.iter().all(|(_, sets)| sets[i].value() == value) {
            list.push(assignment(set.column(), "?"));
            args.push(value);
            continue;
        }
        let case = format!("CASE {key}{} END", " WHEN ? THEN ?".repeat(cases));
        list.push(assignment(set.column(), &case));
        for (id, sets) in rows.iter().chain(rows.last().into_iter().cycle()).take(cases) {
            args.extend([id.clone(), sets[i].value()]);
        }
    }
    let ids: Vec<Value> = rows.iter().map(|(id, _)| id.clone()).collect();
    pad(&mut args, &ids);
    let index = conn.dialect.index("PRIMARY");
    let sql = format!("UPDATE {table}{index} SET {} WHERE {key} IN ({})", list.join(", "), marks(ids.len()));
    conn.run(sql, args).await
}

fn assignment((column, adds): (&'static str, bool), value: &str) -> String {
    if adds { format!("{column} = {column} + {value}") } else { format!("{column} = {value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_padded_to_powers_of_two_with_the_last_value() {
        assert_eq!(marks(1), "?");
        assert_eq!(marks(3), "?, ?, ?, ?");
        let mut args = vec![Value::Int(9)];
        pad(&mut args, &[Value::Int(1), Value::Int(2), Value::Int(3)]);
        assert_eq!(args, [9, 1, 2, 3, 3].map(Value::Int));
    }
}
