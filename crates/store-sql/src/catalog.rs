//! The installation: its clock and id, its teams and clusters.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use uuid::Uuid;
use yard_domain::{
    Account, AccountOwner, Capacity, Cluster, ClusterHealth, ClusterId, ClusterReport, ClusterSwitch,
    InstanceId, Lease, Request, Team, TeamId, Timestamp,
};
use yard_ports::store::StoreError;

use crate::accounts::{self, owner_key, read_account};
use crate::backend::{Row, TxKind, Value};
use crate::codec::{
    read_capacity, read_labels, read_limits, write_capacity, write_labels, write_limits, write_request,
};
use crate::fault::Fault;
use crate::fence::fence_cluster;
use crate::reader::Reader;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

const CLUSTER_COLUMNS: &str =
    "id, driver, labels, capacity, switch_state, health, last_seen_us, configured, message, declared";

/// The database's time.
pub(crate) async fn now(conn: &mut Conn) -> Result<Timestamp, Fault> {
    let sql = format!("SELECT {}", conn.dialect.now());
    let row = conn.rows(sql, Vec::new()).await?.pop().unwrap_or_default();
    Reader::new("(now)", row).time("now")
}

fn read_cluster(row: Row) -> Result<(Cluster, bool), Fault> {
    let mut r = Reader::new("clusters", row);
    let cluster = Cluster {
        id: r.coded("id", |t| t.parse().ok())?,
        driver: r.text("driver")?,
        elastic: None,
        cost_per_hour_micro: None,
        breaker_open: false,
        recent_failures: 0,
        labels: r.coded("labels", read_labels)?,
        capacity: r.opt_coded("capacity", read_capacity)?,
        switch: r.coded("switch_state", ClusterSwitch::from_code)?,
        health: r.coded("health", ClusterHealth::from_code)?,
        last_seen: r.opt_time("last_seen_us")?,
        configured: r.flag("configured")?,
        message: r.opt_text("message")?,
    };
    Ok((cluster, r.flag("declared")?))
}

fn read_team(row: Row) -> Result<(Team, bool), Fault> {
    let mut r = Reader::new("teams", row);
    let team = Team {
        id: r.coded("id", |t| t.parse().ok())?,
        quota: r.coded("quota", read_limits)?,
        weight: r.small("weight")?,
        cohort: None,
        max: yard_domain::Limits::default(),
        submit_rate: None,
    };
    Ok((team, r.flag("configured")?))
}

/// Every cluster, and whether its capacity is declared.
async fn all_clusters(conn: &mut Conn) -> Result<Vec<(Cluster, bool)>, Fault> {
    let sql = format!("SELECT {CLUSTER_COLUMNS} FROM clusters ORDER BY id");
    conn.rows(sql, Vec::new()).await?.into_iter().map(read_cluster).collect()
}

/// Every cluster.
pub(crate) async fn clusters(conn: &mut Conn) -> Result<Vec<Cluster>, Fault> {
    Ok(all_clusters(conn).await?.into_iter().map(|(cluster, _)| cluster).collect())
}

async fn all_teams(conn: &mut Conn) -> Result<Vec<(Team, bool)>, Fault> {
    let sql = "SELECT id, quota, weight, configured FROM teams ORDER BY id";
    conn.rows(sql, Vec::new()).await?.into_iter().map(read_team).collect()
}

/// Every configured team.
pub(crate) async fn teams(conn: &mut Conn) -> Result<Vec<Team>, Fault> {
    Ok(all_teams(conn)
        .await?
        .into_iter()
        .filter(|(_, configured)| *configured)
        .map(|(team, _)| team)
        .collect())
}

/// Every account.
pub(crate) async fn accounts(conn: &mut Conn) -> Result<Vec<Account>, Fault> {
    let rows = conn.rows("SELECT owner, used FROM accounts ORDER BY owner", Vec::new()).await?;
    rows.into_iter().map(read_account).collect()
}

