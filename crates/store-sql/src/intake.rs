//! Intake: verdicts on submissions, with the jobs they make, in one transaction a batch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use yard_domain::event::Event;
use yard_domain::job::{NewJob, QueueOrder};
use yard_domain::retry::RetryCounts;
use yard_domain::{Arrival, JobId, JobState, Lifecycle, Receipt, SubmissionKey, Timestamp, Verdict};
use yard_ports::push::{NoJob, Rejection};

use crate::backend::{Dialect, SqlError, TxKind, Value};
use crate::codec::{read_errors, write_errors, write_request, write_selector};
use crate::doors;
use crate::events;
use crate::fault::Fault;
use crate::moves::HISTORY_COLUMNS;
use crate::packages;
use crate::reader::{Reader, id_value};
use crate::rejections;
use crate::rows::{JobRecord, Stages};
use crate::sql;
use crate::text::{fit_bytes, fit_chars};
use crate::tx::{Conn, Work};

/// How many conflicts of one key are kept.
const CONFLICTS_KEPT: usize = 10;

/// Keys looked up in one statement.
const KEYS_MAX: usize = 128;

const RECEIPT_COLUMNS: [&str; 9] =
    ["team", "idem_key", "verdict", "job_id", "body_hash", "errors", "source", "message_id", "at_us"];

/// A submission's key as stored.
type Key = (Vec<u8>, Vec<u8>);

pub(crate) fn stored_key(key: &SubmissionKey) -> Key {
    (fit_bytes(&key.team, 252), fit_bytes(&key.key, 800))
}

/// What is known under a key.
#[derive(Clone, Copy)]
enum Known {
    Accepted { job: JobId, body_hash: [u8; 32] },
    Rejected,
}

/// See [`yard_ports::store::Store::accept`].
///
/// Nearly all keys are new, so they are first taken to be: the receipts' primary key refuses the batch if one isn't,
/// and it is done again with a look at what is stored. Looking always would double the server's work for a batch.
pub(crate) struct Accept<'a> {
    arrivals: &'a [Arrival],
    slot: u8,
    look_first: AtomicBool,
}

