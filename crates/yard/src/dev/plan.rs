//! The configuration that `yard dev` makes up for itself. It goes the way of any other: as text through the parser.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use yard_inbox_sqs::SqsCredentials;

use super::env::{DevEnv, cluster_specs};
use super::folder::Folder;
use super::ministack::QUEUE;
use super::rayhead::HeadSpec;
use crate::config::{Config, Environment};

const FILE: &str = "yard.toml";

/// Three teams whose quotas together are more than the clusters have, and one of which is tight.
const TEAMS: &str = r#"
[[team]]
id = "ads"
weight = 2
quota = { cpu = 3, jobs = 10 }

[[team]]
id = "search"
quota = { cpu = 2 }

[[team]]
id = "research"
quota = { cpu = 1, memory = "2GiB" }
"#;

/// The configuration for `env`, also written to `.yard/yard.toml` for people to read.
pub fn config(folder: &Folder, env: &DevEnv, listen: SocketAddr) -> Result<Config, String> {
    // Made before the parser looks for it.
    let (token_file, _) = folder.operator_token().map_err(|e| format!("no token can be kept: {e}"))?;
    let text = text(env, listen, &token_file).map_err(|e| e.to_string())?;
    let path = folder.path(FILE);
    fs::write(&path, &text).map_err(|e| format!("{} can't be written: {e}", path.display()))?;
    let name = path.display().to_string();
    let config = Config::parse(&name, &text, &folder.path(""), &log_settings(Environment::of_process()));
    let mut config = config.map_err(|errors| errors.to_string())?;
    for queue in &mut config.queues {
        queue.sqs.endpoint.credentials = SqsCredentials::Local;
    }
    Ok(config)
}

/// Of the environment only what is about the log: `YARD__DATABASE__URL` is set for some real installation, whose database
/// is none of `yard dev`'s.
fn log_settings(mut environment: Environment) -> Environment {
    environment.0.retain(|name, _| name.starts_with("YARD__LOG__"));
    environment
}

fn text(env: &DevEnv, listen: SocketAddr, token_file: &Path) -> Result<String, std::fmt::Error> {
    let mut text = String::from("# Written by `yard dev` at every start: to read, not to change.\n");
    writeln!(text, "[server]\nlisten = \"{listen}\"\ndrain_timeout_s = 5\n")?;
    writeln!(text, "[access]\nbootstrap_token_file = {}\n", quoted(&token_file.display().to_string()))?;
    writeln!(text, "[database]\nurl = \"sqlite:yard.db\"\n")?;
    writeln!(text, "[ray_api]\ndefault_team = \"ads\"\n")?;
    writeln!(text, "[dispatcher]\ncluster_lost_grace_s = 60")?;
    if let Some(queue) = &env.queue {
        writeln!(text, "\n[[queue]]\nname = {}\nurl = {}", quoted(QUEUE), quoted(&queue.queue_url))?;
        writeln!(text, "endpoint = {}", quoted(queue.endpoint.url.as_deref().unwrap_or_default()))?;
        writeln!(text, "dead_letter_url = {}\nwait_s = 5", quoted(&queue.dead_letter_url))?;
    }
    text.push_str(TEAMS);
    for (i, spec) in cluster_specs().iter().enumerate() {
        writeln!(text, "\n[[cluster]]\nid = {}\n{}", quoted(spec.cluster), size(spec))?;
        match env.heads.get(i) {
            Some(head) => {
                let token_file = head.token_file.display().to_string();
                writeln!(text, "driver = \"ray\"\naddress = {}", quoted(&head.address))?;
                writeln!(text, "token_file = {}\npoll_interval_ms = 500", quoted(&token_file))?;
            }
            None => writeln!(
                text,
                "driver = \"process\"\ndir = {}",
                quoted(&format!("processes/{}", spec.cluster))
            )?,
        }
    }
    Ok(text)
}

fn size(spec: &HeadSpec) -> String {
    let table = |entries: Vec<String>| format!("{{ {} }}", entries.join(", "));
    let custom = table(spec.custom.iter().map(|(name, amount)| format!("{name} = {amount}")).collect());
    let labels =
        table(spec.labels.iter().map(|(name, value)| format!("{name} = {}", quoted(value))).collect());
    let (cpus, memory) = (spec.cpus, spec.memory_bytes);
    format!("labels = {labels}\ncapacity = {{ cpu = {cpus}, memory = {memory}, custom = {custom} }}")
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use yard_inbox_sqs::SqsEndpoint;

    use super::super::ministack::MiniStack;
    use super::super::rayhead::RayHead;
    use super::*;
    use crate::config::Summary;

    #[test]
    fn a_real_installations_settings_are_left_alone() {
        let set = |name: &str| (name.to_owned(), "x".to_owned());
        let all = Environment([set("YARD__DATABASE__URL"), set("YARD__LOG__FILTER"), set("PATH")].into());
        assert_eq!(log_settings(all), Environment([set("YARD__LOG__FILTER")].into()));
    }

    #[test]
    fn what_is_made_up_is_valid_with_and_without_ray() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("a \"b\"/.yard")).unwrap();
        let listen = "127.0.0.1:8920".parse().unwrap();
        let plain = config(&folder, &DevEnv { queue: None, heads: Vec::new() }, listen).unwrap();
        assert_eq!((plain.queues.len(), plain.teams().len(), plain.clusters().len()), (0, 3, 2));
        let head = |name: &str, port: u16| RayHead {
            address: format!("http://127.0.0.1:{port}"),
            token_file: folder.token_file(name).unwrap(),
            taken_over: false,
        };
        let queue = MiniStack {
            endpoint: SqsEndpoint {
                url: Some("http://127.0.0.1:12346".to_owned()),
                ..SqsEndpoint::default()
            },
            queue_url: "http://127.0.0.1:12346/000000000000/submissions".to_owned(),
            dead_letter_url: "http://127.0.0.1:12346/000000000000/submissions-dead".to_owned(),
        };
        let env =
            DevEnv { queue: Some(queue), heads: vec![head("ray-east", 12345), head("ray-west", 12347)] };
        let config = config(&folder, &env, listen).unwrap();
        assert_eq!(config.queues[0].sqs.endpoint.credentials, SqsCredentials::Local);
        let shown = Summary(&config).to_string().replace(&folder.path("").display().to_string(), "FOLDER/");
        insta::assert_snapshot!(shown);
    }
}
