//! The ports: what the engine needs from a store, an inbox, a driver and an archive of logs.
//!
//! Adapters implement these; the engine and the server know nothing else of the outside. An error's *kind*
//! says what may be done about it (again later, never, or 'it may have happened'), so that no caller reads
//! error texts. The behaviour that every adapter must have is the conformance suite in `yard-testkit`.

pub mod access;
pub mod driver;
pub mod inbox;
pub mod log_archive;
pub mod packages;
pub mod push;
pub mod store;

pub use access::AccessStore;
pub use driver::{
    Driver, DriverError, LaunchOutcome, LaunchRequest, LogChunk, LogStream, Observation, ObservationStream,
    PodLog, RemoteJob, RemoteStatus,
};
pub use inbox::{Inbox, InboxError, Message, MessageHandle, Spill, Spilled};
pub use log_archive::{ArchiveError, JobLogs, LogArchive};
pub use packages::{PackageContent, PackageError, Packages};
pub use push::{PushError, PushMessage, PushSender};
pub use store::{Store, StoreError};
