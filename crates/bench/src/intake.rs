//! Intake: messages from memory → receipts, jobs and first lines of history committed, as the intake loop does it,
//! beside the very same rows inserted in plain SQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::mysql::MySqlPool;
use tokio::task::JoinSet;
use yard_domain::Arrival;

use crate::report::{Detail, Finding, Target};
use crate::rows::{Cell, Rows, Texts};
use crate::stats::rate;
use crate::world::{Reader, World, bodies, check_accepted};
use crate::{Failure, Plan, Result};

/// Batches committed side by side, and connections of the floor.
const TASKS: usize = 4;
/// Messages committed in one transaction: the intake's default.
const BATCH: usize = 256;

const TABLES: [&str; 3] = ["receipts", "jobs", "history"];

/// What one round took beside its whole duration.
#[derive(Default)]
struct Parts {
    reading: Duration,
    accepting: Duration,
}

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 1).await?;
    let findings = measure(plan, &world).await;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, world: &World) -> Result<Vec<Finding>> {
    let messages = plan.pick(40_000, 1_200);
    let (mut rounds, mut parts) = (Vec::new(), Parts::default());
    let before = plan.meter.read();
    // The round before the first is for caches and files to grow.
    for round in 0..=plan.rounds {
        world.db.truncate(&TABLES).await?;
        world.db.settle(Duration::from_secs(10)).await?;
        let (ours, took) = ours(world, bodies(messages, &format!("r{round}"))).await?;
        world.db.settle(Duration::from_secs(10)).await?;
        let floor = floor(world, messages).await?;
        if round > 0 {
            rounds.push((rate(messages, ours), rate(messages, floor)));
            parts.reading += took.reading;
            parts.accepting += took.accepting;
        }
    }
    let n = (messages * plan.rounds) as f64;
    let mut details = vec![
        Detail::new(
            "reading and checking a message, on one core",
            parts.reading.as_secs_f64() / n * 1e6,
            "µs",
        ),
        Detail::new("its share of a batch's commit", parts.accepting.as_secs_f64() / n * 1e6, "µs"),
    ];
    details.extend(plan.meter.read().since(&before).transactions());
    let note = format!(
        "{messages} messages a round, {TASKS} tasks with batches of {BATCH}; floor: three multi-row inserts a batch"
    );
    let what = "messages → receipts, jobs, history";
    let finding = Finding::beside("intake", what, "msg/s", rounds).target(Target::RatioAtLeast(0.5));
    Ok(vec![finding.details(details).note(note)])
}

/// Messages to verdicts.
async fn ours(world: &World, bodies: Vec<String>) -> Result<(Duration, Parts)> {
    let bodies = Arc::new(bodies);
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..TASKS {
        let mut reader = Reader::new(world.admission.clone());
        let (bodies, next, store) = (bodies.clone(), next.clone(), world.store.clone());
        tasks.spawn(async move {
            let mut parts = Parts::default();
            loop {
                let from = next.fetch_add(BATCH, Ordering::Relaxed);
                let Some(batch) = bodies.get(from..bodies.len().min(from + BATCH)) else { break };
                let started = Instant::now();
                let arrivals: Vec<Arrival> = batch.iter().map(|body| reader.read(body)).collect();
                let read = Instant::now();
                let verdicts = store.accept(&arrivals).await?;
                parts.reading += read - started;
                parts.accepting += read.elapsed();
                check_accepted(&verdicts)?;
                if batch.len() < BATCH {
                    break;
                }
            }
            Ok::<_, Failure>(parts)
        });
    }
    let mut all = Parts::default();
    while let Some(parts) = tasks.join_next().await {
        let parts = parts??;
        all.reading += parts.reading;
        all.accepting += parts.accepting;
    }
    Ok((began.elapsed(), all))
}

/// One table's rows of one batch.
struct Chunk {
    table: &'static str,
    columns: Arc<Vec<String>>,
    rows: Vec<Vec<Cell>>,
}

/// The rows that the round before it wrote, again, into empty tables like the real ones.
async fn floor(world: &World, messages: usize) -> Result<Duration> {
    let batches = Arc::new(written(&world.db.pool, messages).await?);
    for table in TABLES {
        world.db.make_like(&format!("floor_{table}"), table).await?;
    }
    let next = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..TASKS {
        connections.push(world.db.pool.acquire().await?);
    }
    let began = Instant::now();
    for mut connection in connections {
        let (batches, next) = (batches.clone(), next.clone());
        tasks.spawn(async move {
            let mut texts = Texts::default();
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let mut tx = connection.begin().await?;
                for chunk in batch {
                    let rows: Vec<&[Cell]> = chunk.rows.iter().map(Vec::as_slice).collect();
                    let table = format!("floor_{}", chunk.table);
                    texts.insert(&mut tx, &table, &chunk.columns, &rows).await?;
                }
                tx.commit().await?;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let took = began.elapsed();
    for table in TABLES {
        let count = world.db.number(&format!("SELECT COUNT(*) FROM floor_{table}")).await?;
        if usize::try_from(count)? != messages {
            return Err(format!("the floor has {count} rows in {table}, not {messages}").into());
        }
    }
    Ok(took)
}

/// What was written, cut into batches as it was committed: the rows of one commit have one time.
async fn written(pool: &MySqlPool, messages: usize) -> Result<Vec<Vec<Chunk>>> {
    let selects = [
        ("receipts", "SELECT r.* FROM receipts r JOIN jobs j ON j.id = r.job_id ORDER BY j.created_us, j.id"),
        ("jobs", "SELECT * FROM jobs ORDER BY created_us, id"),
        ("history", "SELECT h.* FROM history h JOIN jobs j ON j.id = h.job_id ORDER BY j.created_us, j.id"),
    ];
    let mut batches: Vec<Vec<Chunk>> = (0..messages.div_ceil(BATCH)).map(|_| Vec::new()).collect();
    for (table, sql) in selects {
        let rows = Rows::read(pool, sql).await?;
        if rows.cells.len() != messages {
            return Err(format!("{} rows in {table}, not {messages}", rows.cells.len()).into());
        }
        let columns = Arc::new(rows.columns.clone());
        let mut cells = rows.cells.into_iter();
        for batch in &mut batches {
            let mut rows: Vec<Vec<Cell>> = cells.by_ref().take(BATCH).collect();
            if table == "receipts" {
                rows.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
            }
            batch.push(Chunk { table, columns: columns.clone(), rows });
        }
    }
    Ok(batches)
}

/// Receipts begin with team and key, which are their primary key: inserted in its order, as the store does.
fn key(row: &[Cell]) -> Vec<&[u8]> {
    row.iter().take(2).map(Cell::bytes).collect()
}
