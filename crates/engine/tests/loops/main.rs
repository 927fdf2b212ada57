//! The loops over the real SQLite store and clusters in memory: whole lives of jobs, and what happens when room is short.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

mod fair;
mod holding;
mod lives;
mod logs;
mod push;
mod world;
