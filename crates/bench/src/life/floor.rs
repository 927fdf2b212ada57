//! The floor of a job's life: what the round before it wrote, again, into tables like the real ones: for each step
//! of the life one UPDATE of the jobs and one INSERT of their lines of history a batch, accounts with the steps
//! that charge and refund, the attempt with the end. No reads, no locks taken early, no decisions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::mysql::{MySqlArguments, MySqlConnection};
use sqlx::{Arguments, AssertSqlSafe, Connection};
use tokio::task::JoinSet;
use yard_engine::settings::{DispatcherSettings, SchedulerSettings};

use crate::loops::IN_FLIGHT;
use crate::rows::{Cell, Rows, Texts, bind, execute, marks};
use crate::world::World;
use crate::{Failure, Result};

/// Tables of the floor and the real ones.
const TABLES: [(&str, &str); 4] = [
    ("floor_jobs", "jobs"),
    ("floor_history", "history"),
    ("floor_attempts", "attempts"),
    ("floor_accounts", "accounts"),
];

/// Keeps the queue as it is now.
pub async fn keep_queue(world: &World) -> Result<()> {
    for (floor, real) in TABLES {
        world.db.make_like(floor, real).await?;
        world.db.run(&format!("INSERT INTO {floor} SELECT * FROM {real}")).await?;
    }
    Ok(())
}

/// One step in the life of all jobs.
struct Step {
    /// Its line of history.
    code: &'static str,
    /// What it changes in the job's row.
    set: &'static str,
    /// Jobs moved in one transaction.
    batch: usize,
    /// Whether it charges or refunds.
    accounts: bool,
}

/// As the store writes them. Every `?` is a time.
fn steps() -> [Step; 5] {
    let (scheduler, dispatcher) = (SchedulerSettings::default(), DispatcherSettings::default());
    let claim = scheduler.placements_max as usize;
    [
        Step {
            code: "claimed",
            set: "state = 'claimed', since_us = ?, ready = 0, lease_token = ?",
            batch: claim,
            accounts: false,
        },
        Step {
            code: "placed",
            set: "state = 'placed', since_us = ?, ready = NULL, clock_kind = 4, clock_us = since_us, cluster = @cluster, \
                  pending_us = ?, deadline_us = ?, lease_token = NULL, attempts = 1, placed_us = ?",
            batch: scheduler.commit_batch,
            accounts: true,
        },
        Step {
            code: "launch_begun",
            set: "state = 'launching', since_us = ?, pending_us = NULL, deadline_us = ?, launched_us = ?",
            batch: IN_FLIGHT as usize,
            accounts: false,
        },
        Step {
            code: "started",
            set: "state = 'running', since_us = ?, deadline_us = ?, started_us = ?",
            batch: dispatcher.batch_max,
            accounts: false,
        },
        Step {
            code: "succeeded",
            set: "state = 'succeeded', since_us = ?, clock_kind = 3, clock_us = ?, cluster = NULL, deadline_us = NULL, \
                  placed_us = NULL, launched_us = NULL, started_us = NULL, ended_us = ?",
            batch: dispatcher.batch_max,
            accounts: true,
        },
    ]
}

/// What the round before it wrote.
struct Written {
    /// Ids and teams, in the order of acceptance.
    jobs: Vec<(Cell, String)>,
    history_columns: Vec<String>,
    /// Lines of each job, by code and id.
    history: HashMap<(String, Vec<u8>), Vec<Vec<Cell>>>,
    attempt_columns: Vec<String>,
    attempts: HashMap<Vec<u8>, Vec<Vec<Cell>>>,
    /// An account's value: every write of it is about as long.
    used: Cell,
}

async fn written(world: &World) -> Result<Written> {
    let pool = &world.db.pool;
    let jobs = Rows::read(pool, "SELECT id, team FROM jobs ORDER BY id").await?.cells.into_iter();
    let jobs = jobs.map(|row| Ok((row[0].clone(), row[1].text()?.to_owned())));
    let lines = Rows::read(pool, "SELECT * FROM history WHERE seq > 1 ORDER BY job_id, seq").await?;
    let (id, code) = (lines.column("job_id")?, lines.column("code")?);
    let mut history: HashMap<(String, Vec<u8>), Vec<Vec<Cell>>> = HashMap::new();
    for line in lines.cells {
        let key = (line[code].text()?.to_owned(), line[id].bytes().to_vec());
        history.entry(key).or_default().push(line);
    }
    let ended = Rows::read(pool, "SELECT * FROM attempts ORDER BY job_id, number").await?;
    let id = ended.column("job_id")?;
    let mut attempts: HashMap<Vec<u8>, Vec<Vec<Cell>>> = HashMap::new();
    for row in ended.cells {
        attempts.entry(row[id].bytes().to_vec()).or_default().push(row);
    }
    let used = Rows::read(pool, "SELECT used FROM accounts LIMIT 1").await?.cells;
    Ok(Written {
        jobs: jobs.collect::<Result<_>>()?,
        history_columns: lines.columns,
        history,
        attempt_columns: ended.columns,
        attempts,
        used: used.into_iter().flatten().next().ok_or("no account")?,
    })
}

