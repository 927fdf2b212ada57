//! The loops. Each is load → decide → apply: it reads through the ports, decides in a synchronous function
//! of values, and writes through one verb of the store.
//!
//! | file | loop | acts on |
//! |---|---|---|
//! | [`intake`] | messages → verdicts | queues |
//! | [`placement`] | queued → placed | scheduler lease |
//! | [`sweep`] | clocks that ran out, purge, audit | scheduler lease |
//! | [`election`] | which replica dispatches which cluster | presence and dispatch leases |
//! | [`dispatch`] | placed → launched → ended, one cluster | dispatch lease |
//! | [`archive`] | logs of attempts → archive, one cluster | (of its dispatcher) |
//! | [`archive::retention`] | deletes old logs | a lease of its own |
//! | [`push`] | events → deliveries → receivers | leases of their own |
//! | [`catalog`] | what is declared: for admission, rates, and how clusters are driven | — |
//!
//! Placement looks through [`view`] (the planner's snapshot), [`holdings`] (open attempts), [`history`] (how long jobs
//! run) and [`forecast`] (how wrong expected starts were), and leaves [`notes`] for those who ask why a job waits; [`mod@explain`] tells them
//! more, on request.
//!
//! No loop takes input: a nudge only wakes it early, its timer always comes, and a full look repairs what a
//! lost nudge missed. [`process`] starts and stops them; [`keeper`] holds and renews leases for all of them.

pub mod archive;
pub mod catalog;
pub mod dispatch;
pub mod election;
pub mod explain;
pub mod forecast;
pub mod history;
pub mod holdings;
pub mod intake;
pub mod keeper;
pub mod notes;
pub mod nudge;
pub mod placement;
pub mod process;
pub mod push;
pub mod rates;
pub mod settings;
pub mod sweep;
pub mod view;

pub use catalog::Catalog;
pub use explain::Explainer;
pub use nudge::Nudges;
pub use process::{Ending, Process};
