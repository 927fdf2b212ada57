//! What people and programs ask: jobs, histories, counts; and their wish to stop a job.

use async_trait::async_trait;
use serde_json::Value as Json;
use yard_domain::event::{Actor, Event};
use yard_domain::job::QueueOrder;
use yard_domain::{AttemptNumber, HistoryLine, JobId, Shape, StateName, TeamId};
use yard_ports::store::{AttemptView, JobView, QueueStats, StopAnswer, WaitNote};

use crate::backend::{Dialect, Row, TxKind};
use crate::catalog;
use crate::codec::read_by_cluster;
use crate::fault::Fault;
use crate::moves::{Moves, lock_jobs};
use crate::reader::{Reader, id_value};
use crate::rows::{CLOCK_BACKOFF, JOB_COLUMNS, JobRecord};
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// See [`yard_ports::store::Store::job`].
pub(crate) struct FindJob {
    pub(crate) id: JobId,
}

#[async_trait]
impl Work for FindJob {
    type Out = Option<JobView>;
    const NAME: &'static str = "job";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<Option<JobView>, Fault> {
        let sql = format!("SELECT {JOB_COLUMNS}, {} FROM jobs WHERE id = ?", view_columns(conn.dialect));
        let Some(row) = conn.rows(sql, vec![id_value(self.id)]).await?.pop() else { return Ok(None) };
        view(conn, row).await.map(Some)
    }
}

/// What a view needs of a job's row beside [`JOB_COLUMNS`], and the time.
pub(crate) fn view_columns(dialect: Dialect) -> String {
    format!("idem_key, document, shape, queue_order, created_us, ended_us, {}", dialect.now())
}

/// A job, whole, from its row of [`JOB_COLUMNS`] and [`view_columns`].
pub(crate) async fn view(conn: &mut Conn, row: Row) -> Result<JobView, Fault> {
    let mut r = Reader::new("jobs", row);
    let record = JobRecord::take(&mut r)?;
    let mut view = JobView {
        key: r.text("idem_key")?,
        document: r.text("document")?,
        shape: Shape(r.int("shape")?),
        order: QueueOrder(r.int("queue_order")?),
        created_at: r.time("created_us")?,
        since: record.since,
        ended_at: r.opt_time("ended_us")?,
        read_at: r.time("now")?,
        attempts: attempts(conn, &record).await?,
        waiting: None,
        lifecycle: record.job,
    };
    if view.lifecycle.state.name() == StateName::Queued {
        view.waiting = wait_note(conn, &view.lifecycle.team, view.shape).await?;
    }
    Ok(view)
}

/// Those that ended, and the open one, which is in the job's row.
async fn attempts(conn: &mut Conn, record: &JobRecord) -> Result<Vec<AttemptView>, Fault> {
    let open = record.job.state.open_attempt();
    let ended = record.job.attempts > u32::from(open.is_some());
    let mut list = if ended { ended_attempts(conn, record.id()).await? } else { Vec::new() };
    if let Some(open) = open {
        list.push(AttemptView {
            number: open.number,
            cluster: open.cluster.clone(),
            placed_at: record.stages.placed.unwrap_or(record.since),
            launched_at: record.stages.launched,
            started_at: record.stages.started,
            ended_at: None,
            end: None,
            message: None,
            exit_code: None,
        });
    }
    Ok(list)
}

async fn ended_attempts(conn: &mut Conn, id: JobId) -> Result<Vec<AttemptView>, Fault> {
    let sql = "SELECT job_id, number, cluster, placed_us, launched_us, started_us, ended_us, end_code, message, \
               exit_code FROM attempts WHERE job_id = ? ORDER BY number";
    let rows = conn.rows(sql, vec![id_value(id)]).await?;
    rows.into_iter().map(read_attempt).collect()
}

fn read_attempt(row: Row) -> Result<AttemptView, Fault> {
    let mut r = Reader::new("attempts", row);
    r.job_id("job_id")?;
    let view = AttemptView {
        number: AttemptNumber(r.small("number")?),
        cluster: r.coded("cluster", |t| t.parse().ok())?,
        placed_at: r.time("placed_us")?,
        launched_at: r.opt_time("launched_us")?,
        started_at: r.opt_time("started_us")?,
        ended_at: r.opt_time("ended_us")?,
        end: r.opt_text("end_code")?,
        message: r.opt_text("message")?,
        exit_code: None,
    };
    let exit_code = r.opt_int("exit_code")?.map(i32::try_from).transpose();
    Ok(AttemptView { exit_code: exit_code.map_err(|_| r.bad("exit_code", &"out of range"))?, ..view })
}

async fn wait_note(conn: &mut Conn, team: &TeamId, shape: Shape) -> Result<Option<WaitNote>, Fault> {
    let sql =
        "SELECT team, code, message, clusters, expected_us FROM wait_notes WHERE team = ? AND shape = ?";
    let Some(row) = conn.rows(sql, vec![team.as_str().into(), shape.0.into()]).await?.pop() else {
        return Ok(None);
    };
    let mut r = Reader::new("wait_notes", row);
    r.text("team")?;
    Ok(Some(WaitNote {
        team: team.clone(),
        shape,
        code: r.text("code")?,
        message: r.text("message")?,
        clusters: r.coded("clusters", read_by_cluster)?,
        expected_start: r.opt_time("expected_us")?,
    }))
}