/// Reads that are one query each.
macro_rules! query {
    ($(#[$doc:meta])* $name:ident, $verb:literal, $out:ty, $read:ident) => {
        $(#[$doc])*
        pub(crate) struct $name;

        #[async_trait]
        impl Work for $name {
            type Out = $out;
            const NAME: &'static str = $verb;
            const KIND: TxKind = TxKind::Read;

            async fn run(&self, conn: &mut Conn) -> Result<$out, Fault> {
                $read(conn).await
            }
        }
    };
}

query!(
    /// See [`yard_ports::store::Store::now`].
    Now, "now", Timestamp, now
);
query!(
    /// See [`yard_ports::store::Store::instance`].
    Instance, "instance", InstanceId, instance
);
query!(
    /// See [`yard_ports::store::Store::clusters`].
    Clusters, "clusters", Vec<Cluster>, clusters
);
query!(
    /// See [`yard_ports::store::Store::teams`].
    Teams, "teams", Vec<Team>, teams
);
query!(
    /// See [`yard_ports::store::Store::accounts`].
    Accounts, "accounts", Vec<Account>, accounts
);

async fn instance(conn: &mut Conn) -> Result<InstanceId, Fault> {
    let row = conn.rows("SELECT name, text FROM meta WHERE name = 'instance'", Vec::new()).await?.pop();
    let mut r =
        Reader::new("meta", row.ok_or_else(|| Fault::inconsistent("meta", &"instance", &"is missing"))?);
    r.text("name")?;
    r.coded("text", |text| Uuid::parse_str(text).ok()).map(InstanceId)
}

/// Writes the rows that every installation has, unless they are there: its id and the counter of lease tokens.
pub(crate) struct Seed;

#[async_trait]
impl Work for Seed {
    type Out = ();
    const NAME: &'static str = "seed";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let head = conn.dialect.insert_ignore();
        let sql =
            format!("{head}meta (name, text, number) VALUES ('instance', ?, NULL), ('lease_token', NULL, 0)");
        conn.run(sql, vec![Uuid::new_v4().to_string().into()]).await?;
        Ok(())
    }
}

/// See [`yard_ports::store::Store::sync_catalog`].
pub(crate) struct SyncCatalog<'a> {
    pub(crate) teams: &'a [Team],
    pub(crate) clusters: &'a [Cluster],
}

#[async_trait]
impl Work for SyncCatalog<'_> {
    type Out = ();
    const NAME: &'static str = "sync_catalog";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        // Processes that start together sync one after the other.
        let lock = conn.dialect.for_update();
        conn.rows(format!("SELECT name FROM meta WHERE name = 'instance'{lock}"), Vec::new()).await?;
        let teams: BTreeMap<TeamId, (Team, bool)> =
            all_teams(conn).await?.into_iter().map(|t| (t.0.id.clone(), t)).collect();
        for team in self.teams {
            sync_team(conn, team, teams.get(&team.id)).await?;
        }
        let clusters: BTreeMap<ClusterId, (Cluster, bool)> =
            all_clusters(conn).await?.into_iter().map(|c| (c.0.id.clone(), c)).collect();
        for cluster in self.clusters {
            sync_cluster(conn, cluster, clusters.get(&cluster.id)).await?;
        }
        let wanted: BTreeSet<&TeamId> = self.teams.iter().map(|t| &t.id).collect();
        for (id, (_, configured)) in teams.iter().filter(|(id, _)| !wanted.contains(id)) {
            retire(conn, "teams", &AccountOwner::Team(id.clone()), *configured).await?;
        }
        let wanted: BTreeSet<&ClusterId> = self.clusters.iter().map(|c| &c.id).collect();
        for (id, (cluster, _)) in clusters.iter().filter(|(id, _)| !wanted.contains(id)) {
            retire(conn, "clusters", &AccountOwner::Cluster(id.clone()), cluster.configured).await?;
        }
        Ok(())
    }
}

async fn open_account(conn: &mut Conn, owner: &AccountOwner) -> Result<(), Fault> {
    let sql = format!("{}accounts (owner, used) VALUES (?, ?)", conn.dialect.insert_ignore());
    conn.run(sql, vec![owner_key(owner).into(), write_request(&Request::default()).into()]).await?;
    Ok(())
}

async fn sync_team(conn: &mut Conn, team: &Team, stored: Option<&(Team, bool)>) -> Result<(), Fault> {
    if stored.is_some_and(|(stored, configured)| *configured && stored == team) {
        return Ok(());
    }
    let sql = match stored {
        Some(_) => "UPDATE teams SET quota = ?, weight = ?, configured = 1 WHERE id = ?",
        None => "INSERT INTO teams (quota, weight, configured, id) VALUES (?, ?, 1, ?)",
    };
    conn.run(sql, vec![write_limits(&team.quota).into(), team.weight.into(), team.id.as_str().into()])
        .await?;
    open_account(conn, &AccountOwner::Team(team.id.clone())).await
}

