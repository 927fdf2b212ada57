//! What a placement pass decides on. Its cost must not grow with the depth of the queue: groups are found by
//! skipping from one to the next in the index, and of each only the first few places are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use async_trait::async_trait;
use yard_domain::job::QueueOrder;
use yard_domain::{ClusterSelector, Request, Shape, TeamId};
use yard_ports::store::{PlacementInput, QueueHead, QueueView};

use crate::backend::{Dialect, TxKind, Value};
use crate::catalog;
use crate::codec::{read_request, read_selector};
use crate::fault::Fault;
use crate::reader::Reader;
use crate::tx::{Conn, Work};

/// Groups asked for in one statement.
const ARMS_MAX: usize = 16;

/// Shapes whose request and selector are remembered: a shape is a hash of both, so they never change.
const SHAPES_MAX: usize = 8_192;

/// Finds the groups by jumping from one to the next (MySQL calls it a loose index scan).
pub(crate) const GROUPS_MYSQL: &str = "SELECT team, shape, MIN(queue_order) FROM jobs FORCE INDEX FOR GROUP BY (jobs_ready) \
     WHERE ready = 1 GROUP BY team, shape";

/// The same jumps written out: SQLite has no loose index scan.
pub(crate) const GROUPS_SQLITE: &str = "WITH RECURSIVE heads (team, shape, first) AS ( \
     SELECT * FROM (SELECT team, shape, queue_order FROM jobs INDEXED BY jobs_ready WHERE ready = 1 \
       ORDER BY team, shape, queue_order LIMIT 1) \
     UNION ALL \
     SELECT j.team, j.shape, j.queue_order FROM heads h JOIN jobs j ON j.id = COALESCE( \
       (SELECT id FROM jobs INDEXED BY jobs_ready WHERE ready = 1 AND team = h.team AND shape > h.shape \
          ORDER BY shape, queue_order LIMIT 1), \
       (SELECT id FROM jobs INDEXED BY jobs_ready WHERE ready = 1 AND team > h.team \
          ORDER BY team, shape, queue_order LIMIT 1)) \
     ) SELECT team, shape, first FROM heads";

/// What shapes stand for, as far as this process has seen them.
#[derive(Default)]
pub(crate) struct Shapes(Mutex<HashMap<Shape, (Request, ClusterSelector)>>);

impl Shapes {
    fn get(&self, shape: Shape) -> Option<(Request, ClusterSelector)> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&shape).cloned()
    }

    fn put(&self, shape: Shape, meaning: (Request, ClusterSelector)) {
        let mut map = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if map.len() >= SHAPES_MAX {
            map.clear();
        }
        map.insert(shape, meaning);
    }
}

type Group = (TeamId, Shape);

/// See [`yard_ports::store::Store::load_placement_input`].
pub(crate) struct LoadInput<'a> {
    pub(crate) view: QueueView,
    pub(crate) shapes: &'a Shapes,
}

#[async_trait]
impl Work for LoadInput<'_> {
    type Out = PlacementInput;
    const NAME: &'static str = "load_placement_input";
    const KIND: TxKind = TxKind::Read;

    async fn run(&self, conn: &mut Conn) -> Result<PlacementInput, Fault> {
        let groups = select(find_groups(conn).await?, self.view.groups);
        let orders = self.orders(conn, &groups).await?;
        self.learn(conn, &groups).await?;
        let head = |(team, shape): Group| {
            let orders = orders.get(&(team.clone(), shape))?.clone();
            let (request, clusters) = self.shapes.get(shape)?;
            Some(QueueHead { team, shape, request, clusters, orders })
        };
        let heads = groups.into_iter().filter_map(head).collect();
        let clusters = catalog::clusters(conn).await?;
        let teams = catalog::teams(conn).await?;
        let accounts = catalog::accounts(conn).await?;
        let now = catalog::now(conn).await?;
        Ok(PlacementInput { now, heads, clusters, teams, accounts })
    }
}

async fn find_groups(conn: &mut Conn) -> Result<Vec<(Group, QueueOrder)>, Fault> {
    let sql = match conn.dialect {
        Dialect::MySql => GROUPS_MYSQL,
        Dialect::Sqlite => GROUPS_SQLITE,
    };
    let rows = conn.rows(sql, Vec::new()).await?.into_iter();
    rows.map(|row| {
        let mut r = Reader::new("jobs", row);
        let group = (r.coded("team", |t| t.parse().ok())?, Shape(r.int("shape")?));
        Ok((group, QueueOrder(r.int("queue_order")?)))
    })
    .collect()
}

/// At most `max` groups, taking turns between teams, each team's first in the queue first: many shapes of one
/// team must not hide another team's jobs.
fn select(groups: Vec<(Group, QueueOrder)>, max: u32) -> Vec<Group> {
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

/// One SELECT per group, many in one statement; the list is padded with groups of which nothing is read.
fn arms(dialect: Dialect, columns: &str, groups: &[Group], limit: u32) -> (String, Vec<Value>) {
    let n = groups.len().next_power_of_two();
    let index = dialect.index("jobs_ready");
    let arm = format!(
        "SELECT {columns} FROM jobs{index} WHERE ready = 1 AND team = ? AND shape = ? ORDER BY queue_order, id LIMIT ?"
    );
    let arm = match dialect {
        Dialect::MySql => format!("({arm})"),
        Dialect::Sqlite => format!("SELECT * FROM ({arm})"),
    };
    let padding = groups.last().into_iter().cycle().map(|group| (group, 0));
    let args = groups.iter().map(|group| (group, limit)).chain(padding).take(n);
    let args = args
        .flat_map(|((team, shape), limit)| [team.as_str().into(), shape.0.into(), limit.into()])
        .collect();
    (vec![arm; n].join(" UNION ALL "), args)
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
            let (sql, args) = arms(conn.dialect, "team, shape, queue_order", groups, self.view.depth);
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
            let (sql, args) = arms(conn.dialect, "id, shape, request, selector", groups, 1);
            for row in conn.rows(sql, args).await? {
                let mut r = Reader::new("jobs", row);
                r.job_id("id")?;
                let shape = Shape(r.int("shape")?);
                self.shapes
                    .put(shape, (r.coded("request", read_request)?, r.coded("selector", read_selector)?));
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
        let groups = vec![group("a", 1, 10), group("a", 2, 5), group("a", 3, 7), group("b", 1, 99)];
        let picked = select(groups, 3);
        let shown: Vec<(String, i64)> = picked.into_iter().map(|(t, s)| (t.to_string(), s.0)).collect();
        assert_eq!(shown, [("a".to_owned(), 2), ("b".to_owned(), 1), ("a".to_owned(), 3)]);
    }
}
