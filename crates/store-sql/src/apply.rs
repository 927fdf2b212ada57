//! Putting a catalog in force: its rows, its document as a new version, and the half-life of past use, in one
//! transaction. It begins with the row that says what is in force, which placements hold in share mode to their end:
//! so no placement is committed on the word of another catalog than the one it was checked against.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::catalog::{CatalogSource, CatalogVersion};
use yard_domain::{
    AccountOwner, Catalog, Cluster, ClusterId, Cohort, CohortId, Request, Team, TeamId, Timestamp,
};
use yard_ports::store::{ApplyAnswer, CatalogDocument};

use crate::accounts::{self, owner_key};
use crate::backend::Value;
use crate::catalog;
use crate::clusters;
use crate::codec::{write_limits, write_request};
use crate::fault::Fault;
use crate::in_force;
use crate::policy::write_policy;
use crate::text::fit_chars;
use crate::tx::{Conn, Work};

/// How many versions are kept.
const VERSIONS_KEPT: u64 = 1_000;

/// See [`yard_ports::store::Store::apply_catalog`].
pub(crate) struct ApplyCatalog<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) document: CatalogDocument<'a>,
}

#[async_trait]
impl Work for ApplyCatalog<'_> {
    type Out = ApplyAnswer;
    const NAME: &'static str = "apply_catalog";

    async fn run(&self, conn: &mut Conn) -> Result<ApplyAnswer, Fault> {
        // Whoever applies at the same time waits here.
        let lock = conn.dialect.for_update();
        let version = in_force::state(conn, lock).await?.version;
        let last = catalog::versions(conn, u64::MAX, 1).await?.pop();
        let answer = self.answer(version, last.as_ref());
        let number = match answer {
            ApplyAnswer::Conflict(_) => return Ok(answer),
            ApplyAnswer::Applied(number) | ApplyAnswer::Unchanged(number) => number,
        };
        let now = catalog::now(conn).await?;
        if matches!(answer, ApplyAnswer::Applied(_)) {
            self.keep(conn, number, now.max(last.map_or(now, |last| last.at))).await?;
        }
        let Catalog { teams, cohorts, clusters, policy } = self.catalog;
        declare_cohorts(conn, cohorts).await?;
        declare_clusters(conn, clusters).await?;
        declare_teams(conn, teams).await?;
        remember_past(conn, policy.half_life, now).await?;
        let sql =
            "UPDATE catalog_in_force SET version = ?, generation = generation + 1, policy = ? WHERE id = 1";
        conn.run(sql, vec![whole(number), write_policy(policy).into()]).await?;
        Ok(answer)
    }
}

impl ApplyCatalog<'_> {
    /// What is to become of it, given what is in force.
    fn answer(&self, version: u64, last: Option<&CatalogVersion>) -> ApplyAnswer {
        let document = &self.document;
        if document.expected.is_some_and(|expected| expected != version) {
            return ApplyAnswer::Conflict(version);
        }
        match last {
            Some(last) if last.text == document.text => ApplyAnswer::Unchanged(version),
            Some(last)
                if last.source == CatalogSource::Applied
                    && document.source == CatalogSource::Configuration =>
            {
                ApplyAnswer::Conflict(version)
            }
            _ => ApplyAnswer::Applied(version + 1),
        }
    }

    async fn keep(&self, conn: &mut Conn, number: u64, at: Timestamp) -> Result<(), Fault> {
        let document = &self.document;
        let sql =
            "INSERT INTO catalog_versions (number, at_us, applied_by, source, text) VALUES (?, ?, ?, ?, ?)";
        let args = vec![
            whole(number),
            at.as_micros().into(),
            fit_chars(document.by, 200).into(),
            document.source.code().into(),
            document.text.into(),
        ];
        conn.run(sql, args).await?;
        let old = whole(number.saturating_sub(VERSIONS_KEPT));
        conn.run("DELETE FROM catalog_versions WHERE number <= ?", vec![old]).await?;
        Ok(())
    }
}