async fn sync_cluster(
    conn: &mut Conn,
    cluster: &Cluster,
    stored: Option<&(Cluster, bool)>,
) -> Result<(), Fault> {
    let declared = cluster.capacity.is_some();
    // Observed capacity outlives a sync; a declaration that was taken back does not.
    let observed = stored.filter(|(_, was_declared)| !*was_declared).and_then(|(c, _)| c.capacity.as_ref());
    let capacity = cluster.capacity.as_ref().or(observed).map(write_capacity);
    let mut args: Vec<Value> = vec![
        fit_chars(&cluster.driver, 60).into(),
        write_labels(&cluster.labels).into(),
        capacity.into(),
        declared.into(),
        cluster.id.as_str().into(),
    ];
    let sql = if stored.is_some() {
        "UPDATE clusters SET driver = ?, labels = ?, capacity = ?, declared = ?, configured = 1 WHERE id = ?"
    } else {
        args.extend([
            cluster.switch.code().into(),
            cluster.health.code().into(),
            cluster.last_seen.map(Timestamp::as_micros).into(),
            cluster.message.as_deref().into(),
        ]);
        "INSERT INTO clusters (driver, labels, capacity, declared, configured, id, switch_state, health, \
         last_seen_us, message) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?)"
    };
    conn.run(sql, args).await?;
    open_account(conn, &AccountOwner::Cluster(cluster.id.clone())).await
}

/// Takes an owner out of the configuration; deletes it once nothing of it is left.
async fn retire(
    conn: &mut Conn,
    table: &'static str,
    owner: &AccountOwner,
    configured: bool,
) -> Result<(), Fault> {
    let id = || Value::from(owner.id());
    if configured {
        conn.run(format!("UPDATE {table} SET configured = 0 WHERE id = ?"), vec![id()]).await?;
    }
    if let AccountOwner::Team(_) = owner {
        let index = conn.dialect.index("jobs_team");
        let sql = format!("SELECT id FROM jobs{index} WHERE team = ? LIMIT 1");
        if !conn.rows(sql, vec![id()]).await?.is_empty() {
            return Ok(());
        }
    }
    let accounts = accounts::Accounts::lock(conn, BTreeSet::from([owner.clone()])).await?;
    if accounts.used(owner).is_none_or(Request::is_zero) {
        conn.run("DELETE FROM accounts WHERE owner = ?", vec![owner_key(owner).into()]).await?;
        conn.run(format!("DELETE FROM {table} WHERE id = ?"), vec![id()]).await?;
    }
    Ok(())
}

/// See [`yard_ports::store::Store::report_cluster`].
pub(crate) struct ReportCluster<'a> {
    pub(crate) lease: &'a Lease,
    pub(crate) report: &'a ClusterReport,
}

#[async_trait]
impl Work for ReportCluster<'_> {
    type Out = ();
    const NAME: &'static str = "report_cluster";

    async fn run(&self, conn: &mut Conn) -> Result<(), Fault> {
        let (now, cluster) = fence_cluster(conn, self.lease).await?;
        let report = self.report;
        if report.cluster != cluster {
            let reason = format!("the report is about {}, the lease on {cluster}", report.cluster);
            return Err(StoreError::Rejected { context: Self::NAME, reason }.into());
        }
        let seen = (report.health == ClusterHealth::Ready).then_some(now.as_micros());
        let sql = "UPDATE clusters SET health = ?, message = ?, last_seen_us = COALESCE(?, last_seen_us), \
                   capacity = CASE WHEN declared = 1 THEN capacity ELSE COALESCE(?, capacity) END WHERE id = ?";
        let args = vec![
            report.health.code().into(),
            report.message.as_deref().map(|m| fit_chars(m, 2_000)).into(),
            seen.into(),
            report.capacity.as_ref().map(|c: &Capacity| write_capacity(c)).into(),
            cluster.as_str().into(),
        ];
        match conn.run(sql, args).await? {
            0 => Err(Fault::inconsistent("clusters", &cluster, &"there is no such cluster")),
            _ => Ok(()),
        }
    }
}

/// See [`yard_ports::store::Store::switch_cluster`].
pub(crate) struct SwitchCluster<'a> {
    pub(crate) id: &'a ClusterId,
    pub(crate) switch: ClusterSwitch,
    pub(crate) by: &'a str,
}

#[async_trait]
impl Work for SwitchCluster<'_> {
    type Out = bool;
    const NAME: &'static str = "switch_cluster";

    async fn run(&self, conn: &mut Conn) -> Result<bool, Fault> {
        let now = conn.dialect.now();
        let sql = format!(
            "UPDATE clusters SET switch_state = ?, switched_by = ?, switched_us = {now} WHERE id = ?"
        );
        let args = vec![self.switch.code().into(), fit_chars(self.by, 200).into(), self.id.as_str().into()];
        Ok(conn.run(sql, args).await? > 0)
    }
}
