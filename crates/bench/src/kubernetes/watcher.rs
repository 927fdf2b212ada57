//! A process that only watches: through the driver, or, as the floor, with kube-rs's plain store of whole objects.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{self, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use yard_ports::{Driver, Observation};

use super::crowd::Crowd;
use super::place::{connect, driver};
use super::{kubeconfig, node_label};
use crate::process::{Process, say_and_wait};
use crate::{Plan, Result};

/// Where the measured process finds its namespace.
const NAMESPACE: &str = "YARD_BENCH_NAMESPACE";
/// What the driver asks of pods: those that run nowhere, or no more, take nothing.
const PODS: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
/// How often a dispatcher asks for the capacity.
const ASKED_EVERY: Duration = Duration::from_secs(5);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Watch {
    /// What of.
    what: What,
    /// Kept whole by kube-rs alone.
    #[arg(long)]
    floor: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    Jobs,
    Capacity,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::Capacity => "capacity",
        }
    }
}

/// What a process took that watched.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    /// From the start of the watch until everything was known, in seconds.
    pub first_s: f64,
    /// Of which it calculated.
    pub first_cpu_s: f64,
    /// Memory beyond that of a process with a connection, after a while, in MB.
    pub memory: f64,
    /// The most that it was.
    pub peak: f64,
    /// Hundredths of a core while nothing happened.
    pub quiet: f64,
    /// The same while pods came and went.
    pub busy: f64,
    /// How many changes per second that were.
    pub changes: f64,
}

/// Measures one that watches what there is, also while pods of `churn` come and go.
pub async fn measure(
    plan: &Plan,
    namespace: &str,
    what: What,
    floor: bool,
    churn: Option<&Crowd<'_>>,
) -> Result<Taken> {
    let mut arguments = vec!["watch-child", what.name()];
    arguments.extend(floor.then_some("--floor"));
    let mut process = Process::start(&arguments, &[(NAMESPACE, namespace)])?;
    process.says("connected").await?;
    let (before, cpu) = (process.resident()?, process.cpu_s()?);
    let began = Instant::now();
    process.go_on().await?;
    process.says("complete").await?;
    let (first_s, first_cpu_s) = (began.elapsed().as_secs_f64(), process.cpu_s()? - cpu);
    let span = Duration::from_secs(plan.pick(30, 3) as u64);
    let share = async |churn: Option<&Crowd<'_>>| {
        let (began, cpu) = (Instant::now(), process.cpu_s()?);
        let changes = if let Some(crowd) = churn {
            crowd.churn(span).await?
        } else {
            tokio::time::sleep(span).await;
            0.0
        };
        let share = (process.cpu_s()? - cpu) / began.elapsed().as_secs_f64() * 100.0;
        Ok::<_, crate::Failure>((share, changes))
    };
    let (quiet, _) = share(None).await?;
    let (busy, changes) = if churn.is_some() { share(churn).await? } else { (f64::NAN, 0.0) };
    let (memory, peak) = (process.resident()? - before, process.peak()? - before);
    process.end().await?;
    Ok(Taken { first_s, first_cpu_s, memory, peak, quiet, busy, changes })
}

/// The measured process. What goes wrong it says where the one that measures listens.
pub async fn child(watch: Watch) -> Result<()> {
    watch_on(watch).await.inspect_err(|error| println!("{error}"))
}

async fn watch_on(watch: Watch) -> Result<()> {
    let path = kubeconfig().ok_or("no kubeconfig")?;
    let namespace = std::env::var(NAMESPACE)?;
    let client = connect(&path).await?;
    client.apiserver_version().await?;
    let driver = driver(&path, &namespace, Some(node_label(&namespace)))?;
    say_and_wait("connected").await?;
    let watching = match (watch.what, watch.floor) {
        (What::Jobs, false) => tokio::spawn(async move {
            let mut seen = driver.observe();
            while let Some(item) = seen.next().await {
                if matches!(item?, Observation::Full(_)) {
                    println!("complete");
                }
            }
            Ok(())
        }),
        (What::Capacity, false) => tokio::spawn(async move {
            driver.capacity().await?.ok_or("no capacity")?;
            println!("complete");
            loop {
                tokio::time::sleep(ASKED_EVERY).await;
                driver.capacity().await?;
            }
        }),
        (What::Jobs, true) => tokio::spawn(async move { floor_of_jobs(client, &namespace).await }),
        (What::Capacity, true) => {
            tokio::spawn(async move { Box::pin(floor_of_capacity(client, &namespace)).await })
        }
    };
    tokio::select! {
        ended = watching => ended?,
        told = tokio::task::spawn_blocking(|| std::io::Read::read_exact(&mut std::io::stdin(), &mut [0])) => Ok(told??),
    }
}

async fn floor_of_jobs(client: Client, namespace: &str) -> Result<()> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("ray.io", "v1", "RayJob"));
    let api = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
    let (known, stream) =
        kept(api, watcher::Config::default().labels("yard.instance"), Writer::new(resource));
    complete_and_on(async move { Ok(known.wait_until_ready().await?) }, stream).await
}

async fn floor_of_capacity(client: Client, namespace: &str) -> Result<()> {
    let nodes = watcher::Config::default().labels(&node_label(namespace));
    let (known_nodes, nodes) = kept(Api::<Node>::all(client.clone()), nodes, Writer::default());
    let pods = watcher::Config::default().fields(PODS);
    let (known_pods, pods) = kept(Api::<Pod>::all(client), pods, Writer::default());
    let ready = async move {
        known_nodes.wait_until_ready().await?;
        Ok(known_pods.wait_until_ready().await?)
    };
    Box::pin(complete_and_on(ready, futures::stream::select(nodes, pods))).await
}

/// A store of whole objects, and the stream that keeps it.
fn kept<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
) -> (Store<K>, impl Stream<Item = ()> + Send)
where
    K: Resource + Clone + std::fmt::Debug + Send + Sync + serde::de::DeserializeOwned + 'static,
    K::DynamicType: Eq + std::hash::Hash + Clone + Send + Sync,
{
    let store = writer.as_reader();
    let stream = reflector::reflector(writer, watcher::watcher(api, config).default_backoff());
    (store, stream.map(drop))
}

/// Says so when everything is known, and goes on without end.
async fn complete_and_on(
    ready: impl Future<Output = Result<()>>,
    stream: impl Stream<Item = ()>,
) -> Result<()> {
    let say = async {
        ready.await?;
        println!("complete");
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        ended = say => ended,
        () = stream.for_each(|()| std::future::ready(())) => Err("the watch has ended".into()),
    }
}