/// Writes it all again; how long that took.
pub async fn run(world: &World, connections: usize) -> Result<Duration> {
    let written = Arc::new(written(world).await?);
    // A step that ours did not write is not written here either: jobs that end at once are never seen running.
    let happened = |s: &Step| written.history.keys().any(|(code, _)| code == s.code);
    let steps: Arc<Vec<Step>> = Arc::new(steps().into_iter().filter(happened).collect());
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for i in 0..connections {
        let mut connection = world.db.pool.acquire().await?;
        let isolation = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";
        sqlx::raw_sql(isolation).execute(&mut *connection).await?;
        let cluster = world.clusters[i % world.clusters.len()].to_string();
        workers.push((connection, Worker { cluster, texts: Texts::default() }));
    }
    let unit = steps.iter().map(|s| s.batch).max().unwrap_or(1);
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for (mut connection, mut worker) in workers {
        let (written, steps, next) = (written.clone(), steps.clone(), next.clone());
        tasks.spawn(async move {
            while let Some(jobs) = written.jobs.chunks(unit).nth(next.fetch_add(1, Ordering::Relaxed)) {
                for step in steps.iter() {
                    for batch in jobs.chunks(step.batch) {
                        worker.step(&mut connection, step, batch, &written).await?;
                    }
                }
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = began.elapsed();
    check(world).await?;
    Ok(took)
}

struct Worker {
    cluster: String,
    texts: Texts,
}

impl Worker {
    async fn step(
        &mut self,
        connection: &mut MySqlConnection,
        step: &Step,
        jobs: &[(Cell, String)],
        written: &Written,
    ) -> Result<()> {
        let mut tx = connection.begin().await?;
        self.update_jobs(&mut tx, step, jobs).await?;
        let key = |id: &Cell| (step.code.to_owned(), id.bytes().to_vec());
        let lines = jobs.iter().filter_map(|(id, _)| written.history.get(&key(id)));
        let lines: Vec<&[Cell]> = lines.flatten().map(Vec::as_slice).collect();
        self.texts.insert(&mut tx, "floor_history", &written.history_columns, &lines).await?;
        if step.code == "succeeded" {
            let attempts = jobs.iter().filter_map(|(id, _)| written.attempts.get(id.bytes()));
            let attempts: Vec<&[Cell]> = attempts.flatten().map(Vec::as_slice).collect();
            self.texts.insert(&mut tx, "floor_attempts", &written.attempt_columns, &attempts).await?;
        }
        if step.accounts {
            self.update_accounts(&mut tx, jobs, &written.used).await?;
        }
        Ok(tx.commit().await?)
    }

    async fn update_jobs(
        &mut self,
        tx: &mut MySqlConnection,
        step: &Step,
        jobs: &[(Cell, String)],
    ) -> Result<()> {
        let set = step.set.replace("@cluster", &format!("'{}'", self.cluster));
        let sql = self.texts.of(step.code, jobs.len(), || {
            format!("UPDATE floor_jobs SET version = version + 1, {set} WHERE id IN ({})", marks(jobs.len()))
        });
        let mut args = MySqlArguments::default();
        for _ in 0..step.set.matches('?').count() {
            args.add(1_795_386_645_000_000_i64)?;
        }
        for (id, _) in jobs {
            bind(&mut args, id)?;
        }
        let matched = execute(tx, sql, args).await?;
        if matched == jobs.len() as u64 {
            Ok(())
        } else {
            Err(format!("{matched} of {} updated", jobs.len()).into())
        }
    }

    async fn update_accounts(
        &mut self,
        tx: &mut MySqlConnection,
        jobs: &[(Cell, String)],
        used: &Cell,
    ) -> Result<()> {
        let teams: BTreeSet<&str> = jobs.iter().map(|(_, team)| team.as_str()).collect();
        let sql = self.texts.of("accounts", teams.len() + 1, || {
            format!("UPDATE floor_accounts SET used = ? WHERE owner IN ({})", marks(teams.len() + 1))
        });
        let mut args = MySqlArguments::default();
        bind(&mut args, used)?;
        args.add(format!("cluster:{}", self.cluster))?;
        for team in teams {
            args.add(format!("team:{team}"))?;
        }
        execute(tx, sql, args).await?;
        Ok(())
    }
}

/// The floor must have written as much as ours did.
async fn check(world: &World) -> Result<()> {
    for (select, table) in [
        ("COUNT(*)", "history"),
        ("COUNT(*)", "attempts"),
        ("SUM(state = 'succeeded')", "jobs"),
        ("SUM(version)", "jobs"),
    ] {
        let ours = number(world, select, table).await?;
        let floor = number(world, select, &format!("floor_{table}")).await?;
        if ours != floor {
            return Err(format!("{select} of {table}: ours {ours}, the floor's {floor}").into());
        }
    }
    Ok(())
}

async fn number(world: &World, select: &str, table: &str) -> Result<i64> {
    let sql = format!("SELECT CAST({select} AS SIGNED) FROM {table}");
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&world.db.pool).await?)
}
