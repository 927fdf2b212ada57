//! Teams: who is charged, and up to what.

use crate::ids::TeamId;
use crate::resources::Limits;

/// A team and its quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Who is charged.
    pub id: TeamId,
    /// What its placed, launching and running jobs may use together.
    pub quota: Limits,
    /// Its weight in the order between teams (1 = normal): a team of weight 2 gets two turns for one.
    pub weight: u32,
}