impl<'a> Accept<'a> {
    pub(crate) fn new(arrivals: &'a [Arrival], slot: u8) -> Self {
        Self { arrivals, slot, look_first: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Work for Accept<'_> {
    type Out = Vec<Verdict>;
    const NAME: &'static str = "accept";

    async fn run(&self, conn: &mut Conn) -> Result<Vec<Verdict>, Fault> {
        let now = crate::catalog::now(conn).await?;
        let look = self.look_first.load(Ordering::Relaxed);
        let stored = if look { load(conn, self.arrivals).await? } else { BTreeMap::new() };
        let mut desk = Desk { now, known: stored.clone(), ..Desk::default() };
        let verdicts = self.arrivals.iter().map(|arrival| desk.judge(arrival)).collect();
        let written = desk.write(conn, &stored).await;
        if let Err(Fault::Redo(_)) = &written {
            self.look_first.store(true, Ordering::Relaxed);
        }
        written?;
        // Last, since others of its door wait for it until the commit.
        doors::note(conn, self.arrivals, self.slot).await?;
        Ok(verdicts)
    }
}

/// What is stored under the keys of these arrivals.
async fn load(conn: &mut Conn, arrivals: &[Arrival]) -> Result<BTreeMap<Key, Known>, Fault> {
    let mut keys: Vec<Key> = arrivals.iter().map(|a| stored_key(&a.key)).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut known = BTreeMap::new();
    for keys in keys.chunks(KEYS_MAX) {
        let n = keys.len().next_power_of_two();
        let padded = keys.iter().chain(std::iter::repeat(&keys[keys.len() - 1])).take(n);
        let args =
            padded.flat_map(|(team, key)| [Value::Bytes(team.clone()), Value::Bytes(key.clone())]).collect();
        let condition = match conn.dialect {
            Dialect::MySql => vec!["(team = ? AND idem_key = ?)"; n].join(" OR "),
            Dialect::Sqlite => format!("(team, idem_key) IN (VALUES {})", vec!["(?, ?)"; n].join(", ")),
        };
        let index = conn.dialect.index("PRIMARY");
        let sql = format!(
            "SELECT team, idem_key, verdict, job_id, body_hash FROM receipts{index} WHERE {condition}"
        );
        for row in conn.rows(sql, args).await? {
            let mut r = Reader::new("receipts", row);
            let key = (r.bytes("team")?, r.bytes("idem_key")?);
            known.insert(key, read_known(&mut r)?);
        }
    }
    Ok(known)
}

fn read_known(r: &mut Reader) -> Result<Known, Fault> {
    match r.text("verdict")?.as_str() {
        "rejected" => Ok(Known::Rejected),
        "accepted" => {
            let job = r.job_id("job_id")?;
            let body_hash = r.bytes("body_hash")?;
            let body_hash = body_hash.try_into().map_err(|_| r.bad("body_hash", &"not 32 bytes"))?;
            Ok(Known::Accepted { job, body_hash })
        }
        other => Err(r.bad("verdict", &format!("{other:?} is unknown"))),
    }
}

/// Judges the arrivals of a batch one after the other and collects what is to be written.
struct Desk<'a> {
    now: Timestamp,
    known: BTreeMap<Key, Known>,
    receipts: BTreeMap<Key, (&'a Arrival, Known)>,
    jobs: Vec<(JobRecord, &'a NewJob, &'a Arrival)>,
    conflicts: Vec<(Key, &'a Arrival)>,
    /// What may be pushed of verdicts without a job.
    rejections: Vec<Rejection>,
}

impl Default for Desk<'_> {
    fn default() -> Self {
        let now = Timestamp::from_micros(0);
        let (known, receipts) = (BTreeMap::new(), BTreeMap::new());
        Self { now, known, receipts, jobs: Vec::new(), conflicts: Vec::new(), rejections: Vec::new() }
    }
}

impl<'a> Desk<'a> {
    fn judge(&mut self, arrival: &'a Arrival) -> Verdict {
        let verdict = self.decide(arrival);
        let no_job = match &verdict {
            Verdict::Accepted { .. } => return verdict,
            Verdict::Rejected(errors) => NoJob::Rejected(errors.clone()),
            Verdict::Conflict { job } => NoJob::Conflict(*job),
        };
        self.rejections.extend(rejections::of(arrival, no_job, self.now));
        verdict
    }

    fn decide(&mut self, arrival: &'a Arrival) -> Verdict {
        let key = stored_key(&arrival.key);
        let given = arrival.content.as_ref().map_or(arrival.body_hash, |job| job.body_hash);
        if let Some(Known::Accepted { job, body_hash }) = self.known.get(&key).copied() {
            // The same body is the same submission, even if today's rules would refuse it.
            if body_hash == given {
                return Verdict::Accepted { job, first: false };
            }
            self.conflicts.push((key, arrival));
            return match &arrival.content {
                Ok(_) => Verdict::Conflict { job },
                Err(errors) => Verdict::Rejected(errors.clone()),
            };
        }
        let (known, verdict) = match &arrival.content {
            Ok(new) => {
                self.jobs.push((fresh(new, self.now), new, arrival));
                let known = Known::Accepted { job: new.id, body_hash: new.body_hash };
                (known, Verdict::Accepted { job: new.id, first: true })
            }
            Err(errors) => (Known::Rejected, Verdict::Rejected(errors.clone())),
        };
        self.known.insert(key.clone(), known);
        self.receipts.insert(key, (arrival, known));
        verdict
    }

    async fn write(self, conn: &mut Conn, stored: &BTreeMap<Key, Known>) -> Result<(), Fault> {
        let now = self.now;
        let mut fresh = Vec::new();
        for (key, (arrival, known)) in &self.receipts {
            let row = receipt_row(key, arrival, *known, now);
            if stored.contains_key(key) {
                replace_rejected(conn, row).await?;
            } else {
                fresh.push(row);
            }
        }
        // In the order of the keys, so that two batches with common keys wait for one another, not in a ring.
        sql::insert(conn, "INSERT INTO receipts", &RECEIPT_COLUMNS, fresh).await.map_err(
            |fault| match fault {
                Fault::Sql(SqlError::DuplicateKey(_)) => Fault::Redo("key_known"),
                other => other,
            },
        )?;
        let history: Vec<_> =
            self.jobs.iter().map(|(record, _, arrival)| first_line(record, arrival)).collect();
        let jobs: Vec<_> =
            self.jobs.iter().zip(0..).map(|((record, new, _), i)| job_row(record, new, now, i)).collect();
        if let Some((columns, _)) = jobs.first() {
            let columns = columns.clone();
            let rows = jobs.into_iter().map(|(_, row)| row).collect();
            sql::insert(conn, "INSERT INTO jobs", &columns, rows).await?;
        }
        let without_job: Vec<JobId> = self.rejections.iter().map(|rejection| rejection.id).collect();
        events::announce_with(conn, &history, &without_job, now).await?;
        sql::insert(conn, "INSERT INTO history", &HISTORY_COLUMNS, history).await?;
        rejections::write(conn, &self.rejections).await?;
        packages::keep_for(conn, self.jobs.iter().map(|(_, new, _)| &new.spec), now).await?;
        keep_conflicts(conn, &self.conflicts, now).await
    }
}

/// A job as it is at its acceptance.
fn fresh(new: &NewJob, now: Timestamp) -> JobRecord {
    let spec = &new.spec;
    let job = Lifecycle {
        id: new.id,
        team: new.team.clone(),
        request: spec.request.clone(),
        retry: spec.retry,
        queue_timeout: spec.timeouts.queue,
        run_timeout: spec.timeouts.run,
        version: 1,
        state: JobState::Queued { not_before: None, deadline: now.plus(spec.timeouts.queue) },
        stop_requested: false,
        preempt_requested: false,
        attempts: 0,
        counts: RetryCounts::default(),
    };
    JobRecord { job, since: now, stages: Stages::default(), stop: None, preempt: None }
}

fn receipt_row(key: &Key, arrival: &Arrival, known: Known, now: Timestamp) -> Vec<Value> {
    let (verdict, job, hash) = match known {
        Known::Accepted { job, body_hash } => ("accepted", id_value(job), body_hash),
        Known::Rejected => ("rejected", Value::Null, arrival.body_hash),
    };
    let errors = arrival.content.as_ref().err().map(|errors| write_errors(errors));
    vec![
        Value::Bytes(key.0.clone()),
        Value::Bytes(key.1.clone()),
        verdict.into(),
        job,
        Value::Bytes(hash.to_vec()),
        errors.into(),
        fit_chars(&arrival.source, 200).into(),
        fit_chars(&arrival.message_id, 200).into(),
        now.as_micros().into(),
    ]
}

/// Only a rejected receipt may be replaced; if it has become an accepted one meanwhile, the batch is redone.
async fn replace_rejected(conn: &mut Conn, row: Vec<Value>) -> Result<(), Fault> {
    let sets: Vec<String> = RECEIPT_COLUMNS[2..].iter().map(|column| format!("{column} = ?")).collect();
    let sets = sets.join(", ");
    let mut args = row;
    args.rotate_left(2);
    let sql = format!("UPDATE receipts SET {sets} WHERE team = ? AND idem_key = ? AND verdict = 'rejected'");
    match conn.run(sql, args).await? {
        1 => Ok(()),
        _ => Err(Fault::Redo("key_race")),
    }
}

/// `place` is the arrival's place in its batch: it keeps the order of arrival among jobs of one commit.
fn job_row(record: &JobRecord, new: &NewJob, now: Timestamp, place: i64) -> (Vec<&'static str>, Vec<Value>) {
    let (spec, job) = (&new.spec, &record.job);
    let order = QueueOrder::new(spec.priority, now.as_micros().saturating_add(place));
    let micros = |span: std::time::Duration| Value::Int(i64::try_from(span.as_micros()).unwrap_or(i64::MAX));
    let fixed = [
        ("id", id_value(job.id)),
        ("team", job.team.as_str().into()),
        ("shape", spec.shape().0.into()),
        ("queue_order", order.0.into()),
        ("version", job.version.into()),
        ("max_retries", job.retry.max_retries.into()),
        ("queue_timeout_us", micros(job.queue_timeout)),
        ("run_timeout_us", micros(job.run_timeout)),
        ("created_us", now.as_micros().into()),
        ("idem_key", fit_chars(&new.key, 200).into()),
        ("name", fit_chars(&spec.name, 300).into()),
        ("request", write_request(&spec.request).into()),
        ("selector", write_selector(&spec.clusters).into()),
        ("document", new.document.as_str().into()),
    ];
    fixed.into_iter().chain(record.columns(Some(now))).unzip()
}

fn first_line(record: &JobRecord, arrival: &Arrival) -> Vec<Value> {
    let actor = arrival
        .by
        .as_deref()
        .map_or_else(|| "intake".to_owned(), |by| format!("user:{}", fit_chars(by, 200)));
    let deadline = record.job.state.deadline().unwrap_or(record.since);
    let event = Event::Accepted { queue_deadline: deadline };
    vec![
        id_value(record.id()),
        Value::Int(1),
        record.since.as_micros().into(),
        actor.into(),
        Value::Null,
        record.job.state.name().code().into(),
        event.code().into(),
        event.data().to_string().into(),
    ]
}

async fn keep_conflicts(conn: &mut Conn, conflicts: &[(Key, &Arrival)], now: Timestamp) -> Result<(), Fault> {
    let columns = ["team", "idem_key", "body_hash", "message_id", "at_us"];
    let row = |((team, key), arrival): &(Key, &Arrival)| {
        vec![
            Value::Bytes(team.clone()),
            Value::Bytes(key.clone()),
            Value::Bytes(arrival.body_hash.to_vec()),
            fit_chars(&arrival.message_id, 200).into(),
            now.as_micros().into(),
        ]
    };
    sql::insert(conn, "INSERT INTO receipt_conflicts", &columns, conflicts.iter().map(row).collect()).await?;
    let mut keys: Vec<&Key> = conflicts.iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    keys.dedup();
    for (team, key) in keys {
        let sql = format!(
            "SELECT id FROM receipt_conflicts WHERE team = ? AND idem_key = ? ORDER BY id DESC \
             LIMIT {} OFFSET {CONFLICTS_KEPT}",
            sql::BATCH
        );
        let args = vec![Value::Bytes(team.clone()), Value::Bytes(key.clone())];
        let old: Vec<Value> = conn.rows(sql, args).await?.into_iter().flatten().collect();
        if !old.is_empty() {
            let mut args = Vec::new();
            sql::pad(&mut args, &old);
            let sql = format!("DELETE FROM receipt_conflicts WHERE id IN ({})", sql::marks(old.len()));
            conn.run(sql, args).await?;
        }
    }
    Ok(())
}

/// See [`yard_ports::store::Store::receipt`].
pub(crate) struct FindReceipt<'a> {
    pub(crate) key: &'a SubmissionKey,
}

#[async_trait]
impl Work for FindReceipt<'_> {
    type Out = Option<Receipt>;
    const NAME: &'static str = "receipt";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<Option<Receipt>, Fault> {
        let (team, key) = stored_key(self.key);
        let args = vec![Value::Bytes(team), Value::Bytes(key)];
        let sql = "SELECT idem_key, verdict, job_id, errors, source, message_id, at_us FROM receipts \
                   WHERE team = ? AND idem_key = ?";
        let Some(row) = conn.rows(sql, args.clone()).await?.pop() else { return Ok(None) };
        let mut r = Reader::new("receipts", row);
        r.bytes("idem_key")?;
        let verdict = r.text("verdict")?;
        let job = r.opt_bytes("job_id")?;
        let errors = r.opt_coded("errors", read_errors)?;
        let verdict = match (verdict.as_str(), job, errors) {
            ("accepted", Some(job), _) => {
                let job = uuid::Uuid::from_slice(&job).map_err(|_| r.bad("job_id", &"not 16 bytes"))?;
                Verdict::Accepted { job: JobId(job), first: true }
            }
            ("rejected", None, Some(errors)) => Verdict::Rejected(errors),
            _ => return Err(r.bad("verdict", &format!("{verdict:?} does not fit job_id and errors"))),
        };
        let (source, message_id) = (r.text("source")?, r.text("message_id")?);
        let at = r.time("at_us")?;
        let sql = "SELECT id, at_us, message_id FROM receipt_conflicts \
                   WHERE team = ? AND idem_key = ? ORDER BY id DESC";
        let mut conflicts = Vec::new();
        for row in conn.rows(sql, args).await? {
            let mut r = Reader::new("receipt_conflicts", row);
            r.int("id")?;
            conflicts.push((r.time("at_us")?, r.text("message_id")?));
        }
        Ok(Some(Receipt { key: self.key.clone(), verdict, source, message_id, at, conflicts }))
    }
}
