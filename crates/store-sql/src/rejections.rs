//! Verdicts that made no job, as events: written with the verdict, read by who pushes, deleted with the events' positions.

use std::collections::HashMap;

use uuid::Uuid;
use yard_domain::{Arrival, FieldError, JobId, TeamId, Timestamp};
use yard_ports::push::{NoJob, Rejection};

use crate::backend::Value;
use crate::codec::{read_errors, write_errors};
use crate::fault::Fault;
use crate::reader::{Reader, id_value};
use crate::sql;
use crate::text::fit_chars;
use crate::tx::Conn;

/// Longest key kept, in characters: longer ones are errors, and stand in the receipt.
const KEY_CHARS: usize = 300;

/// What there is to push of a verdict; nothing if no team of that name could ever be, or it came through a door of other
/// teams: who may send there could fill what waits for this one.
pub(crate) fn of(arrival: &Arrival, verdict: NoJob, now: Timestamp) -> Option<Rejection> {
    let foreign = |errors: &[FieldError]| errors.iter().any(|e| e.code == FieldError::TEAM_NOT_ALLOWED);
    if matches!(&verdict, NoJob::Rejected(errors) if foreign(errors)) {
        return None;
    }
    let team: TeamId = arrival.key.team.parse().ok()?;
    Some(Rejection {
        id: JobId(Uuid::new_v4()),
        team,
        key: fit_chars(&arrival.key.key, KEY_CHARS).to_owned(),
        at: now,
        verdict,
        source: fit_chars(&arrival.source, 200).to_owned(),
        message_id: fit_chars(&arrival.message_id, 200).to_owned(),
    })
}

pub(crate) async fn write(conn: &mut Conn, rejections: &[Rejection]) -> Result<(), Fault> {
    let row = |rejection: &Rejection| {
        let (job, errors) = match &rejection.verdict {
            NoJob::Rejected(errors) => (Value::Null, Value::from(write_errors(errors))),
            NoJob::Conflict(job) => (id_value(*job), Value::Null),
        };
        vec![
            id_value(rejection.id),
            rejection.at.as_micros().into(),
            rejection.team.as_str().into(),
            rejection.key.as_str().into(),
            job,
            errors,
            rejection.source.as_str().into(),
            rejection.message_id.as_str().into(),
        ]
    };
    let columns = ["id", "at_us", "team", "idem_key", "job_id", "errors", "source", "message_id"];
    sql::insert(conn, "INSERT INTO rejections", &columns, rejections.iter().map(row).collect()).await
}

/// These, as far as they are still there.
pub(crate) async fn find(
    conn: &mut Conn,
    ids: impl Iterator<Item = JobId>,
) -> Result<HashMap<JobId, Rejection>, Fault> {
    let ids: Vec<Value> = ids.map(id_value).collect();
    let mut found = HashMap::with_capacity(ids.len());
    for ids in ids.chunks(sql::BATCH) {
        let mut args = Vec::new();
        sql::pad(&mut args, ids);
        let index = conn.dialect.index("PRIMARY");
        let sql = format!(
            "SELECT id, at_us, team, idem_key, job_id, errors, source, message_id FROM rejections{index} WHERE id IN ({})",
            sql::marks(ids.len())
        );
        for row in conn.rows(sql, args).await? {
            let rejection = read(&mut Reader::new("rejections", row))?;
            found.insert(rejection.id, rejection);
        }
    }
    Ok(found)
}

fn read(r: &mut Reader) -> Result<Rejection, Fault> {
    let (id, at) = (r.job_id("id")?, r.time("at_us")?);
    let (team, key) = (r.coded("team", |t| t.parse().ok())?, r.text("idem_key")?);
    let job = r.opt_bytes("job_id")?;
    let verdict = match (job, r.opt_coded("errors", read_errors)?) {
        (Some(job), None) => {
            let job = Uuid::from_slice(&job).map_err(|_| r.bad("job_id", &"not 16 bytes"))?;
            NoJob::Conflict(JobId(job))
        }
        (None, Some(errors)) => NoJob::Rejected(errors),
        _ => return Err(r.bad("errors", &"must be there if and only if there is no job_id")),
    };
    Ok(Rejection { id, team, key, at, verdict, source: r.text("source")?, message_id: r.text("message_id")? })
}

/// Deletes up to `limit` of those that are older.
pub(crate) async fn trim(conn: &mut Conn, before_us: i64, limit: u32) -> Result<(), Fault> {
    let sql = "SELECT id FROM rejections WHERE at_us < ? ORDER BY at_us LIMIT ?";
    let rows = conn.rows(sql, vec![before_us.into(), limit.into()]).await?;
    let old: Vec<Value> = rows.into_iter().flatten().collect();
    sql::delete(conn, "rejections", "id", &old).await.map(drop)
}
