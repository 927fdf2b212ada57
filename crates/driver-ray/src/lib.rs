//! The driver for a standing Ray cluster: its Jobs REST API.
//!
//! The submission id is the attempt's remote name, so a second submit of the same attempt can't start a
//! second run: Ray says that the id exists, the driver reads the job back, and adopts it if its metadata
//! carries our installation's id. What Ray 2.60 answers, and where that differs from what one would expect,
//! is in `docs/facts/ray-2.60.md`; this crate is written against it.
//!
//! | file | what it holds |
//! |---|---|
//! | `config.rs` | what can be set, and the [`Token`] |
//! | `client.rs` | HTTP: TLS, the token, timeouts, and what each kind of failure means |
//! | `cluster.rs` | the calls that are about jobs, and what was launched lately |
//! | `wire.rs` | what is sent and read |
//! | `status.rs` | what a job's fields say about how it stands or why it failed |
//! | `supply.rs` | packages that the cluster must have before a job is submitted |
//! | `table.rs` | what the cluster showed last, and what is new |
//! | `observe.rs` | the one list call, again and again |
//! | `whole_log.rs` | a log by byte offset, over an interface that only gives it whole |
//! | `capacity.rs` | what the nodes have |
//! | `driver.rs` | the port's calls |

mod capacity;
mod client;
mod cluster;
mod config;
mod driver;
mod observe;
mod status;
mod supply;
mod table;
pub mod whole_log;
mod wire;

pub use client::client;
pub use config::{RayConfig, RayConfigError, Token};
pub use driver::RayDriver;
