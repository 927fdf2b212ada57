//! The JSON of the SQS message and the HTTP API, and its conversion to and from the domain. No I/O.
//!
//! - [`submission`]: the one versioned document that producers send, as types (the schema) and as a reader
//!   that finds everything wrong with it at once.
//! - [`admission`]: what the installation says to it: known teams, doors, what could ever fit.
//! - [`arrival`]: both together, from raw bytes to what the store commits. The same for every door.
//! - `effective`: the document as it is stored, with every default filled in.
//! - [`catalog`]: catalog documents, and what changes from one to the next.
//! - [`launch`]: from a stored document back to what a driver needs.
//! - [`mod@explain`]: who is asked why a job waits.
//! - [`views`]: the JSON that the HTTP API answers with and the CLI reads.
//! - [`canonical`], [`quantity`], [`limits`]: the parts they share.

pub mod admission;
pub mod arrival;
pub mod canonical;
pub mod catalog;
mod effective;
pub mod explain;
pub mod launch;
pub mod limits;
pub mod quantity;
pub mod ray;
mod spilled;
pub mod submission;
pub mod views;

pub use admission::Admission;
pub use arrival::{API_DOOR, Intake, RAY_DOOR, Source};
pub use catalog::{CatalogDraft, CatalogReader};
pub use explain::Explain;
pub use launch::{DocumentError, launch_request};
pub use limits::{Defaults, Limits};
pub use spilled::bound_id;
pub use submission::Submission;
