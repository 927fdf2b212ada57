//! The driver for this host: child processes that outlive a restart of yard.
//!
//! Each attempt has a folder of its own, `<dir>/<remote name>/`, and everything that is known about it is
//! read from there, so that any number of yard processes may share a `dir` and each may die at any moment:
//!
//! | file | written by | meaning |
//! |---|---|---|
//! | `request.json` | launch | what to run and for whom; there from the start, as the folder is renamed into place |
//! | `lock` | launch | `flock`ed by the shim for its life: held means alive, whatever has become of process ids |
//! | `started` | shim | the command has been, or is just being, started: never start it again |
//! | `stop` | stop | it is to be stopped; one that has not started never will |
//! | `exit` | shim | how it ended; renamed into place |
//! | `log` | the command | standard output and error |
//! | `work/` | shim | its working directory, unless it asked for another |
//! | `shim.log` | shim | what the shim itself had to complain about |
//!
//! The *shim* ([`shim_main`]) is a small process per attempt which starts the command, waits for it and
//! records its end. It does not depend on the yard process that started it. See [`shim`] for how it makes
//! sure that an attempt runs at most once and ends whole.
//!
//! `dir` must be on a local file system (`flock`). Nothing is synced to disk: a host that loses power has
//! lost its processes too, which is what the folders then say.

mod attempt_dir;
mod blocking;
mod config;
mod driver;
mod logs;
mod observe;
mod packages;
mod record;
pub mod shim;

pub use config::{ProcessConfig, ShimCommand};
pub use driver::ProcessDriver;
pub use shim::shim_main;
