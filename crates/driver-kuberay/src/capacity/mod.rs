//! What there is for our pods: nodes less what pods of others ask for, kept by two watches.

mod board;
mod lean;

use std::collections::HashSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tracing::{debug, info};
use yard_domain::{Capacity, GpuBlocks};
use yard_ports::DriverError;

use crate::client::kind_of;
use crate::cluster::Cluster;
use crate::config::KubeRayConfig;
use board::{Board, Resources, Summary};
use lean::{Node, Pod};

/// The watches; begun when somebody asks first.
#[derive(Default)]
pub(crate) struct Watched {
    begun: Mutex<Option<Begun>>,
    told: Mutex<Summary>,
}

#[derive(Clone)]
struct Begun {
    known: watch::Receiver<Known>,
    /// Summed up when somebody asks: pods come and go far more often.
    state: Arc<Mutex<State>>,
}

/// How far the watches are.
#[derive(Clone, Default)]
struct Known {
    /// Whether both have brought everything once.
    complete: bool,
    /// What went wrong last, until something goes right.
    error: Option<DriverError>,
}

/// What there is now. The first to ask waits for the watches.
pub(crate) async fn read(cluster: &Arc<Cluster>) -> Result<Option<Capacity>, DriverError> {
    let Begun { mut known, state } = begin(cluster);
    let ready = known.wait_for(|known| known.complete || known.error.is_some());
    let Ok(Ok(known)) =
        tokio::time::timeout(cluster.config.list_timeout, ready).await.map(|r| r.map(|k| k.clone()))
    else {
        return Ok(None);
    };
    match known {
        Known { complete: true, .. } => {
            let summary = lock(&state).board.summary();
            tell(cluster, &summary);
            Ok(Some(Capacity(summary.capacity)))
        }
        Known { error: Some(error), .. } => Err(error),
        Known { .. } => Ok(None),
    }
}

/// How GPUs lie, by kind, as [`read`] saw it last.
pub(crate) fn gpu_blocks(cluster: &Cluster) -> Vec<GpuBlocks> {
    let told = cluster.watched.told.lock().unwrap_or_else(PoisonError::into_inner);
    told.gpus.values().cloned().collect()
}

