//! `yard render`: the RayJob that a job would become on a Kubernetes cluster.

use std::path::{Path, PathBuf};

use yard_cli::client::Client;
use yard_cli::commands::jobs::{fetch, resolve};
use yard_domain::{AttemptNumber, InstanceId, JobId};
use yard_wire::views::CatalogVersionView;
use yard_wire::{Admission, Intake, Source};

use crate::compose;
use crate::config::{Config, Declared, DriverConfig, read_catalog};

/// What is rendered, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A submission's file (- reads standard input), or a job of the server: its id, or TEAM/KEY.
    #[arg(value_name = "JOB|FILE")]
    what: String,
    /// On which cluster; its driver must be kuberay.
    #[arg(long)]
    cluster: String,
    /// The configuration file.
    #[arg(long, default_value = "yard.toml")]
    pub config: PathBuf,
}

/// The RayJob as YAML; an error is a text for people.
pub async fn run(args: &Args, config: &Config, global: &yard_cli::Global) -> Result<String, String> {
    let declared = match &config.catalog {
        Some(declared) => declared.clone(),
        None => in_force(config, global).await?,
    };
    let cluster =
        declared.clusters.iter().find(|c| c.cluster.id.as_str() == args.cluster).ok_or_else(|| {
            let known: Vec<_> = declared.clusters.iter().map(|c| c.cluster.id.as_str()).collect();
            format!("there is no cluster {:?}; there are: {}", args.cluster, known.join(", "))
        })?;
    let DriverConfig::KubeRay(kuberay) = &cluster.driver else {
        let driver = &cluster.cluster.driver;
        return Err(format!(
            "cluster {} is driven by {driver}: only kuberay clusters have RayJobs",
            args.cluster
        ));
    };
    let (text, id, attempt) = document(&args.what, global).await?;
    let admission = Admission::new(declared.catalog.clone(), compose::doors(config));
    let intake = Intake { admission: &admission, limits: &config.limits, defaults: &config.defaults };
    let source = Source {
        door: "http".to_owned(),
        message_id: "render".to_owned(),
        sent_at: None,
        key: None,
        by: None,
    };
    let job = intake.arrival(&text, &source, id).content.map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        format!("the submission is not accepted:\n{}", lines.join("\n"))
    })?;
    let request = yard_wire::launch::preview(&job, attempt, InstanceId(uuid::Uuid::nil()))
        .map_err(|e| e.to_string())?;
    let config = kuberay.driver_config(&cluster.cluster.id, &kuberay.template.read()?)?;
    yard_driver_kuberay::render_yaml(&config, &request)
        .map_err(|why| format!("cluster {} refuses it: {why}", args.cluster))
}

/// The catalog that `yard apply` put in force.
async fn in_force(config: &Config, global: &yard_cli::Global) -> Result<Declared, String> {
    let client = Client::new(global).map_err(|failure| failure.message)?;
    let answer = client.get(&["v1", "catalog"], &[]).await.map_err(|failure| failure.message)?;
    let view: CatalogVersionView = serde_json::from_value(answer)
        .map_err(|e| format!("the server's answer is of another version: {e}"))?;
    let text = view.text.ok_or("the server's answer is of another version: the catalog has no text")?;
    read_catalog("the catalog in force", &text, &config.folder).map_err(|e| e.to_string())
}

/// The submission, which job it is, and which attempt.
async fn document(what: &str, global: &yard_cli::Global) -> Result<(Vec<u8>, JobId, AttemptNumber), String> {
    let nobody = (JobId(uuid::Uuid::nil()), AttemptNumber(1));
    if what == "-" {
        let text = std::io::read_to_string(std::io::stdin()).map_err(|e| format!("standard input: {e}"))?;
        return Ok((text.into_bytes(), nobody.0, nobody.1));
    }
    let is_job = what.parse::<JobId>().is_ok() || (!Path::new(what).exists() && what.split('/').count() == 2);
    if !is_job {
        let text = std::fs::read(what).map_err(|e| format!("{what} can't be read: {e}"))?;
        return Ok((text, nobody.0, nobody.1));
    }
    let client = Client::new(global).map_err(|failure| failure.message)?;
    let id = resolve(what, &client).await.map_err(|failure| failure.message)?;
    let view = fetch(&id, &client).await.map_err(|failure| failure.message)?;
    let id = view.summary.id.parse().map_err(|_| format!("{} is no id of a job", view.summary.id))?;
    Ok((view.spec.to_string().into_bytes(), id, AttemptNumber(view.summary.attempt.max(1))))
}
