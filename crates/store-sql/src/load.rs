//! What a placement pass decides on. Its cost must not grow with the depth of the queue: groups are found by
//! skipping from one to the next in the index, and of each only the first few places are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use yard_domain::job::QueueOrder;
use yard_domain::{ClusterSelector, Request, Shape, TeamId};
use yard_ports::store::{PlacementInput, QueueHead, QueueView};

use crate::backend::{TxKind, Value};
use crate::catalog;
use crate::clusters;
use crate::codec::{read_request, read_selector};
use crate::fault::Fault;
use crate::groups::{Group, Seen, union};
use crate::hot;
use crate::in_force::{InForce, Remembered};
use crate::reader::Reader;
use crate::tx::{Conn, Work};

/// Groups read in one statement.
const ARMS_MAX: usize = 16;

/// Shapes whose meaning is remembered: a shape is a hash of it, so it never changes. (Shapes of jobs that a binary of
/// before migration 2 accepted are a hash of request and selector alone; there the run timeout is that of the group's
/// first job.)
const SHAPES_MAX: usize = 8_192;

/// What a shape stands for.
#[derive(Clone)]
struct Meaning {
    request: Request,
    clusters: ClusterSelector,
    run_timeout: Duration,
}

/// What shapes stand for, as far as this process has seen them.
#[derive(Default)]
pub(crate) struct Shapes(Mutex<HashMap<Shape, Meaning>>);

impl Shapes {
    fn get(&self, shape: Shape) -> Option<Meaning> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&shape).cloned()
    }

    fn put(&self, shape: Shape, meaning: Meaning) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if map.len() >= SHAPES_MAX {
            map.clear();
        }
        map.insert(shape, meaning);
    }
}

/// See [`yard_ports::store::Store::load_placement_input`].
pub(crate) struct LoadInput<'a> {
    pub(crate) view: QueueView,
    pub(crate) shapes: &'a Shapes,
    pub(crate) seen: &'a Seen,
    pub(crate) remembered: &'a Remembered,
}

#[async_trait]
impl Work for LoadInput<'_> {
    type Out = PlacementInput;
    const NAME: &'static str = "load_placement_input";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<PlacementInput, Fault> {
        let groups = select(self.seen.find(conn).await?, self.view.groups);
        let orders = self.orders(conn, &groups).await?;
        self.learn(conn, &groups).await?;
        let head = |(team, shape): Group| {
            let orders = orders.get(&(team.clone(), shape))?.clone();
            let Meaning { request, clusters, run_timeout } = self.shapes.get(shape)?;
            Some(QueueHead { team, shape, request, clusters, run_timeout, orders })
        };
        let heads = groups.into_iter().filter_map(head).collect();
        let in_force = self.remembered.read(conn).await?;
        let clusters = clusters::all(conn).await?;
        let (now, accounts) = catalog::accounts_now(conn).await?;
        let InForce { teams, cohorts, policy, .. } = &*in_force;
        let (teams, cohorts, policy) = (teams.clone(), cohorts.clone(), policy.clone());
        Ok(PlacementInput { now, heads, clusters, teams, cohorts, policy, accounts })
    }
}

/// At most `max` groups, taking turns between teams, each team's first in the queue first: many shapes of one
/// team must not hide another team's jobs.
fn select(groups: BTreeMap<Group, QueueOrder>, max: u32) -> Vec<Group> {
    let mut by_team: BTreeMap<TeamId, Vec<(QueueOrder, Shape)>> = BTreeMap::new();
    for ((team, shape), first) in groups {
        by_team.entry(team).or_default().push((first, shape));
    }
    let mut ranked = Vec::new();
    for (team, mut shapes) in by_team {
        shapes.sort_unstable();
        ranked.extend(
            shapes.into_iter().enumerate().map(|(turn, (first, shape))| (turn, first, team.clone(), shape)),
        );
    }
    ranked.sort_unstable();
    ranked.truncate(usize::try_from(max).unwrap_or(usize::MAX));
    ranked.into_iter().map(|(_, _, team, shape)| (team, shape)).collect()
}

/// What [`hot::head`] is asked with for each of these groups; padded with questions for nothing.
fn heads(groups: &[Group], limit: u32) -> Vec<Vec<Value>> {
    let padding = groups.last().into_iter().cycle().map(|group| (group, 0));
    let asked =
        groups.iter().map(|group| (group, limit)).chain(padding).take(groups.len().next_power_of_two());
    asked.map(|((team, shape), limit)| vec![team.as_str().into(), shape.0.into(), limit.into()]).collect()
}

impl LoadInput<'_> {
    /// The first places of each group.
    async fn orders(
        &self,
        conn: &mut Conn,
        groups: &[Group],
    ) -> Result<BTreeMap<Group, Vec<QueueOrder>>, Fault> {
        let mut orders: BTreeMap<Group, Vec<QueueOrder>> = BTreeMap::new();
        for groups in groups.chunks(ARMS_MAX) {
            let arm = hot::head(conn.dialect, "team, shape, queue_order");
            let (sql, args) = union(conn.dialect, &arm, &heads(groups, self.view.depth));
            for row in conn.rows(sql, args).await? {
                let mut r = Reader::new("jobs", row);
                let group = (r.coded("team", |t| t.parse().ok())?, Shape(r.int("shape")?));
                orders.entry(group).or_default().push(QueueOrder(r.int("queue_order")?));
            }
        }
        Ok(orders)
    }

    /// Looks up what these groups' shapes stand for, unless it is known.
    async fn learn(&self, conn: &mut Conn, groups: &[Group]) -> Result<(), Fault> {
        let unknown: Vec<Group> =
            groups.iter().filter(|(_, s)| self.shapes.get(*s).is_none()).cloned().collect();
        for groups in unknown.chunks(ARMS_MAX) {
            let arm = hot::head(conn.dialect, "id, shape, request, selector, run_timeout_us");
            let (sql, args) = union(conn.dialect, &arm, &heads(groups, 1));
            for row in conn.rows(sql, args).await? {
                let mut r = Reader::new("jobs", row);
                r.job_id("id")?;
                let shape = Shape(r.int("shape")?);
                let (request, clusters) =
                    (r.coded("request", read_request)?, r.coded("selector", read_selector)?);
                let run_timeout = Duration::from_micros(r.small("run_timeout_us")?);
                self.shapes.put(shape, Meaning { request, clusters, run_timeout });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn teams_take_turns_in_a_short_view() {
        let group = |team: &str, shape, order| ((team.parse().unwrap(), Shape(shape)), QueueOrder(order));
        let groups = [group("a", 1, 10), group("a", 2, 5), group("a", 3, 7), group("b", 1, 99)];
        let picked = select(groups.into_iter().collect(), 3);
        let shown: Vec<(String, i64)> = picked.into_iter().map(|(t, s)| (t.to_string(), s.0)).collect();
        assert_eq!(shown, [("a".to_owned(), 2), ("b".to_owned(), 1), ("a".to_owned(), 3)]);
    }
}
