//! What Switchyard is about, as types: jobs, attempts, leases, quota, clusters, failures and retries.
//!
//! Everything here is pure and synchronous. Time, randomness and I/O are arguments; a test in the `yard`
//! crate proves from the dependency list that nothing here could do otherwise. States are enums that carry
//! their data, transitions are methods that can fail, and each transition is an [`event::Event`]: the line
//! of history it writes. Folding a job's events rebuilds its state ([`lifecycle::Lifecycle::replay`]).

pub mod access;
pub mod catalog;
pub mod cluster;
pub mod event;
pub mod failure;
pub mod ids;
pub mod job;
pub mod lease;
pub mod ledger;
pub mod lifecycle;
pub mod log_spans;
pub mod policy;
pub mod push;
pub mod quota;
pub mod ray_cluster;
pub mod ray_profiles;
pub mod receipt;
pub mod resources;
pub mod retry;
pub mod team;
pub mod time;

pub use access::{ApiToken, AuditEntry, AuditLine, Grant, Right, Role, SecretHash, TeamScope, TokenId};
pub use catalog::Catalog;
pub use cluster::{Cluster, ClusterHealth, ClusterReport, ClusterSelector, ClusterSwitch, Elastic};
pub use event::{Actor, Event, HistoryLine};
pub use failure::{Failure, FailureClass, Outcome};
pub use ids::{
    AttemptNumber, ClassId, ClusterId, CohortId, InstanceId, JobId, LeaseToken, PushName, RemoteName, Shape,
    TeamId,
};
pub use job::{JobSpec, NewJob, Priority, Timeouts};
pub use lease::{Lease, LeaseRole, LeaseScope};
pub use ledger::{Account, AccountOwner, PastUse};
pub use lifecycle::{JobState, Lifecycle, StateName, TransitionError};
pub use log_spans::{KeepBounds, KeptChunk, KeptLog, Part, Seal, Span};
pub use policy::{Policy, PriorityClass};
pub use push::{DeliveryState, PushKinds, PushRetry, SubscriptionId};
pub use quota::{QuotaOwner, QuotaShortage, QuotaTree};
pub use ray_cluster::{RayClusterShape, WorkerShape};
pub use ray_profiles::{Block, GpuBlocks, JobField, PodDemand, PodFault, PodShares, RayProfile, RayProfiles};
pub use receipt::{Arrival, FieldError, Receipt, SubmissionKey, Verdict};
pub use resources::{Capacity, Limits, Request};
pub use retry::{RetryPolicy, RetryRules, RetryVerdict};
pub use team::{Cohort, SubmitRate, Team};
pub use time::Timestamp;
