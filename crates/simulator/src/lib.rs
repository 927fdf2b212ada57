//! What a policy would do to a workload: the planner and the state machine that place real jobs, in virtual time.
//!
//! A [`Simulation`] takes jobs from a [`workload`] in the order of their arrival, moves each through
//! [`yard_domain::Lifecycle`], asks the planner when something has changed, and writes down what happened as a
//! [`Report`]. Everything is decided by its arguments and a seed; there is no clock and no source of randomness here.
//!
//! - [`workload`]: where jobs come from: fitted generators, JSON Lines, SWF files
//! - [`model`]: what the world around the planner is like: delays, failures, outages
//! - [`engine`]: events in virtual time
//! - [`audit`]: an account of its own of what happened, that finds every broken rule
//! - [`record`]: what is measured, and exactly how
//! - [`report`]: text, JSON and a page with plots; two runs side by side
//!
//! docs/simulate.md says what the figures mean and what is left out.

pub mod audit;
pub mod engine;
pub mod model;
mod number;
pub mod record;
pub mod report;
pub mod workload;

pub use engine::{Decide, Simulation};
pub use model::{Incident, Model, Trouble};
pub use report::{Comparison, Report};
pub use workload::SimJob;
