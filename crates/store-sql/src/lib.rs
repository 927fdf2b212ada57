//! The store's verbs in SQL, once, for every database that an adapter connects.
//!
//! - `backend`: what a database must offer ([`Backend`], [`Tx`]) and where dialects differ ([`Dialect`]).
//! - `tx`, `fault`: named transactions, redone after deadlocks and lost races, counted by name.
//! - `fence`: a scheduler's or dispatcher's transaction begins with its lease's row.
//! - `moves`, `accounts`: jobs and ledger rows are locked (in one order everywhere: lease, catalog in
//!   force, cohorts, accounts, jobs by id),
//!   changed by what the domain decides, and written together with history.
//! - `in_force`: teams, cohorts and policy, remembered until another catalog is applied.
//! - `intake`, `leases`, `groups`, `load`, `claim`, `placement`, `holdings`, `launch`, `ends`, `sweep`, `views`, `list`, `shown`, `packages`, `place`, `past`,
//!   `forecasts`, `audit`, `catalog`, `apply`, `clusters`, `tokens`, `audit_log`: the verbs by concern; each is a struct whose `run` is one
//!   transaction.
//! - `events`: which lines of history a transaction wrote, and their positions in the order of all events.
//! - `rejections`, `push_steps`, `deliveries`: verdicts without a job as events; events made into deliveries, and their attempts
//!   (docs/adr/0011-push.md).
//! - `doors`: how far each queue has been taken in.
//! - `hot`: the statements whose plans are tested.
//! - `rows`, `reader`, `codec`, `policy`, `text`, `sql`: rows to and from the domain, and statements of few repeating sizes.
//!
//! Verbs take hundreds of jobs at once and cost a handful of statements, whatever their number.

mod access;
mod accounts;
mod apply;
mod audit;
mod audit_log;
mod backend;
mod catalog;
mod claim;
mod clusters;
mod codec;
mod codec_kube;
mod deliveries;
mod doors;
mod ends;
mod events;
mod fault;
mod fence;
mod forecasts;
mod groups;
mod holdings;
pub mod hot;
mod in_force;
mod intake;
mod launch;
mod leases;
mod list;
mod load;
mod moves;
mod packages;
mod past;
mod place;
mod placement;
mod policy;
mod push;
mod push_steps;
mod reader;
mod rejections;
mod rows;
mod schema;
mod shown;
mod sql;
mod store;
mod sweep;
mod text;
mod tokens;
mod tx;
mod views;

pub use backend::{Backend, Dialect, Row, SqlError, Tx, TxKind, Value};
pub use schema::{Applied, Known, check_schema, newer_schema};
pub use store::{SqlStore, StoreOptions};
pub use tx::RetryOptions;
