//! The proof of the planner: an independent model of what was agreed, and everything that is held against it. Nothing in
//! here uses more of the planner than `plan` and the types of its arguments and answer.
//!
//! - [`model`]: slow and plain code that says what is wrong with a plan, and plays rounds of plan, apply and end
//! - [`properties`]: random snapshots against the model; `PROPTEST_CASES=20000` for a long run
//! - [`fairness`]: the planner's end state against the exact weighted DRF allocation
//! - [`golden`]: the scenarios in `scenarios/`, for people to read

#![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod fairness;
mod golden;
mod model;
mod properties;
