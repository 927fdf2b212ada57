//! The installation: its clock and id, its teams, cohorts, policy and accounts as they stand.

use async_trait::async_trait;
use uuid::Uuid;
use yard_domain::catalog::{CatalogSource, CatalogVersion};
use yard_domain::{
    Account, Catalog, Cluster, Cohort, InstanceId, Limits, Policy, SubmitRate, Team, Timestamp,
};

use crate::accounts::{ACCOUNT_COLUMNS, read_account};
use crate::backend::{Row, TxKind, Value};
use crate::clusters;
use crate::codec::read_limits;
use crate::fault::Fault;
use crate::forecasts;
use crate::in_force;
use crate::policy::read_policy;
use crate::reader::Reader;
use crate::tx::{Conn, Work};

/// The database's time.
pub(crate) async fn now(conn: &mut Conn) -> Result<Timestamp, Fault> {
    let sql = format!("SELECT {}", conn.dialect.now());
    let row = conn.rows(sql, Vec::new()).await?.pop().unwrap_or_default();
    Reader::new("(now)", row).time("now")
}

fn read_team(row: Row) -> Result<(Team, bool), Fault> {
    let mut r = Reader::new("teams", row);
    let id = r.coded("id", |t| t.parse().ok())?;
    let cohort = r.opt_coded("cohort", |t| t.parse().ok())?;
    let quota = r.coded("quota", read_limits)?;
    let max = r.opt_coded("max_quota", read_limits)?.unwrap_or_default();
    let request = r.opt_coded("default_request", read_limits)?.unwrap_or_default();
    let weight = r.small("weight")?;
    let (per_minute, burst) = (r.opt_small("submit_per_minute")?, r.opt_small("submit_burst")?);
    let submit_rate = per_minute.zip(burst).map(|(per_minute, burst)| SubmitRate { per_minute, burst });
    Ok((Team { id, cohort, quota, max, request, weight, submit_rate }, r.flag("configured")?))
}

/// Every team, and whether it is configured.
pub(crate) async fn all_teams(conn: &mut Conn) -> Result<Vec<(Team, bool)>, Fault> {
    let sql = "SELECT id, cohort, quota, max_quota, default_request, weight, submit_per_minute, submit_burst, configured \
               FROM teams ORDER BY id";
    conn.rows(sql, Vec::new()).await?.into_iter().map(read_team).collect()
}

/// Every configured team.
pub(crate) async fn teams(conn: &mut Conn) -> Result<Vec<Team>, Fault> {
    let teams = all_teams(conn).await?.into_iter();
    Ok(teams.filter_map(|(team, configured)| configured.then_some(team)).collect())
}

/// Every cohort.
pub(crate) async fn cohorts(conn: &mut Conn) -> Result<Vec<Cohort>, Fault> {
    let sql = "SELECT id, parent, quota, max_quota, weight FROM cohorts ORDER BY id";
    let read = |row: Row| {
        let mut r = Reader::new("cohorts", row);
        Ok(Cohort {
            id: r.coded("id", |t| t.parse().ok())?,
            parent: r.opt_coded("parent", |t| t.parse().ok())?,
            quota: r.coded::<Limits>("quota", read_limits)?,
            max: r.coded("max_quota", read_limits)?,
            weight: r.small("weight")?,
        })
    };
    conn.rows(sql, Vec::new()).await?.into_iter().map(read).collect()
}

/// How placement decides.
pub(crate) async fn policy(conn: &mut Conn) -> Result<Policy, Fault> {
    let sql = "SELECT id, policy FROM catalog_in_force WHERE id = 1";
    let Some(row) = conn.rows(sql, Vec::new()).await?.pop() else { return Ok(Policy::default()) };
    let mut r = Reader::new("catalog_in_force", row);
    r.int("id")?;
    Ok(r.opt_coded("policy", read_policy)?.unwrap_or_default())
}

/// Every account as it stands.
pub(crate) async fn accounts(conn: &mut Conn) -> Result<Vec<Account>, Fault> {
    let sql = format!("SELECT {ACCOUNT_COLUMNS} FROM accounts ORDER BY owner");
    let rows = conn.rows(sql, Vec::new()).await?.into_iter();
    rows.map(|row| read_account(&mut Reader::new("accounts", row))).collect()
}

/// The time, and every account with its past use counted up to then.
pub(crate) async fn accounts_now(conn: &mut Conn) -> Result<(Timestamp, Vec<Account>), Fault> {
    // In the same statement: one journey less for every pass.
    let now_sql = conn.dialect.now();
    let sql = format!("SELECT {ACCOUNT_COLUMNS}, {now_sql} FROM accounts ORDER BY owner");
    let mut at = None;
    let mut accounts = Vec::new();
    for row in conn.rows(sql, Vec::new()).await? {
        let mut r = Reader::new("accounts", row);
        let mut account = read_account(&mut r)?;
        let now = *at.get_or_insert(r.time("now")?);
        if let Some(past) = &mut account.past {
            past.advance(&account.used, now);
        }
        accounts.push(account);
    }
    match at {
        Some(now) => Ok((now, accounts)),
        None => Ok((now(conn).await?, accounts)),
    }
}

