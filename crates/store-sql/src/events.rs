//! Events: the lines of history of all jobs in one order (docs/adr/0008-events.md).
//!
//! A transaction that writes history leaves one row with references to its lines ([`announce`]). [`GivePositions`] numbers what
//! is committed, holding one row of meta from before it looks until its commit; so positions appear in their order,
//! whatever the order of the commits before, and each line gets one.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use yard_domain::{JobId, TeamId, Timestamp};
use yard_ports::store::{EventPage, JobEvent};

use crate::backend::{TxKind, Value};
use crate::catalog;
use crate::fault::Fault;
use crate::reader::{Reader, id_value};
use crate::rejections;
use crate::sql::{self, Set};
use crate::tx::{Conn, Work};
use crate::views::read_line;

/// Bytes of a reference to a line.
const REF_BYTES: usize = 20;

/// Lines looked up in one statement.
const LOOKUP_MAX: usize = 128;

/// Which line.
pub(crate) type Ref = (JobId, u32);

/// Stands for the number of a line where there is none.
pub(crate) const REJECTION: u32 = 0;

/// Leaves word of lines of history (each begins with job and seq) in the transaction that writes them.
pub(crate) async fn announce(conn: &mut Conn, lines: &[Vec<Value>], now: Timestamp) -> Result<(), Fault> {
    announce_with(conn, lines, &[], now).await
}

/// As [`announce`], with verdicts that made no job. They are told from lines by the number 0, which no line has; who does
/// not know them finds no line and passes them over.
pub(crate) async fn announce_with(
    conn: &mut Conn,
    lines: &[Vec<Value>],
    rejections: &[JobId],
    now: Timestamp,
) -> Result<(), Fault> {
    if lines.is_empty() && rejections.is_empty() {
        return Ok(());
    }
    let mut refs = Vec::with_capacity(lines.len() * REF_BYTES);
    for line in lines {
        match line.as_slice() {
            [Value::Bytes(job), Value::Int(seq), ..] if job.len() == 16 => {
                refs.extend_from_slice(job);
                refs.extend_from_slice(&u32::try_from(*seq).unwrap_or(u32::MAX).to_be_bytes());
            }
            other => return Err(Fault::inconsistent("history", &"(new)", &format!("{:?}", other.first()))),
        }
    }
    for id in rejections {
        refs.extend_from_slice(id.0.as_bytes());
        refs.extend_from_slice(&REJECTION.to_be_bytes());
    }
    let sql = "INSERT INTO event_batches (at_us, line_refs) VALUES (?, ?)";
    conn.run(sql, vec![now.as_micros().into(), Value::Bytes(refs)]).await?;
    Ok(())
}

fn read_refs(r: &mut Reader) -> Result<Vec<Ref>, Fault> {
    let bytes = r.bytes("line_refs")?;
    let one = |chunk: &[u8]| {
        let (job, seq) = chunk.split_at_checked(16)?;
        Some((JobId(Uuid::from_slice(job).ok()?), u32::from_be_bytes(seq.try_into().ok()?)))
    };
    let refs: Option<Vec<Ref>> = bytes.chunks(REF_BYTES).map(one).collect();
    refs.ok_or_else(|| r.bad("line_refs", &"not 20 bytes a line"))
}

/// Whether there are lines without a position.
pub(crate) struct AnyWithoutPosition;

#[async_trait]
impl Work for AnyWithoutPosition {
    type Out = bool;
    const NAME: &'static str = "events_waiting";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<bool, Fault> {
        let index = conn.dialect.index("event_batches_pos");
        let sql = format!("SELECT id FROM event_batches{index} WHERE last_pos IS NULL LIMIT 1");
        Ok(!conn.rows(sql, Vec::new()).await?.is_empty())
    }
}

/// See [`yard_ports::store::Store::number_events`].
pub(crate) struct GivePositions {
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for GivePositions {
    type Out = Option<u64>;
    const NAME: &'static str = "number_events";

    async fn run(&self, conn: &mut Conn) -> Result<Option<u64>, Fault> {
        let lock = conn.dialect.skip_locked();
        let sql = format!("SELECT number FROM meta WHERE name = 'event_pos'{lock}");
        // Somebody else is at it.
        let Some(row) = conn.rows(sql, Vec::new()).await?.pop() else { return Ok(None) };
        let before = Reader::new("meta", row).int("number")?;
        // In the order of the ids, in which those of one job are in the order of its history: each of them is made while
        // the job's row is locked.
        let index = conn.dialect.index("event_batches_pos");
        let sql = format!(
            "SELECT id, line_refs FROM event_batches{index} WHERE last_pos IS NULL ORDER BY id LIMIT ?"
        );
        let (mut at, mut rows) = (before, Vec::new());
        for row in conn.rows(sql, vec![self.limit.into()]).await? {
            let mut r = Reader::new("event_batches", row);
            let id = r.int("id")?;
            at += i64::try_from(read_refs(&mut r)?.len()).unwrap_or(0);
            rows.push((Value::Int(id), vec![Set::To("last_pos", at.into())]));
        }
        if rows.is_empty() {
            return Ok(Some(0));
        }
        sql::update(conn, "event_batches", "id", rows).await?;
        conn.run("UPDATE meta SET number = ? WHERE name = 'event_pos'", vec![at.into()]).await?;
        Ok(Some(u64::try_from(at - before).unwrap_or(0)))
    }
}

/// The last position that was given.
pub(crate) async fn head(conn: &mut Conn) -> Result<u64, Fault> {
    let row = conn.rows("SELECT number FROM meta WHERE name = 'event_pos'", Vec::new()).await?.pop();
    row.map_or(Ok(0), |row| Reader::new("meta", row).small("number"))
}

/// See [`yard_ports::store::Store::event_head`].
pub(crate) struct Head;

#[async_trait]
impl Work for Head {
    type Out = u64;
    const NAME: &'static str = "event_head";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<u64, Fault> {
        head(conn).await
    }
}

