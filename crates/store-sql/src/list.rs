//! Lists of jobs by filters. No index knows most filters, so a list is looked for in stretches of the ids, from the
//! newest on, each longer than the one before: the newest page, which nearly everybody asks for, costs little, and no
//! call looks at more than its bound. Each stretch's end is found in an index alone.

use async_trait::async_trait;
use yard_domain::{JobId, TeamId};
use yard_ports::store::{JobFilter, JobPage, JobRow};

use crate::backend::{Dialect, Row, TxKind, Value};
use crate::fault::Fault;
use crate::hot;
use crate::past::{ID_SKEW_US, first_id};
use crate::reader::{Reader, id_value};
use crate::rows::{JOB_COLUMNS, JobRecord};
use crate::sql;
use crate::tx::{Conn, Work};

/// Jobs in the first stretch.
const STRETCH: u32 = 1_000;
/// How much longer each stretch is than the one before.
const GROWTH: u32 = 4;

/// How long after its id was made a job may have been accepted and still be found by the time: a submission may wait
/// for the database.
const ID_LATE_US: i64 = 24 * 3_600 * 1_000_000;

/// See [`yard_ports::store::Store::jobs`].
pub(crate) struct ListJobs<'a> {
    pub(crate) filter: &'a JobFilter,
}

#[async_trait]
impl Work for ListJobs<'_> {
    type Out = JobPage;
    const NAME: &'static str = "jobs";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<JobPage, Fault> {
        let filter = self.filter;
        if shows_nothing(filter) {
            return Ok(JobPage::default());
        }
        let (terms, args) = terms(filter, conn.dialect);
        let mut search = Search { terms, args, before: upper(filter), jobs: Vec::new() };
        let limit = filter.limit as usize;
        // Without a term, or with a cluster's index, the limit is the bound.
        if search.terms.is_empty() || filter.cluster.is_some() {
            search.stretch(conn, filter, None).await?;
            return Ok(search.page(limit, None));
        }
        let (mut left, mut length) = (filter.scan_max.max(1), STRETCH);
        loop {
            length = length.min(left);
            let end = stretch_end(conn, filter, search.before, length).await?;
            search.stretch(conn, filter, end).await?;
            left -= length;
            if search.jobs.len() > limit || end.is_none() || left == 0 {
                return Ok(search.page(limit, end));
            }
            search.before = end;
            length = length.saturating_mul(GROWTH);
        }
    }
}

struct Search {
    /// The conditions that are looked at row by row.
    terms: Vec<String>,
    args: Vec<Value>,
    /// Only older ones are left.
    before: Option<JobId>,
    jobs: Vec<JobRow>,
}

impl Search {
    /// Adds what fits from `before` down to `end`, itself included; one more than the limit, to know that there is more.
    async fn stretch(
        &mut self,
        conn: &mut Conn,
        filter: &JobFilter,
        end: Option<JobId>,
    ) -> Result<(), Fault> {
        let (mut terms, mut args) = range(filter, self.before);
        if let Some(end) = end {
            terms.push("id >= ?".to_owned());
            args.push(id_value(end));
        }
        terms.extend(self.terms.iter().cloned());
        args.extend(self.args.iter().cloned());
        let wanted = (filter.limit as usize + 1).saturating_sub(self.jobs.len());
        args.push(Value::Int(i64::try_from(wanted).unwrap_or(i64::MAX)));
        let index = conn.dialect.index(index_of(filter));
        let condition =
            if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
        let sql = format!(
            "SELECT {JOB_COLUMNS}, idem_key, name, created_us FROM jobs{index}{condition} ORDER BY id DESC LIMIT ?"
        );
        for row in conn.rows(sql, args).await? {
            self.jobs.push(read_row(row)?);
        }
        Ok(())
    }

    /// What was found, and where to go on: after the last job of a full page, else where the search has ended.
    fn page(mut self, limit: usize, end: Option<JobId>) -> JobPage {
        if self.jobs.len() > limit {
            self.jobs.truncate(limit);
            let next = self.jobs.last().map(|row| row.lifecycle.id);
            return JobPage { jobs: self.jobs, next };
        }
        JobPage { jobs: self.jobs, next: end }
    }
}

/// The oldest of the next `length` jobs; `None` if there are not so many.
async fn stretch_end(
    conn: &mut Conn,
    filter: &JobFilter,
    before: Option<JobId>,
    length: u32,
) -> Result<Option<JobId>, Fault> {
    let (terms, mut args) = range(filter, before);
    args.push(length.saturating_sub(1).into());
    let sql = hot::list_end(conn.dialect, index_of(filter), &terms.join(" AND "));
    let row = conn.rows(sql, args).await?.pop();
    row.map(|row| Reader::new("jobs", row).job_id("id")).transpose()
}

