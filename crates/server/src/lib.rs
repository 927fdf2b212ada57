//! The HTTP API: what people and programs ask and tell Switchyard. docs/http-api.md is its handbook.
//!
//! - [`routes`]: a file per endpoint with its handler, its errors and its tests.
//! - [`layers`]: what stands around every handler: limits, time, panics, cross-site requests, metrics.
//! - [`access`]: who is asking, and what they may do.
//! - [`problem`]: every error is an RFC 9457 document.
//! - [`query`]: query parameters with every error at once.
//! - `logs`: one log out of what the archive and the cluster have.
//! - [`AppState`], [`ServerConfig`]: what the handlers work with.
//!
//! The server decides nothing about jobs: it reads the store, commits submissions through the same
//! [`yard_wire::Intake`] as every other door, and wakes the scheduler.

pub mod access;
mod config;
mod feed;
pub mod layers;
mod logs;
pub mod openapi;
pub mod problem;
pub mod query;
mod ray;
pub mod routes;
mod serve;
mod state;

pub use access::{Access, AccessConfig};
pub use config::{LogLimits, ServerConfig};
pub use ray::{RayApi, RayApiConfig};
pub use routes::router;
pub use serve::serve;
pub use state::AppState;

#[cfg(test)]
mod testing;