fn begin(cluster: &Arc<Cluster>) -> Begun {
    let mut begun = cluster.watched.begun.lock().unwrap_or_else(PoisonError::into_inner);
    // Watches that ended (with their runtime) are begun anew.
    if let Some(begun) = begun.as_ref().filter(|begun| begun.known.has_changed().is_ok()) {
        return begun.clone();
    }
    let (sender, known) = watch::channel(Known::default());
    let state = Arc::new(Mutex::new(State::new(&cluster.config)));
    tokio::spawn(keep(Arc::downgrade(cluster), Arc::clone(&state), sender));
    begun.insert(Begun { known, state }).clone()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says how GPUs lie, when that has changed.
fn tell(cluster: &Cluster, summary: &Summary) {
    let mut told = cluster.watched.told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.gpus == summary.gpus {
        return;
    }
    for (kind, gpus) in &summary.gpus {
        let name = &cluster.config.name;
        let shown = [("capacity", gpus.capacity), ("free", gpus.free), ("largest_block", gpus.largest_free)];
        for (what, milli) in shown {
            let labels =
                [("cluster", name.clone()), ("gpu_type", kind.to_string()), ("what", what.to_owned())];
            metrics::gauge!("yard_kuberay_gpus", &labels).set(milli as f64 / 1_000.0);
        }
        info!(gpu_type = %kind, "{gpus}");
    }
    *told = summary.clone();
}

/// Runs both watches until the driver or the last who asked is gone.
async fn keep(cluster: Weak<Cluster>, state: Arc<Mutex<State>>, known: watch::Sender<Known>) {
    let Some((client, config)) = ({
        let Some(cluster) = cluster.upgrade() else { return };
        match cluster.api.client().await {
            Ok(client) => Some((client, cluster.config.clone())),
            Err(error) => {
                known.send_modify(|known| known.error = Some(error));
                None
            }
        }
    }) else {
        return;
    };
    let longest = u32::try_from(config.watch_timeout.as_secs()).unwrap_or(u32::MAX).max(1);
    let base = watcher::Config::default().timeout(longest);
    let nodes = match &config.node_selector {
        Some(selector) => base.clone().labels(selector),
        None => base.clone(),
    };
    // Pods that run nowhere, or no more, take nothing.
    let pods = base.fields("spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed");
    let nodes = watcher::watcher(Api::<Node>::all(client.clone()), nodes).default_backoff();
    let pods = watcher::watcher(Api::<Pod>::all(client), pods).default_backoff();
    let (mut nodes, mut pods) = (pin!(nodes), pin!(pods));
    let mut tick = tokio::time::interval(config.probe_interval);
    loop {
        let error = tokio::select! {
            Some(event) = nodes.next() => event.map(|event| lock(&state).node(event)).err(),
            Some(event) = pods.next() => event.map(|event| lock(&state).pod(event)).err(),
            _ = tick.tick() => {
                let Some(cluster) = cluster.upgrade() else { return };
                drop(cluster);
                None
            }
            () = known.closed() => return,
        };
        if let Some(error) = error {
            let error = watch_error(&error);
            debug!(%error, "a watch for the capacity failed");
            if matches!(error, DriverError::Unauthorized(_)) {
                // Begun anew, with credentials of then.
                known.send_modify(|known| *known = Known { complete: false, error: Some(error) });
                if let Some(cluster) = cluster.upgrade() {
                    cluster.api.renew().await;
                }
                return;
            }
            known.send_modify(|known| known.error = Some(error));
        } else if !known.borrow().is_well() && lock(&state).is_complete() {
            if !known.borrow().complete {
                let (nodes, pods) = lock(&state).board.counts();
                info!(nodes, pods, "read what the cluster's nodes have and what takes it");
            }
            known.send_modify(|known| *known = Known { complete: true, error: None });
        }
    }
}

impl Known {
    fn is_well(&self) -> bool {
        self.complete && self.error.is_none()
    }
}

/// The board, and how far its lists are.
struct State {
    board: Board,
    /// Where our pods are.
    namespace: String,
    nodes_listed: Option<HashSet<String>>,
    pods_listed: Option<HashSet<u128>>,
    have_nodes: bool,
    have_pods: bool,
}

impl State {
    fn new(config: &KubeRayConfig) -> Self {
        Self {
            board: Board::new(Resources::of(&config.template)),
            namespace: config.namespace.clone(),
            nodes_listed: None,
            pods_listed: None,
            have_nodes: false,
            have_pods: false,
        }
    }

    fn is_complete(&self) -> bool {
        self.have_nodes && self.have_pods
    }

    fn node(&mut self, event: Event<Node>) {
        match event {
            Event::Init => self.nodes_listed = Some(HashSet::new()),
            Event::InitApply(node) => {
                self.set_node(&node);
                if let Some(listed) = &mut self.nodes_listed {
                    listed.insert(node.name_any());
                }
            }
            Event::Apply(node) => self.set_node(&node),
            Event::Delete(node) => self.board.remove_node(&node.name_any()),
            Event::InitDone => {
                self.have_nodes = true;
                if let Some(listed) = self.nodes_listed.take() {
                    self.board.keep_nodes(&listed);
                }
            }
        }
    }

    fn set_node(&mut self, node: &Node) {
        let allocatable = node.allocatable(self.board.resources());
        self.board.set_node(&node.name_any(), allocatable, node.is_usable(), node.gpu_type());
    }

    fn pod(&mut self, event: Event<Pod>) {
        match event {
            Event::Init => self.pods_listed = Some(HashSet::new()),
            Event::InitApply(pod) => {
                self.set_pod(&pod);
                if let (Some(listed), Some(uid)) = (&mut self.pods_listed, pod.uid()) {
                    listed.insert(uid);
                }
            }
            Event::Apply(pod) => self.set_pod(&pod),
            Event::Delete(pod) => {
                if let Some(uid) = pod.uid() {
                    self.board.remove_pod(uid);
                }
            }
            Event::InitDone => {
                self.have_pods = true;
                if let Some(listed) = self.pods_listed.take() {
                    self.board.keep_pods(&listed);
                }
            }
        }
    }

    fn set_pod(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        match pod.node() {
            Some(node) => {
                let amounts = pod.amounts(self.board.resources());
                self.board.set_pod(uid, node, pod.is_ours(&self.namespace), amounts);
            }
            None => self.board.remove_pod(uid),
        }
    }
}

fn watch_error(error: &watcher::Error) -> DriverError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => kind_of(error),
        watcher::Error::WatchError(status) => kind_of(&kube::Error::Api(status.clone())),
        watcher::Error::NoResourceVersion => DriverError::Unclear(error.to_string()),
    }
}
