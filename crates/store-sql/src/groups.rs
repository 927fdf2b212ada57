//! Finding the groups (team, shape) that wait, without reading the queue: by jumps in the index from each group to
//! the next. A process remembers the groups of its last pass and asks after all of them at once, so a pass over
//! known groups costs one or two statements, and each group that is new costs one more, once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use yard_domain::job::QueueOrder;
use yard_domain::{Shape, TeamId};

use crate::backend::{Dialect, Value};
use crate::fault::Fault;
use crate::hot;
use crate::reader::Reader;
use crate::tx::Conn;

/// A group of queued jobs.
pub(crate) type Group = (TeamId, Shape);

/// Jumps asked for in one statement.
const ARMS_MAX: usize = 64;

/// Most rounds of jumps to new groups in one pass: what is still unknown then is found by the passes to come.
const ROUNDS_MAX: usize = 256;

/// The groups that this process has seen last.
#[derive(Default)]
pub(crate) struct Seen(Mutex<BTreeSet<Group>>);

impl Seen {
    fn get(&self) -> BTreeSet<Group> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, groups: BTreeSet<Group>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    /// Every group that waits, with its first place in the queue.
    pub(crate) async fn find(&self, conn: &mut Conn) -> Result<BTreeMap<Group, QueueOrder>, Fault> {
        let seen = self.get();
        let mut search = Search::default();
        search.start(&seen);
        for _ in 0..ROUNDS_MAX {
            if search.is_done() {
                break;
            }
            search.round(conn).await?;
        }
        self.set(search.found.keys().cloned().collect());
        Ok(search.found)
    }
}

/// The jumps of one pass.
#[derive(Default)]
struct Search {
    found: BTreeMap<Group, QueueOrder>,
    /// Where to jump from next: after these teams, and to these shapes of a team or later ones.
    teams: BTreeSet<String>,
    shapes: BTreeSet<(TeamId, i64)>,
    /// What has been jumped from already.
    teams_done: BTreeSet<String>,
    shapes_done: BTreeSet<(TeamId, i64)>,
}

impl Search {
    /// From the beginning, and from everything that was there the last time.
    fn start(&mut self, seen: &BTreeSet<Group>) {
        self.teams.insert(String::new());
        for (team, shape) in seen {
            self.from(team, *shape);
        }
    }

    /// Jumps to come once a group is known: behind it, and to the team after its own.
    fn from(&mut self, team: &TeamId, shape: Shape) {
        if !self.teams_done.contains(team.as_str()) {
            self.teams.insert(team.to_string());
        }
        // A team's first shape is what the jump to the team finds.
        let behind = shape.0.checked_add(1).map(|next| (team.clone(), next));
        self.shapes.extend(behind.filter(|jump| !self.shapes_done.contains(jump)));
    }

    fn is_done(&self) -> bool {
        self.teams.is_empty() && self.shapes.is_empty()
    }

    async fn round(&mut self, conn: &mut Conn) -> Result<(), Fault> {
        let (teams, shapes) = (std::mem::take(&mut self.teams), std::mem::take(&mut self.shapes));
        let after: Vec<Vec<Value>> = teams.iter().map(|team| vec![team.as_str().into()]).collect();
        let from: Vec<Vec<Value>> =
            shapes.iter().map(|(team, shape)| vec![team.as_str().into(), (*shape).into()]).collect();
        self.teams_done.extend(teams);
        self.shapes_done.extend(shapes);
        let (next_team, next_shape) = (hot::next_team(conn.dialect), hot::next_shape(conn.dialect));
        for (arm, jumps) in [(next_team, after), (next_shape, from)] {
            for jumps in jumps.chunks(ARMS_MAX) {
                let (sql, args) = union(conn.dialect, &arm, jumps);
                for row in conn.rows(sql, args).await? {
                    let mut r = Reader::new("jobs", row);
                    let (team, shape) = (r.coded("team", |t| t.parse().ok())?, Shape(r.int("shape")?));
                    let first = QueueOrder(r.int("queue_order")?);
                    self.from(&team, shape);
                    self.found.insert((team, shape), first);
                }
            }
        }
        Ok(())
    }
}

/// One SELECT per set of arguments, all in one statement; padded to a power of two by repeating the last (whoever
/// reads the answers must not mind).
pub(crate) fn union(dialect: Dialect, arm: &str, args: &[Vec<Value>]) -> (String, Vec<Value>) {
    let arm = match dialect {
        Dialect::MySql => format!("({arm})"),
        Dialect::Sqlite => format!("SELECT * FROM ({arm})"),
    };
    let n = args.len().next_power_of_two();
    let values = args.iter().chain(args.last().into_iter().cycle()).take(n).flatten().cloned().collect();
    (vec![arm; n].join(" UNION ALL "), values)
}
