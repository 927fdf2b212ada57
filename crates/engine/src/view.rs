//! From what was read to what is decided on: the planner's snapshot.

use std::collections::HashMap;
use std::time::Duration;

use yard_domain::{AccountOwner, Request, Timestamp};
use yard_planner::{ClusterView, Group, Parts, Running, Snapshot, TeamView};
use yard_ports::store::{OpenHolding, PlacementInput};

use crate::history::History;

/// The planner's snapshot of what was loaded. `holdings` may have been read a little before `input`.
pub fn snapshot(input: PlacementInput, holdings: &[OpenHolding], history: &History) -> Snapshot {
    let now = input.now;
    let (mut used, mut past) = (HashMap::new(), HashMap::new());
    for account in input.accounts {
        if let Some(mean) = &account.past {
            past.insert(account.owner.clone(), mean.rounded());
        }
        used.insert(account.owner, account.used);
    }
    let take = |map: &mut HashMap<AccountOwner, Request>, owner| map.remove(&owner).unwrap_or_default();
    let teams = input.teams.into_iter().map(|team| {
        let owner = AccountOwner::Team(team.id.clone());
        TeamView { used: take(&mut used, owner.clone()), past: take(&mut past, owner), team }
    });
    let teams = teams.collect();
    let clusters = input.clusters.into_iter().map(|cluster| ClusterView {
        used: take(&mut used, AccountOwner::Cluster(cluster.id.clone())),
        cluster,
    });
    let clusters = clusters.collect();
    let groups = input.heads.into_iter().map(|head| Group {
        expected_run: history.expected_run(&head.team, head.shape, head.run_timeout),
        team: head.team,
        shape: head.shape,
        request: head.request,
        clusters: head.clusters,
        run_timeout: head.run_timeout,
        orders: head.orders,
    });
    let groups = groups.collect();
    let running = holdings.iter().map(|holding| running(holding, history, now)).collect();
    Snapshot::new(Parts { teams, cohorts: input.cohorts, clusters, groups, running })
}

/// An open attempt as the planner sees it. One that does not run yet has its whole run before it.
fn running(holding: &OpenHolding, history: &History, now: Timestamp) -> Running {
    let start = holding.started_at.unwrap_or(now);
    let so_far =
        Duration::from_micros(u64::try_from(now.as_micros().saturating_sub(start.as_micros())).unwrap_or(0));
    let length = history.expected_length(&holding.team, holding.shape, so_far, holding.run_timeout);
    Running {
        job: holding.attempt.job,
        attempt: holding.attempt.attempt,
        team: holding.team.clone(),
        shape: holding.shape,
        cluster: holding.cluster.clone(),
        request: holding.request.clone(),
        priority: holding.order.priority(),
        started: holding.started_at,
        ends_by: start.plus(holding.run_timeout),
        expected_end: start.plus(length),
        leaving: holding.leaving,
    }
}
