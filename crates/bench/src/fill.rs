//! Many jobs quickly: those that the product has made, copied by INSERT … SELECT under fresh ids.

use crate::Result;
use crate::database::Scratch;
use crate::rows::Rows;

/// Milliseconds (of ids) and microseconds (of places in the queue) between two copies: more than the jobs that are
/// copied spread over, so that every copy lies behind the one before.
const APART: i64 = 3_600_000;

/// Adds `copies` copies of every job that is there now, each with the history of its original.
pub async fn copy_jobs(db: &Scratch, copies: usize) -> Result<()> {
    for table in ["jobs", "history"] {
        let base = format!("base_{table}");
        db.make_like(&base, table).await?;
        db.run(&format!("INSERT INTO {base} SELECT * FROM {table}")).await?;
    }
    let columns = Rows::read(&db.pool, "SELECT * FROM base_jobs LIMIT 1").await?.columns;
    for copy in 1..=copies {
        let shift = i64::try_from(copy)? * APART;
        let select: Vec<String> = columns.iter().map(|c| shifted(c, shift)).collect();
        let (columns, select) = (columns.join(", "), select.join(", "));
        db.run(&format!("INSERT INTO jobs ({columns}) SELECT {select} FROM base_jobs ORDER BY id")).await?;
        let id = fresh("job_id", shift);
        db.run(&format!(
            "INSERT INTO history (job_id, seq, at_us, actor, from_state, to_state, code, data) \
             SELECT {id}, seq, at_us, actor, from_state, to_state, code, data FROM base_history ORDER BY job_id, seq"
        ))
        .await?;
    }
    for table in ["base_jobs", "base_history"] {
        db.run(&format!("DROP TABLE {table}")).await?;
    }
    for table in ["jobs", "history"] {
        db.run(&format!("ANALYZE TABLE {table}")).await?;
    }
    Ok(())
}

fn shifted(column: &str, shift: i64) -> String {
    match column {
        "id" => fresh("id", shift),
        "queue_order" => format!("queue_order + {}", shift * 1_000),
        other => other.to_owned(),
    }
}

/// The first six bytes of an id are its time in milliseconds; the others, which are random, may be the same again.
fn fresh(column: &str, shift: i64) -> String {
    format!(
        "CONCAT(UNHEX(LPAD(HEX(CAST(CONV(HEX(LEFT({column}, 6)), 16, 10) AS UNSIGNED) + {shift}), 12, '0')), \
         SUBSTRING({column}, 7))"
    )
}