fn whole(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

async fn declare_cohorts(conn: &mut Conn, wanted: &[Cohort]) -> Result<(), Fault> {
    let stored: BTreeMap<CohortId, Cohort> =
        catalog::cohorts(conn).await?.into_iter().map(|c| (c.id.clone(), c)).collect();
    for cohort in wanted {
        let sql = match stored.get(&cohort.id) {
            Some(stored) if stored == cohort => continue,
            Some(_) => "UPDATE cohorts SET parent = ?, quota = ?, max_quota = ?, weight = ? WHERE id = ?",
            None => "INSERT INTO cohorts (parent, quota, max_quota, weight, id) VALUES (?, ?, ?, ?, ?)",
        };
        let args = vec![
            cohort.parent.as_ref().map(CohortId::as_str).into(),
            write_limits(&cohort.quota).into(),
            write_limits(&cohort.max).into(),
            cohort.weight.into(),
            cohort.id.as_str().into(),
        ];
        conn.run(sql, args).await?;
    }
    let wanted: BTreeSet<&CohortId> = wanted.iter().map(|c| &c.id).collect();
    for id in stored.keys().filter(|id| !wanted.contains(id)) {
        conn.run("DELETE FROM cohorts WHERE id = ?", vec![id.as_str().into()]).await?;
    }
    Ok(())
}

async fn declare_clusters(conn: &mut Conn, wanted: &[Cluster]) -> Result<(), Fault> {
    let stored: BTreeMap<ClusterId, (Cluster, bool)> =
        clusters::all_declared(conn).await?.into_iter().map(|c| (c.0.id.clone(), c)).collect();
    for cluster in wanted {
        clusters::declare(conn, cluster, stored.get(&cluster.id)).await?;
        open_account(conn, &AccountOwner::Cluster(cluster.id.clone())).await?;
    }
    let wanted: BTreeSet<&ClusterId> = wanted.iter().map(|c| &c.id).collect();
    for (id, (cluster, _)) in stored.iter().filter(|(id, _)| !wanted.contains(id)) {
        retire(conn, "clusters", &AccountOwner::Cluster(id.clone()), cluster.configured).await?;
    }
    Ok(())
}

async fn declare_teams(conn: &mut Conn, wanted: &[Team]) -> Result<(), Fault> {
    let stored: BTreeMap<TeamId, (Team, bool)> =
        catalog::all_teams(conn).await?.into_iter().map(|t| (t.0.id.clone(), t)).collect();
    for team in wanted {
        declare_team(conn, team, stored.get(&team.id)).await?;
    }
    let wanted: BTreeSet<&TeamId> = wanted.iter().map(|t| &t.id).collect();
    for (id, (_, configured)) in stored.iter().filter(|(id, _)| !wanted.contains(id)) {
        retire(conn, "teams", &AccountOwner::Team(id.clone()), *configured).await?;
    }
    Ok(())
}

async fn declare_team(conn: &mut Conn, team: &Team, stored: Option<&(Team, bool)>) -> Result<(), Fault> {
    if stored.is_some_and(|(stored, configured)| *configured && stored == team) {
        return Ok(());
    }
    let sql = match stored {
        Some(_) => {
            "UPDATE teams SET cohort = ?, quota = ?, max_quota = ?, default_request = ?, weight = ?, \
             submit_per_minute = ?, submit_burst = ?, configured = 1 WHERE id = ?"
        }
        None => {
            "INSERT INTO teams (cohort, quota, max_quota, default_request, weight, submit_per_minute, submit_burst, \
             configured, id) VALUES (?, ?, ?, ?, ?, ?, ?, 1, ?)"
        }
    };
    let args = vec![
        team.cohort.as_ref().map(CohortId::as_str).into(),
        write_limits(&team.quota).into(),
        write_limits(&team.max).into(),
        write_limits(&team.request).into(),
        team.weight.into(),
        team.submit_rate.map(|rate| rate.per_minute).into(),
        team.submit_rate.map(|rate| rate.burst).into(),
        team.id.as_str().into(),
    ];
    conn.run(sql, args).await?;
    open_account(conn, &AccountOwner::Team(team.id.clone())).await
}

async fn open_account(conn: &mut Conn, owner: &AccountOwner) -> Result<(), Fault> {
    let sql = format!("{}accounts (owner, used) VALUES (?, ?)", conn.dialect.insert_ignore());
    conn.run(sql, vec![owner_key(owner).into(), write_request(&Request::default()).into()]).await?;
    Ok(())
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
    let now = catalog::now(conn).await?;
    let accounts = accounts::Accounts::lock(conn, now, BTreeSet::from([owner.clone()])).await?;
    if accounts.used(owner).is_none_or(Request::is_zero) {
        conn.run("DELETE FROM accounts WHERE owner = ?", vec![owner_key(owner).into()]).await?;
        conn.run(format!("DELETE FROM {table} WHERE id = ?"), vec![id()]).await?;
    }
    Ok(())
}

/// Makes every team's account remember past use by this half-life, or not at all.
async fn remember_past(conn: &mut Conn, half_life: Option<Duration>, now: Timestamp) -> Result<(), Fault> {
    let differ = |account: &yard_domain::Account| {
        matches!(account.owner, AccountOwner::Team(_))
            && account.past.as_ref().map(|past| past.half_life) != half_life
    };
    let accounts = catalog::accounts(conn).await?;
    let owners: BTreeSet<AccountOwner> = accounts.into_iter().filter(differ).map(|a| a.owner).collect();
    if owners.is_empty() {
        return Ok(());
    }
    let mut accounts = accounts::Accounts::lock(conn, now, owners).await?;
    accounts.remember_past(half_life);
    accounts.write(conn).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_never_replaces_what_somebody_applied() {
        use ApplyAnswer::{Applied, Conflict, Unchanged};
        use CatalogSource::{Applied as ByHand, Configuration};
        let catalog = Catalog::default();
        let last = |source, text: &str| CatalogVersion {
            number: 7,
            at: Timestamp::from_micros(0),
            by: "ann".to_owned(),
            source,
            text: text.to_owned(),
        };
        let answer = |source, text, expected, last: Option<CatalogVersion>| {
            let document = CatalogDocument { text, by: "bob", source, expected };
            ApplyCatalog { catalog: &catalog, document }
                .answer(last.as_ref().map_or(0, |l| l.number), last.as_ref())
        };
        assert_eq!(answer(Configuration, "a", None, None), Applied(1));
        assert_eq!(answer(Configuration, "b", None, Some(last(Configuration, "a"))), Applied(8));
        assert_eq!(answer(Configuration, "b", None, Some(last(ByHand, "a"))), Conflict(7));
        assert_eq!(answer(Configuration, "a", None, Some(last(ByHand, "a"))), Unchanged(7));
        assert_eq!(answer(ByHand, "b", None, Some(last(ByHand, "a"))), Applied(8));
        assert_eq!(answer(ByHand, "b", Some(7), Some(last(Configuration, "a"))), Applied(8));
        assert_eq!(answer(ByHand, "a", Some(6), Some(last(ByHand, "a"))), Conflict(7));
        assert_eq!(answer(ByHand, "a", Some(1), None), Conflict(0));
    }
}
