//! What is declared and rarely changes (teams, cohorts, policy): read and understood once, then remembered under its
//! generation, a number that grows with every catalog that is applied. So a pass or a placement costs one row to
//! learn that nothing has changed, whatever the number of teams.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use yard_domain::{Cohort, CohortId, Policy, QuotaOwner, QuotaTree, Team, TeamId};

use crate::catalog;
use crate::fault::Fault;
use crate::reader::Reader;
use crate::tx::Conn;

/// Teams, cohorts and policy of one generation.
pub(crate) struct InForce {
    generation: i64,
    /// Every configured team.
    pub(crate) teams: Vec<Team>,
    /// Every cohort.
    pub(crate) cohorts: Vec<Cohort>,
    /// How placement decides.
    pub(crate) policy: Policy,
    /// Who may use what.
    pub(crate) quota: QuotaTree,
    /// The top of each node's tree.
    tops: Vec<usize>,
    /// The teams of each tree, by its top.
    members: HashMap<usize, Vec<TeamId>>,
}

impl InForce {
    fn new(generation: i64, teams: Vec<Team>, cohorts: Vec<Cohort>, policy: Policy) -> Self {
        let quota = QuotaTree::new(&teams, &cohorts);
        let tops: Vec<usize> = (0..quota.nodes().len()).map(|node| quota.root_of(node)).collect();
        let mut members: HashMap<usize, Vec<TeamId>> = HashMap::new();
        for (node, top) in quota.nodes().iter().zip(&tops) {
            if let QuotaOwner::Team(team) = &node.owner {
                members.entry(*top).or_default().push(team.clone());
            }
        }
        Self { generation, teams, cohorts, policy, quota, tops, members }
    }

    /// The cohorts at the top of these teams' trees. A team in no cohort has none.
    pub(crate) fn top_cohorts(&self, teams: &BTreeSet<&TeamId>) -> BTreeSet<&CohortId> {
        let top = |team: &&TeamId| match &self.quota.nodes()[self.tops[self.quota.node_of(team)?]].owner {
            QuotaOwner::Cohort(cohort) => Some(cohort),
            QuotaOwner::Team(_) => None,
        };
        teams.iter().filter_map(top).collect()
    }

    /// The other teams whose usage bears on what these may use.
    pub(crate) fn lenders(&self, teams: &BTreeSet<&TeamId>) -> BTreeSet<&TeamId> {
        let tops: BTreeSet<usize> =
            teams.iter().filter_map(|team| Some(self.tops[self.quota.node_of(team)?])).collect();
        let members = tops.iter().filter_map(|top| self.members.get(top)).flatten();
        members.filter(|team| !teams.contains(team)).collect()
    }
}

/// What was read last.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<Option<Arc<InForce>>>);

impl Remembered {
    /// What is in force by now.
    pub(crate) async fn read(&self, conn: &mut Conn) -> Result<Arc<InForce>, Fault> {
        self.at(conn, "").await
    }

    /// What is in force, and stays so until the end of the transaction: whoever applies a catalog waits for it.
    pub(crate) async fn hold(&self, conn: &mut Conn) -> Result<Arc<InForce>, Fault> {
        let share = conn.dialect.share();
        self.at(conn, share).await
    }

    async fn at(&self, conn: &mut Conn, lock: &'static str) -> Result<Arc<InForce>, Fault> {
        let generation = state(conn, lock).await?.generation;
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last.filter(|last| last.generation == generation) {
            return Ok(last);
        }
        // Read after the generation: if a later one has been applied meanwhile, this is a mixture at worst, and the
        // next look finds another generation than the one it is remembered under. Under `hold` that can't be.
        let teams = catalog::teams(conn).await?;
        let cohorts = catalog::cohorts(conn).await?;
        let policy = catalog::policy(conn).await?;
        let fresh = Arc::new(InForce::new(generation, teams, cohorts, policy));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&fresh));
        Ok(fresh)
    }
}

/// The row that says what is in force.
pub(crate) struct State {
    /// The number of the version.
    pub(crate) version: u64,
    /// Grows with every catalog that is applied, be it the same document again.
    pub(crate) generation: i64,
}

/// Reads that row; `lock` is put behind the statement.
pub(crate) async fn state(conn: &mut Conn, lock: &'static str) -> Result<State, Fault> {
    let sql = format!("SELECT id, version, generation FROM catalog_in_force WHERE id = 1{lock}");
    let row = conn.rows(sql, Vec::new()).await?.pop();
    let row =
        row.ok_or_else(|| Fault::inconsistent("catalog_in_force", &1, &"is missing: run `yard migrate`"))?;
    let mut r = Reader::new("catalog_in_force", row);
    r.int("id")?;
    Ok(State { version: r.small("version")?, generation: r.int("generation")? })
}
