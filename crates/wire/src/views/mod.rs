//! The JSON that the HTTP API answers with. The server writes these types, the CLI reads them.
//!
//! Times are RFC 3339 texts in UTC with microseconds, by the database's clock. A field that does not apply is
//! left out. Fields are only ever added: readers must pass over those they don't know.

mod access;
mod amounts;
mod bulk;
mod catalog;
mod explain;
mod history;
mod job;
mod problem;
mod push;
mod receipt;
mod time;
mod versions;
mod workload;

pub use access::{AuditLineView, AuditLog, EVERY_TEAM, TokenList, TokenMade, TokenRequest, TokenView};
pub use amounts::{Amounts, Quota};
pub use bulk::{BulkAnswer, BulkRequest, BulkVerdict};
pub use catalog::{
    AuditView, ClusterList, ClusterView, DriftView, ElasticView, GpuBlocksView, SwitchAnswer, TeamList,
    TeamView,
};
pub use explain::{
    AheadView, AmountView, ChangeView, ClusterAnswerView, EndingView, ExpectedStartView, ExplanationView,
    MakingRoomView, PastErrorView, PositionView, ReservationView, SearchView, TeamExplanationView,
    TeamHoldView,
};
pub use history::{EventView, HistoryView, LineView};
pub use job::{
    AttemptView, Clock, FailureView, JobList, JobSummary, JobView, RetriesView, StopAnswerView, StopRequest,
    Waiting,
};
pub use problem::{FieldProblem, Problem, ProblemCode};
pub use push::{DeliveryList, DeliveryView, PushView, ResendAnswer};
pub use receipt::{ConflictView, ReceiptView, Submitted};
pub use time::{parse_time, time_text};
pub use versions::{CatalogAnswer, CatalogChange, CatalogVersionList, CatalogVersionView};
pub use workload::{SelectorView, WorkloadLine};

#[cfg(test)]
mod tests;