/// Whether whoever asks sees no team that is asked for: not even how far its jobs go is for them.
fn shows_nothing(filter: &JobFilter) -> bool {
    let Some(among) = &filter.among else { return false };
    filter.team.as_ref().map_or(among.is_empty(), |team| !among.contains(team))
}

/// The team whose jobs alone can be in the list.
fn one_team(filter: &JobFilter) -> Option<&TeamId> {
    filter.team.as_ref().or(match filter.among.as_deref() {
        Some([only]) => Some(only),
        _ => None,
    })
}

fn index_of(filter: &JobFilter) -> &'static str {
    match (&filter.cluster, one_team(filter)) {
        (Some(_), _) => "jobs_cluster",
        (None, Some(_)) => "jobs_team",
        (None, None) => "PRIMARY",
    }
}

/// From where on ids are of interest: the page before, or the time.
fn upper(filter: &JobFilter) -> Option<JobId> {
    let by_time = filter.accepted_before.map(|at| first_id(at.as_micros().saturating_add(ID_SKEW_US)));
    match (filter.before, by_time) {
        (Some(page), Some(time)) => Some(page.min(time)),
        (page, time) => page.or(time),
    }
}

/// The conditions that the index knows.
fn range(filter: &JobFilter, before: Option<JobId>) -> (Vec<String>, Vec<Value>) {
    let (mut terms, mut args) = (Vec::new(), Vec::<Value>::new());
    let mut put = |term: &str, arg: Value| {
        terms.push(term.to_owned());
        args.push(arg);
    };
    match (&filter.cluster, one_team(filter)) {
        (Some(cluster), _) => put("cluster = ?", cluster.as_str().into()),
        (None, Some(team)) => put("team = ?", team.as_str().into()),
        (None, None) => {}
    }
    if let Some(before) = before {
        put("id < ?", id_value(before));
    }
    if let Some(at) = filter.accepted_from {
        put("id >= ?", id_value(first_id(at.as_micros().saturating_sub(ID_LATE_US))));
    }
    (terms, args)
}

/// The conditions that are looked at row by row.
fn terms(filter: &JobFilter, dialect: Dialect) -> (Vec<String>, Vec<Value>) {
    let (mut terms, mut args) = (Vec::new(), Vec::<Value>::new());
    if let (Some(team), Some(_)) = (one_team(filter), &filter.cluster) {
        terms.push("team = ?".to_owned());
        args.push(team.as_str().into());
    }
    // A single one stands above, and so does one that was asked for: it is among them.
    if let Some(teams) = filter.among.as_ref().filter(|teams| teams.len() > 1 && filter.team.is_none()) {
        terms.push(format!("team IN ({})", sql::marks(teams.len())));
        let teams: Vec<Value> = teams.iter().map(|team| team.as_str().into()).collect();
        sql::pad(&mut args, &teams);
    }
    if !filter.states.is_empty() {
        terms.push(format!("state IN ({})", sql::marks(filter.states.len())));
        let codes: Vec<Value> = filter.states.iter().map(|s| s.code().into()).collect();
        sql::pad(&mut args, &codes);
    }
    for (term, at) in [("created_us >= ?", filter.accepted_from), ("created_us < ?", filter.accepted_before)]
    {
        if let Some(at) = at {
            terms.push(term.to_owned());
            args.push(at.as_micros().into());
        }
    }
    if let Some(prefix) = &filter.key_prefix {
        terms.push("SUBSTR(idem_key, 1, ?) = ?".to_owned());
        args.extend([
            Value::Int(i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX)),
            prefix.as_str().into(),
        ]);
    }
    if let Some(name) = &filter.name {
        terms.push("name = ?".to_owned());
        args.push(name.as_str().into());
    }
    let wanted = filter.metadata.iter().map(|pair| ("document", "metadata", pair));
    for (column, part, (name, value)) in
        wanted.chain(filter.labels.iter().map(|pair| ("selector", "labels", pair)))
    {
        terms.push(format!("{} = ?", dialect.json_text(column)));
        args.extend([format!("$.{part}.\"{name}\"").into(), value.as_str().into()]);
    }
    (terms, args)
}

fn read_row(row: Row) -> Result<JobRow, Fault> {
    let mut r = Reader::new("jobs", row);
    let record = JobRecord::take(&mut r)?;
    let (key, name) = (r.text("idem_key")?, r.text("name")?);
    let created_at = r.time("created_us")?;
    Ok(JobRow { lifecycle: record.job, key, name, created_at, since: record.since })
}
