//! What can be set, with defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::template::Template;

/// How the Kubernetes API server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As the service account of the pod that this runs in.
    InCluster,
    /// As a kubeconfig says, with its certificates, tokens or exec plugins.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Which of its contexts; `None` is its current one.
        context: Option<String>,
    },
}

/// Everything that can be set about one [`crate::KubeRayDriver`].
#[derive(Debug, Clone, PartialEq)]
pub struct KubeRayConfig {
    /// What the cluster is called in metrics.
    pub name: String,
    /// How the API server is reached.
    pub access: Access,
    /// Where RayJobs are made; nobody else's.
    pub namespace: String,
    /// What they are made from.
    pub template: Template,
    /// Which nodes count as the cluster's capacity: a label selector, such as `pool=ray`. `None` is all.
    pub node_selector: Option<String>,
    /// From the gentle stop of a Ray job to the end of its Ray cluster.
    pub stop_grace: Duration,
    /// How long beyond its own deadlines a RayJob may stand still before it is ended from here.
    pub liveness_grace: Duration,
    /// How long a RayJob may be left alone by the operator before no more are made.
    pub operator_patience: Duration,
    /// Longest until a connection stands.
    pub connect_timeout: Duration,
    /// Longest for one call.
    pub call_timeout: Duration,
    /// Longest for a log, or for a whole list of nodes or pods.
    pub list_timeout: Duration,
    /// Pause between questions whether the API server is there.
    pub probe_interval: Duration,
    /// Longest life of one watch connection; one that died without a word is found out by then.
    pub watch_timeout: Duration,
    /// From one whole list of RayJobs to the next; in between, changes are watched.
    pub resync_interval: Duration,
    /// Shortest pause between reads of a followed log.
    pub log_poll: Duration,
    /// How long a followed log may be unreadable before its reader is told.
    pub log_patience: Duration,
    /// How much is read of each container's log, in bytes from its end.
    pub pod_log_bytes_max: usize,
    /// Of how many pods of one kind (workers) logs are read.
    pub pod_log_pods_max: usize,
    /// Longest answer that is read, in bytes.
    pub answer_bytes_max: usize,
}

impl KubeRayConfig {
    /// The defaults.
    pub fn new(
        name: impl Into<String>,
        access: Access,
        namespace: impl Into<String>,
        template: Template,
    ) -> Self {
        Self {
            name: name.into(),
            access,
            namespace: namespace.into(),
            template,
            node_selector: None,
            stop_grace: Duration::from_secs(30),
            liveness_grace: Duration::from_mins(5),
            operator_patience: Duration::from_mins(1),
            connect_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(30),
            list_timeout: Duration::from_mins(1),
            probe_interval: Duration::from_secs(2),
            watch_timeout: Duration::from_mins(1),
            resync_interval: Duration::from_mins(10),
            log_poll: Duration::from_secs(1),
            log_patience: Duration::from_secs(30),
            pod_log_bytes_max: 256 << 10,
            pod_log_pods_max: 16,
            answer_bytes_max: 256 << 20,
        }
    }
}
