//! Catalogs: as documents of their own, and as a part of a configuration file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use yard_domain::{Elastic, SubmitRate};

use super::super::{Config, ConfigErrors, DriverConfig, Environment, SecretSource};
use super::*;

const REST: &str = "[database]\nurl = \"sqlite:yard.db\"\n";
const LEAST: &str =
    "[[team]]\nid = \"ads\"\n[[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://x\"\n";

fn read(text: &str) -> Result<Declared, ConfigErrors> {
    read_catalog("catalog.toml", text, Path::new("/etc/yard"))
}

fn environment(pairs: &[(&str, &str)]) -> Environment {
    Environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn configuration(text: &str, pairs: &[(&str, &str)]) -> Declared {
    let config = Config::parse("yard.toml", text, Path::new("/etc/yard"), &environment(pairs));
    config.unwrap_or_else(|e| panic!("{e}")).catalog.unwrap()
}

#[test]
fn the_sample_says_what_its_comments_say() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples/catalog.toml");
    let text = std::fs::read_to_string(path).unwrap();
    // The tokens are nowhere on this machine: they are only named.
    let Declared { catalog, clusters, text: kept, pushes } = read(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(kept, text);
    let told: Vec<_> = pushes.iter().map(|p| (p.id.to_string(), p.kinds.verdicts)).collect();
    assert_eq!(told, [("ads/results".to_owned(), true), ("ads/pager".to_owned(), false)]);
    let team = |id: &str| catalog.teams.iter().find(|t| t.id.as_str() == id).unwrap();
    assert_eq!(team("vision").cohort, Some("research".parse().unwrap()));
    assert_eq!((team("vision").quota.gpu_milli, team("vision").max.gpu_milli), (Some(32_000), Some(64_000)));
    assert_eq!(team("ads").submit_rate, Some(SubmitRate { per_minute: 600, burst: 100 }));
    let request = &team("search").request;
    assert_eq!(
        (request.cpu_milli, request.gpu_milli, request.memory_bytes),
        (Some(2_000), None, Some(4 << 30))
    );
    assert_eq!(team("sandbox").submit_rate, Some(SubmitRate { per_minute: 60, burst: 10 }));
    assert_eq!(catalog.cohorts[1].parent, Some("company".parse().unwrap()));
    let classes: Vec<_> = catalog.policy.classes.iter().map(|c| (c.id.as_str(), c.priority.get())).collect();
    assert_eq!(classes, [("urgent", 500), ("normal", 0), ("bulk", -1_000)]);
    assert_eq!(catalog.policy.half_life, Some(Duration::from_hours(24)));
    assert_eq!((catalog.policy.scores.cost_weight, catalog.policy.scores.queue_weight), (20, 5));
    let burst = &clusters[1].cluster;
    assert_eq!(burst.elastic, Some(Elastic { present: None, delay: Duration::from_mins(4) }));
    assert_eq!(burst.capacity.as_ref().unwrap().0.cpu_milli, 4_096_000);
    assert_eq!(burst.cost_per_hour_micro, Some(41_250_000));
    assert!(
        matches!(&clusters[0].driver, DriverConfig::Ray(r) if r.token == Some(SecretSource::Variable("EAST_TOKEN".to_owned())))
    );
    assert_eq!(catalog.clusters, clusters.iter().map(|c| c.cluster.clone()).collect::<Vec<_>>());
}

#[test]
fn everything_wrong_is_said_at_once_with_its_line() {
    let text = r#"[[team]]
id = "ads"
cohort = "nobody"
quota = { gpu = 4 }
max = { gpu = 2 }
submit_rate = { burst = 2 }
[[team]]
id = "alone"
max = { cpu = 3 }
[[cohort]]
id = "a"
parent = "b"
[[cohort]]
id = "b"
parent = "a"
[[cohort]]
id = "b"
[[priority_class]]
id = "high"
priority = 100
[[priority_class]]
id = "top"
priority = 100
[[priority_class]]
id = "low"
priority = 2000
[policy]
half_life_h = 3
[policy.score]
fit = "best"
cost_weight = -1
[[cluster]]
id = "east"
driver = "ray"
address = "http://x"
cost_per_hour = -2
capacity = { cpu = 1 }
elastic = { delay_s = 5, ceiling = { cpu = 4 } }
[[cluster]]
id = "west"
driver = "process"
dir = "x"
elastic = { delay_s = 5 }
[server]
listen = "127.0.0.1:1"
"#;
    insta::assert_snapshot!(read(text).unwrap_err().to_string());
}

#[test]
fn where_fit_has_gone_is_said() {
    let text = format!("{REST}{LEAST}[scheduler]\nfit = \"pack\"\n");
    let errors = Config::parse("yard.toml", &text, Path::new(""), &environment(&[])).unwrap_err();
    assert_eq!(errors.problems.len(), 1, "{errors}");
    assert!(errors.problems[0].message.contains("[policy.score]"), "{errors}");
}

#[test]
fn a_configuration_keeps_its_catalog_word_for_word() {
    let catalog = "# Who is charged.\n[[team]]\nid = \"ads\"  # the first\nquota = { cpu = 2 }\n\n\
        [[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://x\"\n[cluster.labels]\nnotes = \"\"\"\n[server]\n# no comment\n\"\"\"\n";
    let text = format!(
        "# Ours.\n{REST}\n{catalog}\n# The log.\n[log]\nformat = \"text\"\n\n[policy.score]\nfit = \"pack\"\n"
    );
    let declared = configuration(&text, &[]);
    assert_eq!(declared.text, format!("{catalog}\n[policy.score]\nfit = \"pack\"\n"));
    let again = read(&declared.text).unwrap();
    assert_eq!((again.catalog, again.clusters), (declared.catalog, declared.clusters));
}

#[test]
fn what_the_environment_overrides_is_written_into_the_document() {
    let text = format!(
        "team = [{{ id = \"ads\", quota = {{ cpu = 1 }} }}]\n{REST}[[cluster]]\nid = \"east-1\"\ndriver = \"ray\"\naddress = \"http://x\"\n"
    );
    let declared = configuration(
        &text,
        &[
            ("YARD__TEAM__ADS__QUOTA__MEMORY", "8GiB"),
            ("YARD__CLUSTER__EAST_1__ADDRESS", "http://y:8265"),
            ("YARD__CLUSTER__EAST_1__CAPACITY__CPU", "8"),
            ("YARD__DATABASE__POOL_MAX", "3"),
        ],
    );
    let again = read(&declared.text).unwrap();
    assert_eq!(again.catalog.teams[0].quota.memory_bytes, Some(8 << 30));
    assert!(matches!(&again.clusters[0].driver, DriverConfig::Ray(ray) if ray.address == "http://y:8265"));
    assert_eq!((again.catalog, again.clusters), (declared.catalog, declared.clusters));
    assert!(!declared.text.contains("database"), "{}", declared.text);
}

#[test]
fn a_configuration_may_leave_the_catalog_to_others() {
    let queue = "[[queue]]\nname = \"q\"\nteams = [\"whoever\"]\n";
    let config = Config::parse("yard.toml", &format!("{REST}{queue}"), Path::new(""), &environment(&[]));
    let config = config.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((config.catalog, config.queues.len()), (None, 1));
    // Half a catalog is a mistake.
    let half = Config::parse("yard.toml", &format!("{REST}[policy]\n"), Path::new(""), &environment(&[]));
    let errors = half.unwrap_err().to_string();
    assert!(errors.contains("[[team]]") && errors.contains("[[cluster]]"), "{errors}");
}

#[test]
fn two_clusters_in_one_place_are_refused() {
    let cluster = |id: &str, rest: &str| format!("[[cluster]]\nid = \"{id}\"\n{rest}\n");
    let template = "template = \"profiles: {p: {image: x}}\"";
    let kuberay = |namespace: &str| {
        format!("driver = \"kuberay\"\nkubeconfig = \"k\"\nnamespace = \"{namespace}\"\n{template}")
    };
    let process = |dir: &str| format!("driver = \"process\"\ndir = \"{dir}\"\ncapacity = {{ cpu = 1 }}");
    let text = [
        LEAST.to_owned(),
        cluster("east-too", "driver = \"ray\"\naddress = \"http://x/\""),
        cluster("k1", &kuberay("ml")),
        cluster("k2", &kuberay("ml")),
        cluster("k3", &kuberay("other")),
        cluster("p1", &process("here")),
        cluster("p2", &process("/etc/yard/here")),
        cluster("p3", &process("there")),
    ];
    let found: Vec<_> =
        read(&text.concat()).unwrap_err().problems.into_iter().map(|p| (p.key, p.message)).collect();
    let told = |id: &str, key: &str, place: &str, other: &str| {
        let message =
            format!("{place} is where {other} is: each would end the other's jobs, so give each its own");
        (format!("cluster {id}.{key}"), message)
    };
    let expected = [
        told("east-too", "address", "http://x", "east"),
        told("k2", "namespace", "namespace ml by /etc/yard/k", "k1"),
        told("p2", "dir", "/etc/yard/here", "p1"),
    ];
    assert_eq!(found, expected);
}
