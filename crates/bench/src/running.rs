//! Many running jobs on one cluster in memory: some are brought there by the product's loops, the others are
//! copies of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use serde_json::Value;
use sqlx::Row;
use sqlx::mysql::MySqlPool;
use uuid::Uuid;
use yard_domain::{AttemptNumber, ClusterId, InstanceId, JobId, RemoteName, Request};
use yard_engine::settings::{DispatcherSettings, SchedulerSettings};
use yard_ports::{Driver, LaunchRequest};
use yard_testkit::null_driver::{NullConfig, NullDriver, NullPlan};

use crate::Result;
use crate::fill::copy_jobs;
use crate::loops::{Loops, Roles, drivers};
use crate::world::{World, bodies};

/// Longest wait for the originals to run.
const LONGEST: Duration = Duration::from_mins(2);

/// A cluster on which everything runs until it is told otherwise.
pub fn endless() -> NullConfig {
    NullConfig { plan: NullPlan::endless(), ..NullConfig::default() }
}

/// Fills a world of one cluster with `originals * (copies + 1)` running jobs.
pub async fn fill(world: &World, originals: usize, copies: usize) -> Result<()> {
    world.accept(&bodies(originals, "running"), 200).await?;
    let roles = Roles {
        scheduler: Some(SchedulerSettings::default()),
        dispatcher: Some((DispatcherSettings::default(), drivers(world, &endless()))),
    };
    let loops = Loops::start(&world.store, world.instance, "fill", roles);
    let began = Instant::now();
    while running(world).await? < originals {
        if began.elapsed() > LONGEST {
            return Err("the jobs to be copied don't come to run".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    loops.stop().await;
    copy_jobs(&world.db, copies).await?;
    charge(world, copies).await?;
    world.db.settle(Duration::from_mins(2)).await?;
    match world.store.audit().await? {
        drift if drift.is_empty() => Ok(()),
        drift => Err(format!("the ledger does not fit what was copied: {drift:?}").into()),
    }
}

/// Running jobs in the store.
pub async fn running(world: &World) -> Result<usize> {
    Ok(world.db.number("SELECT COUNT(*) FROM jobs WHERE state = 'running'").await?.try_into()?)
}

/// Charges every account for the copies too.
async fn charge(world: &World, copies: usize) -> Result<()> {
    let rows = sqlx::query("SELECT owner, used FROM accounts").fetch_all(&world.db.pool).await?;
    for row in rows {
        let mut used: Value = serde_json::from_str(row.try_get("used")?)?;
        multiply(&mut used, copies as u64 + 1);
        let sql = "UPDATE accounts SET used = ? WHERE owner = ?";
        let owner: String = row.try_get("owner")?;
        sqlx::query(sql).bind(used.to_string()).bind(owner).execute(&world.db.pool).await?;
    }
    Ok(())
}

fn multiply(value: &mut Value, by: u64) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(|v| multiply(v, by)),
        value => {
            if let Some(amount) = value.as_u64() {
                *value = (amount * by).into();
            }
        }
    }
}

/// A cluster in memory on which all running jobs of the store of `instance` run.
pub async fn cluster(pool: &MySqlPool, instance: InstanceId) -> Result<NullDriver> {
    let driver = NullDriver::new(endless());
    let sql = "SELECT id, attempts FROM jobs WHERE state = 'running'";
    // One by one: in a process whose memory is measured, they must not all be there at once.
    let mut rows = sqlx::query(sql).fetch(pool);
    while let Some(row) = rows.try_next().await? {
        let job = JobId(Uuid::from_slice(row.try_get("id")?)?);
        let attempt = AttemptNumber(u32::try_from(row.try_get::<i64, _>("attempts")?)?);
        driver.launch(&request(instance, job, attempt)?).await?;
    }
    drop(rows);
    Ok(driver)
}

/// Only name and instance matter to a cluster in memory.
fn request(instance: InstanceId, job: JobId, attempt: AttemptNumber) -> Result<LaunchRequest> {
    Ok(LaunchRequest {
        name: RemoteName::new(job, attempt),
        instance,
        job,
        attempt,
        team: "bench".parse()?,
        job_name: String::new(),
        entrypoint: String::new(),
        runtime_env: serde_json::Map::new(),
        request: Request::default(),
        ray_cluster: None,
        metadata: BTreeMap::new(),
        run_timeout: Duration::from_hours(1),
    })
}

/// The world's only cluster.
pub fn only(world: &World) -> Result<&ClusterId> {
    world.clusters.first().ok_or_else(|| "the world has no cluster".into())
}