/// See [`yard_ports::store::Store::events`].
pub(crate) struct Events {
    pub(crate) after: u64,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Events {
    type Out = EventPage;
    const NAME: &'static str = "events";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<EventPage, Fault> {
        let Numbered { refs, missed } = numbered(conn, self.after, self.limit).await?;
        let upto = refs.last().map_or(self.after, |(pos, _)| *pos);
        let mut lines = lines(conn, refs.iter().map(|(_, line)| *line)).await?;
        // What is not there any more is deleted with its job.
        let found = refs.into_iter().filter_map(|(pos, line)| Some((pos, lines.remove(&line)?)));
        let events = found.map(|(pos, event)| JobEvent { pos, ..event }).collect();
        Ok(EventPage { events, upto, missed })
    }
}

/// What has a position after the one asked for.
pub(crate) struct Numbered {
    /// By position.
    pub(crate) refs: Vec<(u64, Ref)>,
    /// Whether some of it has been deleted.
    pub(crate) missed: bool,
}

/// Up to `limit` references after a position.
pub(crate) async fn numbered(conn: &mut Conn, after: u64, limit: u32) -> Result<Numbered, Fault> {
    let index = conn.dialect.index("event_batches_pos");
    let sql = format!(
        "SELECT last_pos, line_refs FROM event_batches{index} WHERE last_pos > ? ORDER BY last_pos LIMIT ?"
    );
    let args = vec![i64::try_from(after).unwrap_or(i64::MAX).into(), limit.into()];
    let rows = conn.rows(sql, args).await?;
    if rows.is_empty() {
        // Everything that came after is deleted by now.
        return Ok(Numbered { refs: Vec::new(), missed: head(conn).await? > after });
    }
    let (mut refs, mut missed) = (Vec::new(), false);
    for (nth, row) in rows.into_iter().enumerate() {
        let mut r = Reader::new("event_batches", row);
        let last: u64 = r.small("last_pos")?;
        let batch = read_refs(&mut r)?;
        let first = (last + 1).saturating_sub(batch.len() as u64);
        missed |= nth == 0 && first > after + 1;
        refs.extend((first..).zip(batch).filter(|(pos, _)| *pos > after));
        if refs.len() >= limit as usize {
            break;
        }
    }
    refs.truncate(limit as usize);
    Ok(Numbered { refs, missed })
}

/// These lines, with their jobs' teams and metadata.
pub(crate) async fn lines(
    conn: &mut Conn,
    refs: impl Iterator<Item = Ref>,
) -> Result<HashMap<Ref, JobEvent>, Fault> {
    let refs: Vec<Ref> = refs.filter(|(_, seq)| *seq != REJECTION).collect();
    let mut found = HashMap::with_capacity(refs.len());
    for refs in refs.chunks(LOOKUP_MAX) {
        let n = refs.len().next_power_of_two();
        let padded = refs.iter().chain(std::iter::repeat(&refs[refs.len() - 1])).take(n);
        let args = padded.flat_map(|(job, seq)| [id_value(*job), (*seq).into()]).collect();
        let condition = vec!["(h.job_id = ? AND h.seq = ?)"; n].join(" OR ");
        let metadata = conn.dialect.json_object("j.document", "$.metadata");
        let sql = format!(
            "SELECT h.job_id, h.seq, h.at_us, h.actor, h.from_state, h.to_state, h.code, h.data, j.team, j.idem_key, \
             {metadata} \
             FROM history AS h JOIN jobs AS j ON j.id = h.job_id WHERE {condition}"
        );
        for mut row in conn.rows(sql, args).await? {
            let rest = row.split_off(8);
            let line = read_line(row)?;
            let mut r = Reader::new("jobs", rest);
            let team: TeamId = r.coded("team", |t| t.parse().ok())?;
            let key = r.text("idem_key")?;
            let metadata: BTreeMap<String, String> =
                r.opt_coded("document", |text| serde_json::from_str(text).ok())?.unwrap_or_default();
            found.insert((line.job, line.seq), JobEvent { pos: 0, team, line, key, metadata });
        }
    }
    Ok(found)
}

/// See [`yard_ports::store::Store::trim_events`].
pub(crate) struct Trim {
    pub(crate) keep: Duration,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Trim {
    type Out = u32;
    const NAME: &'static str = "trim_events";

    async fn run(&self, conn: &mut Conn) -> Result<u32, Fault> {
        let now = catalog::now(conn).await?;
        let keep = i64::try_from(self.keep.as_micros()).unwrap_or(i64::MAX);
        let before = now.as_micros().saturating_sub(keep);
        // By positions, from the first: whoever goes on reading sees the gap.
        let index = conn.dialect.index("event_batches_pos");
        let sql = format!(
            "SELECT id, at_us FROM event_batches{index} WHERE last_pos > 0 ORDER BY last_pos LIMIT ?"
        );
        let mut old = Vec::new();
        for row in conn.rows(sql, vec![self.limit.into()]).await? {
            let mut r = Reader::new("event_batches", row);
            let (id, at) = (r.int("id")?, r.int("at_us")?);
            if at >= before {
                break;
            }
            old.push(Value::Int(id));
        }
        rejections::trim(conn, before, self.limit).await?;
        sql::delete(conn, "event_batches", "id", &old).await
    }
}