async fn current_accounts(conn: &mut Conn) -> Result<Vec<Account>, Fault> {
    Ok(accounts_now(conn).await?.1)
}

async fn instance(conn: &mut Conn) -> Result<InstanceId, Fault> {
    let row = conn.rows("SELECT name, text FROM meta WHERE name = 'instance'", Vec::new()).await?.pop();
    let mut r =
        Reader::new("meta", row.ok_or_else(|| Fault::inconsistent("meta", &"instance", &"is missing"))?);
    r.text("name")?;
    r.coded("text", |text| Uuid::parse_str(text).ok()).map(InstanceId)
}

async fn catalog(conn: &mut Conn) -> Result<Catalog, Fault> {
    let clusters = clusters::all(conn).await?.into_iter().filter(|c| c.configured).collect();
    let (teams, cohorts, policy) = (teams(conn).await?, cohorts(conn).await?, policy(conn).await?);
    Ok(Catalog { teams, cohorts, clusters, policy })
}

async fn version(conn: &mut Conn) -> Result<u64, Fault> {
    Ok(in_force::state(conn, "").await?.version)
}

/// Reads that are of few statements.
macro_rules! query {
    ($(#[$doc:meta])* $name:ident, $verb:literal, $kind:ident, $out:ty, $read:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        #[async_trait]
        impl Work for $name {
            type Out = $out;
            const NAME: &'static str = $verb;
            const KIND: TxKind = TxKind::$kind;

            async fn run(&self, conn: &mut Conn) -> Result<$out, Fault> {
                $read(conn).await
            }
        }
    };
}

query!(
    /// See [`yard_ports::store::Store::now`].
    Now, "now", Read, Timestamp, now
);
query!(
    /// See [`yard_ports::store::Store::instance`].
    Instance, "instance", Read, InstanceId, instance
);
query!(
    /// See [`yard_ports::store::Store::clusters`].
    Clusters, "clusters", Read, Vec<Cluster>, clusters::all
);
query!(
    /// See [`yard_ports::store::Store::teams`].
    Teams, "teams", Read, Vec<Team>, teams
);
query!(
    /// See [`yard_ports::store::Store::accounts`].
    Accounts, "accounts", Read, Vec<Account>, current_accounts
);
query!(
    /// See [`yard_ports::store::Store::catalog`].
    CatalogInForce, "catalog", Snapshot, Catalog, catalog
);
query!(
    /// See [`yard_ports::store::Store::catalog_version`].
    Version, "catalog_version", Read, u64, version
);

/// See [`yard_ports::store::Store::catalog_versions`].
pub(crate) struct Versions {
    pub(crate) before: Option<u64>,
    pub(crate) limit: u32,
}

#[async_trait]
impl Work for Versions {
    type Out = Vec<CatalogVersion>;
    const NAME: &'static str = "catalog_versions";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<Vec<CatalogVersion>, Fault> {
        versions(conn, self.before.unwrap_or(u64::MAX), self.limit).await
    }
}

/// Versions, newest first, those before `before`.
pub(crate) async fn versions(conn: &mut Conn, before: u64, limit: u32) -> Result<Vec<CatalogVersion>, Fault> {
    let sql = "SELECT number, at_us, applied_by, source, text FROM catalog_versions WHERE number < ? \
               ORDER BY number DESC LIMIT ?";
    let before = i64::try_from(before).unwrap_or(i64::MAX);
    let read = |row: Row| {
        let mut r = Reader::new("catalog_versions", row);
        Ok(CatalogVersion {
            number: r.small("number")?,
            at: r.time("at_us")?,
            by: r.text("applied_by")?,
            source: r.coded("source", CatalogSource::from_code)?,
            text: r.text("text")?,
        })
    };
    let args: Vec<Value> = vec![before.into(), limit.into()];
    conn.rows(sql, args).await?.into_iter().map(read).collect()
}

/// Writes the rows that every installation has, unless they are there: its id, the counter of lease tokens, how far events
/// have been numbered and pushed, the row that says which catalog is in force, the steps of the forecasts' errors.
pub(crate) struct Seed;

#[async_trait]
impl Work for Seed {
    type Out = ();
    const NAME: &'static str = "seed";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let head = conn.dialect.insert_ignore();
        let sql = format!(
            "{head}meta (name, text, number) VALUES ('instance', ?, NULL), ('lease_token', NULL, 0), \
             ('event_pos', NULL, 0)"
        );
        conn.run(sql, vec![Uuid::new_v4().to_string().into()]).await?;
        // What happened before there was push is not pushed.
        let sql =
            format!("{head}meta (name, number) SELECT 'push_pos', number FROM meta WHERE name = 'event_pos'");
        conn.run(sql, Vec::new()).await?;
        conn.run(format!("{head}catalog_in_force (id, version, generation) VALUES (1, 0, 0)"), Vec::new())
            .await?;
        forecasts::seed(conn).await
    }
}
