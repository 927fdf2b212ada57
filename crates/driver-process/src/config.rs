//! What can be set, with defaults.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use yard_domain::Capacity;

/// How to start a shim: `program args… TARGET`, which must end up in [`crate::shim_main`] with the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimCommand {
    /// An absolute path.
    pub program: PathBuf,
    /// What comes before the target.
    pub args: Vec<OsString>,
}

/// Everything that can be set about one [`crate::ProcessDriver`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessConfig {
    /// Where the attempts' folders are; made if it is not there. All yard processes of a cluster share it.
    pub dir: PathBuf,
    /// How to start a shim.
    pub shim: ShimCommand,
    /// What this host is said to have; `None` if that is declared elsewhere.
    pub capacity: Option<Capacity>,
    /// From one look at all folders to the next.
    pub poll_interval: Duration,
    /// From one full listing to the next; in between only changes are reported, or that there are none.
    pub resync_interval: Duration,
    /// How long a stopped attempt has between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
    /// How often a shim looks for the wish to stop.
    pub stop_poll: Duration,
    /// How often a followed log is read once its end has been reached.
    pub log_poll: Duration,
    /// Most that the packages of one attempt may unpack to, in bytes.
    pub unpacked_bytes_max: u64,
    /// Most files and folders in one package.
    pub unpacked_entries_max: usize,
    /// The variables of yard's own environment that commands get to see. Only these: yard's environment
    /// may hold secrets.
    pub pass_env: Vec<String>,
}

impl ProcessConfig {
    /// The defaults, for attempts in `dir`.
    pub fn new(dir: impl Into<PathBuf>, shim: ShimCommand) -> Self {
        let pass_env = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
        Self {
            dir: dir.into(),
            shim,
            capacity: None,
            poll_interval: Duration::from_millis(500),
            resync_interval: Duration::from_secs(30),
            stop_grace: Duration::from_secs(10),
            stop_poll: Duration::from_millis(100),
            log_poll: Duration::from_millis(200),
            unpacked_bytes_max: 8 << 30,
            unpacked_entries_max: 200_000,
            pass_env: pass_env.map(String::from).to_vec(),
        }
    }
}
