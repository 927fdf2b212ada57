//! A `[[cluster]]` with `driver = "kuberay"`.

use std::path::PathBuf;
use std::time::Duration;

use yard_domain::ClusterId;
use yard_driver_kuberay::{Access, KubeRayConfig, Template};

use super::reader::Table;
use super::service::{secs, to_usize};

/// A Kubernetes cluster with the KubeRay operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeRayCluster {
    /// How its API server is reached.
    pub access: Access,
    /// Where RayJobs are made.
    pub namespace: String,
    /// What they are made from.
    pub template: TemplateSource,
    /// Which nodes count: a label selector.
    pub node_selector: Option<String>,
    /// From the gentle stop of a Ray job to the end of its Ray cluster.
    pub stop_grace: Duration,
    /// How long beyond its deadlines a RayJob may stand still.
    pub liveness_grace: Duration,
    /// How long the operator may leave a RayJob alone.
    pub operator_patience: Duration,
    /// Longest duration of one call.
    pub call_timeout: Duration,
    /// Longest life of one watch.
    pub watch_timeout: Duration,
    /// How much of each container's log is kept, in bytes.
    pub pod_log_bytes_max: usize,
    /// Of how many pods of a kind logs are kept.
    pub pod_log_pods_max: usize,
}

/// Where the template stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateSource {
    /// In the document itself.
    Inline(String),
    /// In a file of its own.
    File(PathBuf),
}

