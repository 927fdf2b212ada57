//! What finds out why jobs wait: the engine does, the server asks.

use async_trait::async_trait;
use yard_domain::TeamId;
use yard_ports::StoreError;
use yard_ports::store::JobView;

use crate::views::{ExplanationView, TeamExplanationView};

/// Finds out why jobs wait.
#[async_trait]
pub trait Explain: Send + Sync {
    /// Why this job is where it is.
    async fn job(&self, job: &JobView) -> Result<ExplanationView, StoreError>;
    /// Why this team's jobs wait; `None` if there is no such team.
    async fn team(&self, team: &TeamId) -> Result<Option<TeamExplanationView>, StoreError>;
}
