//! A real Ray cluster on this machine: a head of declared size, on loopback, with a token (docs/facts/ray-2.60.md).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::folder::Folder;
use super::server::{Launch, Server, ServerError};

const START_TIMEOUT: Duration = Duration::from_mins(3);
/// The drain is switched off, so it ends soon or not at all.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Ray's own minimum is 78,643,200.
const OBJECT_STORE_BYTES: u64 = 80_000_000;
const PORTS: usize = 7;

/// A head to be started. Sizes are what it offers to jobs, whatever this machine has.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSpec {
    /// The cluster's id.
    pub cluster: &'static str,
    /// CPUs.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Custom resources.
    pub custom: BTreeMap<&'static str, u32>,
    /// Labels of its node.
    pub labels: BTreeMap<&'static str, &'static str>,
}

/// A running head.
#[derive(Debug)]
pub struct RayHead {
    /// The URL of its dashboard.
    pub address: String,
    /// The file with its token.
    pub token_file: PathBuf,
    /// Whether it was there already: its jobs have gone on.
    pub taken_over: bool,
}

impl RayHead {
    /// Starts a head, or takes over the one of an earlier `yard dev` that is alive and well.
    pub async fn start(
        folder: &Folder,
        python: &Path,
        spec: &HeadSpec,
        http: &reqwest::Client,
    ) -> Result<Self, ServerError> {
        let name = name_of(spec.cluster);
        let fail = |source| ServerError::Start { name: name.clone(), source };
        let token_file = folder.token_file(&name).map_err(fail)?;
        let token = std::fs::read_to_string(&token_file).map_err(fail)?;
        if let Some(mut server) = Server::find(folder, &name) {
            let address = address(&server);
            if server.is_alive() && is_ready(http, &address, &token).await {
                return Ok(Self { address, token_file, taken_over: true });
            }
            // Alive and not well: it goes, and what doesn't go is reported when the new one starts.
            _ = server.stop(STOP_GRACE).await;
        }
        let launch = Self::launch(folder, python, spec, &name, &token).map_err(fail)?;
        let mut server = Server::launch(folder, launch).await?;
        let address = address(&server);
        if let Err(error) =
            server.wait_ready(START_TIMEOUT, async || is_ready(http, &address, &token).await).await
        {
            _ = server.stop(Duration::ZERO).await;
            return Err(error);
        }
        Ok(Self { address, token_file, taken_over: false })
    }

    fn launch<'a>(
        folder: &Folder,
        python: &'a Path,
        spec: &HeadSpec,
        name: &'a str,
        token: &str,
    ) -> io::Result<Launch<'a>> {
        let ports = folder.ports(name, PORTS)?;
        let short = folder.short_path(spec.cluster)?;
        let environment = vec![
            ("RAY_AUTH_MODE", "token".into()),
            ("RAY_AUTH_TOKEN", token.into()),
            ("RAY_USAGE_STATS_ENABLED", "0".into()),
            // Without this Ray replaces 127.0.0.1 by an outer address and listens on all.
            ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0".into()),
            // Otherwise fixed ports, which the other head would want too.
            ("DASHBOARD_METRIC_PORT", ports[5].to_string().into()),
            ("AUTOSCALER_METRIC_PORT", ports[6].to_string().into()),
            // Otherwise a stop waits up to half a minute for a drain.
            ("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "0".into()),
            ("RAY_TMPDIR", short.clone().into()),
            // A job's `python` must be the one that has Ray.
            ("PATH", path_with(python.parent().unwrap_or(Path::new("/")))),
        ];
        let arguments = arguments(spec, &ports, &short.join("r"));
        Ok(Launch { name, python, arguments, environment, ports })
    }
}

/// Ends the head of `cluster` with all its jobs, if it runs.
pub async fn stop(folder: &Folder, cluster: &str) -> io::Result<()> {
    Server::end(folder, &name_of(cluster), STOP_GRACE).await?;
    folder.remove_short_path(cluster)
}

fn name_of(cluster: &str) -> String {
    format!("ray-{cluster}")
}

fn arguments(spec: &HeadSpec, ports: &[u16], temp_dir: &Path) -> Vec<OsString> {
    let host = Ipv4Addr::LOCALHOST;
    let resources = serde_json::to_string(&spec.custom).unwrap_or_default();
    let labels: Vec<String> = spec.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut arguments: Vec<OsString> =
        ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
            .map(Into::into)
            .to_vec();
    let options = [
        format!("--node-ip-address={host}"),
        format!("--port={}", ports[0]),
        format!("--dashboard-host={host}"),
        format!("--dashboard-port={}", ports[1]),
        format!("--dashboard-agent-listen-port={}", ports[2]),
        format!("--ray-client-server-port={}", ports[3]),
        format!("--metrics-export-port={}", ports[4]),
        // 0 to 0: each worker takes whatever port is free.
        "--min-worker-port=0".to_owned(),
        "--max-worker-port=0".to_owned(),
        format!("--num-cpus={}", spec.cpus),
        "--num-gpus=0".to_owned(),
        format!("--memory={}", spec.memory_bytes),
        format!("--object-store-memory={OBJECT_STORE_BYTES}"),
        format!("--resources={resources}"),
        format!("--labels={}", labels.join(",")),
        "--include-log-monitor=false".to_owned(),
    ];
    arguments.extend(options.into_iter().filter(|option| !option.ends_with('=')).map(OsString::from));
    let mut option = OsString::from("--temp-dir=");
    option.push(temp_dir);
    arguments.push(option);
    arguments
}

fn path_with(first: &Path) -> OsString {
    let mut path = first.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

fn address(server: &Server) -> String {
    format!("http://{}:{}", Ipv4Addr::LOCALHOST, server.ports().get(1).copied().unwrap_or_default())
}

/// Whether it lists jobs, and has a node to run them.
async fn is_ready(http: &reqwest::Client, address: &str, token: &str) -> bool {
    let get = async |path: &str| {
        let request = http.get(format!("{address}{path}")).bearer_auth(token).timeout(Duration::from_secs(5));
        request.send().await.ok()?.error_for_status().ok()?.json::<Value>().await.ok()
    };
    if get("/api/version").await.is_none() || get("/api/jobs/").await.is_none() {
        return false;
    }
    let nodes = get("/nodes?view=summary").await.unwrap_or_default();
    nodes["data"]["summary"].as_array().is_some_and(|all| all.iter().any(|n| n["raylet"]["state"] == "ALIVE"))
}