impl TemplateSource {
    /// The template's text as it is now.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Inline(text) => Ok(text.clone()),
            Self::File(path) => {
                std::fs::read_to_string(path).map_err(|e| format!("{} can't be read: {e}", path.display()))
            }
        }
    }

    /// For people.
    pub fn shown(&self) -> String {
        match self {
            Self::Inline(_) => "in the catalog".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl KubeRayCluster {
    /// For people.
    pub fn place(&self) -> String {
        match &self.access {
            Access::InCluster => format!("namespace {} of the cluster that this runs in", self.namespace),
            Access::Kubeconfig { path, context } => {
                let context = context.as_ref().map(|name| format!(", context {name}")).unwrap_or_default();
                format!("namespace {} by {}{context}", self.namespace, path.display())
            }
        }
    }

    /// What the driver of the cluster of this id is made from; `template` is the text of [`KubeRayCluster::template`].
    pub fn driver_config(&self, id: &ClusterId, template: &str) -> Result<KubeRayConfig, String> {
        let template = Template::parse(template).map_err(|e| format!("the template: {e}"))?;
        Ok(KubeRayConfig {
            node_selector: self.node_selector.clone(),
            stop_grace: self.stop_grace,
            liveness_grace: self.liveness_grace,
            operator_patience: self.operator_patience,
            call_timeout: self.call_timeout,
            watch_timeout: self.watch_timeout,
            pod_log_bytes_max: self.pod_log_bytes_max,
            pod_log_pods_max: self.pod_log_pods_max,
            ..KubeRayConfig::new(id.as_str(), self.access.clone(), self.namespace.clone(), template)
        })
    }

    /// What differs from the defaults, in words.
    pub(super) fn tell(&self, tell: &mut impl FnMut(&str, bool, String)) {
        match &self.access {
            Access::InCluster => tell("in_cluster", true, "true".to_owned()),
            Access::Kubeconfig { path, context } => {
                tell("kubeconfig", true, path.display().to_string());
                tell("context", context.is_some(), context.clone().unwrap_or_default());
            }
        }
        tell("namespace", true, self.namespace.clone());
        tell("template", true, self.template.shown());
        tell("node_selector", self.node_selector.is_some(), self.node_selector.clone().unwrap_or_default());
        for (key, span, default) in [
            ("stop_grace_s", self.stop_grace, STOP_GRACE),
            ("liveness_grace_s", self.liveness_grace, LIVENESS_GRACE),
            ("operator_patience_s", self.operator_patience, OPERATOR_PATIENCE),
            ("call_timeout_s", self.call_timeout, CALL),
            ("watch_timeout_s", self.watch_timeout, WATCH),
        ] {
            tell(key, span != default, span.as_secs().to_string());
        }
        for (key, number, default) in [
            ("pod_log_bytes_max", self.pod_log_bytes_max, POD_LOG_BYTES),
            ("pod_log_pods_max", self.pod_log_pods_max, POD_LOG_PODS),
        ] {
            tell(key, number as u64 != default, number.to_string());
        }
    }
}

/// Defaults.
pub(super) const JOBS: u64 = 1_000;
const STOP_GRACE: Duration = Duration::from_secs(30);
const LIVENESS_GRACE: Duration = Duration::from_mins(5);
const OPERATOR_PATIENCE: Duration = Duration::from_mins(1);
const CALL: Duration = Duration::from_secs(30);
const WATCH: Duration = Duration::from_mins(1);
const POD_LOG_BYTES: u64 = 256 << 10;
const POD_LOG_PODS: u64 = 16;

/// Reads its keys.
pub(super) fn kuberay(t: &mut Table<'_, '_>) -> Option<KubeRayCluster> {
    let namespace = t.parsed("namespace", |text| {
        text.parse::<ClusterId>().map(|_| text.to_owned()).map_err(|_| format!("{text:?} is no namespace"))
    });
    if namespace.is_none() && !t.is_set("namespace") {
        t.missing("namespace", "add the namespace for its RayJobs, such as namespace = \"ray\"");
    }
    let access = access(t);
    let template = template(t);
    let cluster = KubeRayCluster {
        access: access.clone().unwrap_or(Access::InCluster),
        namespace: namespace.clone().unwrap_or_default(),
        template: template.clone().unwrap_or(TemplateSource::Inline(String::new())),
        node_selector: t.text("node_selector").map(str::to_owned),
        stop_grace: t.span_or("stop_grace_s", STOP_GRACE, secs(0, 3_600)),
        liveness_grace: t.span_or("liveness_grace_s", LIVENESS_GRACE, secs(1, 86_400)),
        operator_patience: t.span_or("operator_patience_s", OPERATOR_PATIENCE, secs(5, 3_600)),
        call_timeout: t.span_or("call_timeout_s", CALL, secs(1, 600)),
        watch_timeout: t.span_or("watch_timeout_s", WATCH, secs(5, 3_600)),
        pod_log_bytes_max: to_usize(t.integer_or("pod_log_bytes_max", POD_LOG_BYTES, 1 << 10..=4 << 20)),
        pod_log_pods_max: to_usize(t.integer_or("pod_log_pods_max", POD_LOG_PODS, 1..=1_000)),
    };
    (access.is_some() && namespace.is_some() && template.is_some()).then_some(cluster)
}

fn access(t: &mut Table<'_, '_>) -> Option<Access> {
    let in_cluster = t.switch_or("in_cluster", false);
    let path = t.text("kubeconfig").map(|path| t.sources().path(path));
    let context = t.text("context").map(str::to_owned);
    if in_cluster && path.is_some() {
        t.complain("in_cluster", "stands beside kubeconfig: keep one of the two");
    }
    if in_cluster {
        return Some(Access::InCluster);
    }
    let Some(path) = path else {
        if !t.is_set("kubeconfig") {
            t.missing("kubeconfig", "add the file that says how to reach it, or in_cluster = true");
        }
        return None;
    };
    if t.sources().must_be_there() && !path.is_file() {
        t.complain("kubeconfig", format!("{} is not there", path.display()));
    }
    Some(Access::Kubeconfig { path, context })
}

/// An inline template is checked wherever the document is read; one in a file where the file must be.
fn template(t: &mut Table<'_, '_>) -> Option<TemplateSource> {
    let (inline, file) = (t.text("template").map(str::to_owned), t.text("template_file"));
    if inline.is_some() && file.is_some() {
        t.complain("template_file", "stands beside template: keep one of the two");
    }
    let (key, source) = match (inline, file) {
        (Some(text), _) => ("template", TemplateSource::Inline(text)),
        (None, Some(path)) => ("template_file", TemplateSource::File(t.sources().path(path))),
        (None, None) => {
            if !t.is_set("template") && !t.is_set("template_file") {
                t.missing(
                    "template_file",
                    "add the YAML file with the profiles of its RayJobs, or template with the text",
                );
            }
            return None;
        }
    };
    if matches!(source, TemplateSource::Inline(_)) || t.sources().must_be_there() {
        match source.read().map(|text| Template::parse(&text)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                for problem in error.problems {
                    let colon = if problem.path.is_empty() { "" } else { ": " };
                    t.complain(key, format!("{}{colon}{}", problem.path, problem.message));
                }
            }
            Err(message) => t.complain(key, message),
        }
    }
    Some(source)
}
