//! What was agreed about placement, as slow and plain code that shares nothing with the planner but its data types.

pub mod check;
pub mod generate;
pub mod kept;
pub mod order;
pub mod preempt;
pub mod promise;
pub mod reserve;
pub mod rounds;
pub mod world;

pub use check::{check, check_after};
pub use rounds::Rounds;