/// See [`yard_ports::store::Store::history`].
pub(crate) struct FindHistory {
    pub(crate) id: JobId,
    pub(crate) after_seq: u32,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for FindHistory {
    type Out = Vec<HistoryLine>;
    const NAME: &'static str = "history";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<HistoryLine>, Fault> {
        let sql = "SELECT job_id, seq, at_us, actor, from_state, to_state, code, data FROM history \
                   WHERE job_id = ? AND seq > ? ORDER BY seq LIMIT ?";
        let args = vec![id_value(self.id), self.after_seq.into(), self.limit.into()];
        conn.rows(sql, args).await?.into_iter().map(read_line).collect()
    }
}

pub(crate) fn read_line(row: Row) -> Result<HistoryLine, Fault> {
    let mut r = Reader::new("history", row);
    let (job, seq) = (r.job_id("job_id")?, r.small("seq")?);
    let (at, actor) = (r.time("at_us")?, Actor(r.text("actor")?));
    let from = r.opt_coded("from_state", StateName::from_code)?;
    let to = r.coded("to_state", StateName::from_code)?;
    let code = r.text("code")?;
    let data: Json = r.coded("data", |text| serde_json::from_str(text).ok())?;
    let event = Event::read(&code, &data).map_err(|e| r.bad("data", &format!("line {seq}: {e}")))?;
    Ok(HistoryLine { job, seq, at, actor, from, to, event })
}

/// See [`yard_ports::store::Store::request_stop`].
pub(crate) struct RequestStop<'a> {
    pub(crate) id: JobId,
    pub(crate) by: &'a str,
    pub(crate) reason: &'a str,
}

#[async_trait]
impl Work for RequestStop<'_> {
    type Out = StopAnswer;
    const NAME: &'static str = "request_stop";

    async fn run(&self, conn: &mut Conn) -> Result<StopAnswer, Fault> {
        let mut held = lock_jobs(conn, [self.id]).await?;
        let Some(job) = held.get_mut(&self.id) else { return Ok(StopAnswer::NoSuchJob) };
        let state = job.record.job.state.name();
        if state.is_end() {
            return Ok(StopAnswer::AlreadyEnded(state));
        }
        let Some(wish) = job.record.job.request_stop(fit_chars(self.reason, 2_000)) else {
            return Ok(StopAnswer::Requested);
        };
        let now = catalog::now(conn).await?;
        let mut moves = Moves::new(format!("user:{}", fit_chars(self.by, 200)), now);
        moves.apply(job, &wish)?;
        let mut answer = StopAnswer::Requested;
        if let Some(end) = job.record.job.stop_queued() {
            moves.apply(job, &end)?;
            answer = StopAnswer::Stopped;
        }
        if let Some(open) = job.record.job.state.open_attempt() {
            Moves::wish(conn, [(&open.cluster, self.id)]).await?;
        }
        moves.write(conn, held.values()).await?;
        Ok(answer)
    }
}

/// See [`yard_ports::store::Store::stats`].
pub(crate) struct Stats;

#[async_trait]
impl Work for Stats {
    type Out = QueueStats;
    const NAME: &'static str = "stats";
    const KIND: TxKind = TxKind::Snapshot;

    async fn run(&self, conn: &mut Conn) -> Result<QueueStats, Fault> {
        let mut stats = QueueStats::default();
        let (ready, clock, cluster) = (
            conn.dialect.index("jobs_ready"),
            conn.dialect.index("jobs_clock"),
            conn.dialect.index("jobs_cluster"),
        );
        // The two that may be many are counted in the index alone.
        let (queued, claimed) = (StateName::Queued.code(), StateName::Claimed.code());
        let statements = [
            format!("SELECT team, '{queued}', COUNT(*) FROM jobs{ready} WHERE ready = 1 GROUP BY team"),
            format!("SELECT team, '{claimed}', COUNT(*) FROM jobs{ready} WHERE ready = 0 GROUP BY team"),
            format!(
                "SELECT team, state, COUNT(*) FROM jobs{clock} WHERE clock_kind = {CLOCK_BACKOFF} GROUP BY team, state"
            ),
            format!(
                "SELECT team, state, COUNT(*) FROM jobs{cluster} WHERE cluster IS NOT NULL GROUP BY team, state"
            ),
        ];
        for sql in statements {
            for row in conn.rows(sql, Vec::new()).await? {
                let mut r = Reader::new("jobs", row);
                let group = (r.coded("team", |t| t.parse().ok())?, r.coded("state", StateName::from_code)?);
                *stats.open.entry(group).or_default() += r.small::<u64>("count")?;
            }
        }
        Ok(stats)
    }
}
