//! What the parser accepts, what it says of mistakes, and that samples and documentation keep to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;

const MINIMAL: &str = r#"
[database]
url = "sqlite:yard.db"
[[team]]
id = "ads"
[[cluster]]
id = "east"
driver = "ray"
address = "http://10.0.0.5:8265"
"#;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    Environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
}

fn parse_with(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::parse("yard.toml", text, Path::new("/etc/yard"), &environment(pairs))
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, &[])
}

/// The messages about `text`, one line each, without the count.
fn complaints(text: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let errors = parse_with(text, pairs).unwrap_err().to_string();
    let mut lines: Vec<String> = errors.lines().map(str::to_owned).collect();
    let count = lines.pop().unwrap();
    assert!(count.starts_with(&format!("{} problem", lines.len())), "{count}: {lines:?}");
    lines
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn a_minimal_file_gets_every_default() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8920");
    assert_eq!(config.database.url, DatabaseUrl::Sqlite("/etc/yard/yard.db".into()));
    assert_eq!(config.scheduler, SchedulerSettings::default());
    assert_eq!(config.dispatcher, DispatcherSettings::default());
    assert_eq!(config.limits, yard_wire::Limits::default());
    assert_eq!((config.teams()[0].weight, config.queues.len()), (1, 0));
    let east = &config.clusters()[0];
    assert_eq!((east.jobs_max, &east.cluster.capacity), (100, &None));
    assert_eq!(east.launch, yard_engine::settings::LaunchLimits::default());
}

#[test]
fn every_mistake_is_reported_at_once_with_line_and_fix() {
    let text = r#"[server]
listen = "everywhere"
[databse]
url = "sqlite:yard.db"
[scheduler]
lease_ttl_ms = 1000
lease_margin_ms = 900
pas_interval_ms = 10
sweep_interval_ms = "often"
[[team]]
id = "Ads"
quota = { cpu = -1, memory = "8GB", gpus = 2 }
[[team]]
id = "search"
[[team]]
id = "search"
[[queue]]
name = "main"
teams = ["search", "sales"]
[[cluster]]
id = "east"
driver = "slurm"
[[cluster]]
id = "west"
driver = "process"
capacity = { gpu = 1 }
"#;
    let lines = complaints(text, &[]);
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn text_that_is_no_toml_names_every_broken_line() {
    let lines = complaints("[server]\nlisten = \n[log]\nformat = text\n", &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].starts_with("yard.toml:2: not TOML: ") && lines[1].starts_with("yard.toml:4: not TOML: "),
        "{lines:?}"
    );
}

#[test]
fn the_environment_overrides_the_file() {
    let config = parse_with(
        MINIMAL,
        &[
            ("YARD__SERVER__LISTEN", "0.0.0.0:80"),
            ("YARD__DATABASE__URL", "mysql://yard:hunter2@db/yard"),
            ("YARD__SCHEDULER__PASS_INTERVAL_MS", "10"),
            ("YARD__CLUSTER__EAST__ADDRESS", "https://east.example:8265/"),
            ("YARD__CLUSTER__EAST__CAPACITY__CPU", "8"),
            ("YARD__TEAM__ADS__QUOTA__CPU", "1.5"),
            ("YARD_TEST_SQS_ENDPOINT", "not ours"),
        ],
    );
    let config = config.unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:80");
    assert_eq!(config.database.url, DatabaseUrl::MySql(Secret::new("mysql://yard:hunter2@db/yard")));
    assert_eq!(config.scheduler.pass_interval, Duration::from_millis(10));
    assert!(
        matches!(&config.clusters()[0].driver, DriverConfig::Ray(ray) if ray.address == "https://east.example:8265")
    );
    assert_eq!(config.clusters()[0].cluster.capacity.as_ref().unwrap().0.cpu_milli, 8_000);
    assert_eq!(config.teams()[0].quota.cpu_milli, Some(1_500));
}

#[test]
fn mistakes_in_the_environment_name_the_variable() {
    let lines = complaints(
        MINIMAL,
        &[
            ("YARD__SERVER__LISTN", "0.0.0.0:80"),
            ("YARD__SCHEDULER__CLAIM_MAX", "many"),
            ("YARD__NONSENSE", "1"),
        ],
    );
    assert_eq!(
        lines,
        [
            "environment variable YARD__NONSENSE: no such setting: remove it",
            "environment variable YARD__SCHEDULER__CLAIM_MAX: scheduler.claim_max: must be a whole number from 1 to 100000",
            "environment variable YARD__SERVER__LISTN: no such setting: remove it, or did you mean YARD__SERVER__LISTEN",
        ]
    );
}

#[test]
fn passwords_stand_in_the_environment_or_in_files_of_their_own() {
    let text = |database: &str| MINIMAL.replace("url = \"sqlite:yard.db\"", database);
    let lines = complaints(&text("url = \"mysql://yard:hunter2@db/yard\""), &[]);
    assert!(
        lines[0].starts_with("yard.toml:3: database.url: has a password in it")
            && lines[0].contains("YARD__DATABASE__URL")
    );
    assert!(!lines[0].contains("hunter2"));

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("url"), "mysql://yard:hunter2@db/yard\n").unwrap();
    let config =
        Config::parse("yard.toml", &text("url_file = \"url\""), folder.path(), &environment(&[])).unwrap();
    assert_eq!(config.database.url, DatabaseUrl::MySql(Secret::new("mysql://yard:hunter2@db/yard")));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(Summary(&config).to_string().contains("mysql://db/yard\n"), "{}", Summary(&config));

    let both = complaints(&text("url = \"sqlite:x\"\nurl_file = \"url\""), &[]);
    assert!(both.iter().any(|l| l.contains("keep one of the two")), "{both:?}");
    let missing = complaints(&text("url_file = \"nowhere\""), &[]);
    assert!(missing[0].contains("/etc/yard/nowhere can't be read"), "{missing:?}");
}

#[test]
fn tokens_come_from_files_and_variables_only() {
    let with = |line: &str| format!("{MINIMAL}{line}\n");
    let lines = complaints(&with("token = \"hunter2\""), &[]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("token_file") && !lines[0].contains("hunter2"), "{lines:?}");
    let lines = complaints(&with("token_env = \"EAST_TOKEN\""), &[]);
    assert!(lines[0].contains("the environment variable EAST_TOKEN is not set"), "{lines:?}");
    let config = parse_with(&with("token_env = \"EAST_TOKEN\""), &[("EAST_TOKEN", "hunter2\n")]).unwrap();
    assert!(
        matches!(&config.clusters()[0].driver, DriverConfig::Ray(r) if r.token == Some(SecretSource::Variable("EAST_TOKEN".to_owned())))
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, want) in [
        (
            "[retry]\nbackoff_initial_ms = 5000\nbackoff_max_s = 1",
            "retry.backoff_max_s: must not be below backoff_initial_ms",
        ),
        (
            "[dispatcher]\ncluster_lost_grace_s = 5",
            "dispatcher.cluster_lost_grace_s: must be more than unreachable_after_s",
        ),
        ("[limits]\nrun_timeout_max_s = 60", "defaults.run_timeout_s: is outside of what [limits] allows"),
        (
            "[[queue]]\nname = \"q\"\nvisibility_s = 5\n[intake]\nlinger_ms = 3000",
            "queue q.visibility_s: must be more than twice",
        ),
        ("[[queue]]\nname = \"q\"\nteams = []", "queue q.teams: allows no team"),
        ("[[queue]]\nname = \"q\"\nteams = [\"nobody\"]", "queue q.teams: there is no team nobody"),
        (
            "[[queue]]\nname = \"q\"\nurl = \"http://x/1/q.fifo\"\nspill = true",
            "queue q.spill: must be a standard queue",
        ),
        ("[[queue]]\nname = \"q.fifo\"\nspill = true", "queue q.fifo.spill: must be a standard queue"),
        ("[[queue]]\nname = \"q\"\ndead_letter_url = \"http://x/1/dead.fifo\"", "must be a standard queue"),
        (
            "[[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://x\"",
            "cluster east.id: east is taken",
        ),
        ("[[cluster]]\nid = \"p\"\ndriver = \"process\"\ndir = \"p\"", "cluster p.capacity: missing"),
    ] {
        let lines = complaints(&format!("{MINIMAL}{text}"), &[]);
        assert!(lines.iter().any(|l| l.contains(want)), "{want}: {lines:?}");
    }
    let unknown = complaints(&format!("{MINIMAL}[[queue]]\nname = \"q\"\nteams = [\"nobody\"]"), &[]);
    assert_eq!(unknown.len(), 1, "one complaint is enough: {unknown:?}");
}

#[test]
fn a_wrong_cluster_hides_no_unknown_team_of_a_queue() {
    let text = format!("{MINIMAL}launch_burst = \"many\"\n[[queue]]\nname = \"q\"\nteams = [\"nobody\"]\n");
    let lines = complaints(&text, &[]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("cluster east.launch_burst") && lines[1].contains("no team nobody"),
        "{lines:?}"
    );
}

#[test]
fn a_kubernetes_cluster_says_what_it_lacks_and_what_its_template_lacks() {
    let parse = |cluster: &str| {
        let text = format!("{MINIMAL}[[cluster]]\nid = \"k\"\ndriver = \"kuberay\"\n{cluster}\n");
        Config::parse("yard.toml", &text, Path::new(""), &environment(&[])).map_err(|e| e.to_string())
    };
    let said = parse("").unwrap_err();
    for part in
        ["cluster k.namespace: missing", "cluster k.kubeconfig: missing", "cluster k.template_file: missing"]
    {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = parse(
        "in_cluster = true\nkubeconfig = \"x\"\nnamespace = \"Ray!\"\ntemplate = \"profiles: {a: {imag: x}}\"\nadress = 1",
    )
    .unwrap_err();
    for part in [
        "cluster k.in_cluster: stands beside kubeconfig",
        "cluster k.namespace: \"Ray!\" is no namespace",
        "cluster k.template: profiles.a.image: must be there",
        "cluster k.template: profiles.a.imag: no such key",
        "cluster k.adress: no such key",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let sound = parse(
        "in_cluster = true\nnamespace = \"ray\"\ntemplate = \"profiles: {a: {image: x}}\"\nstop_grace_s = 5",
    );
    let config = sound.unwrap();
    let cluster = config.clusters().last().unwrap();
    assert_eq!((cluster.cluster.driver.as_str(), cluster.jobs_max), ("kuberay", 1_000));
    let settings = cluster.settings();
    assert_eq!((settings["namespace"].as_str(), settings["stop_grace_s"].as_str()), ("ray", "5"));
}

#[test]
fn an_elastic_process_cluster_has_what_is_present_as_its_capacity() {
    let cluster = |cpu: u32| {
        let elastic = "elastic = { ceiling = { cpu = 8 }, delay_s = 5 }";
        format!(
            "{MINIMAL}[[cluster]]\nid = \"p\"\ndriver = \"process\"\ndir = \"p\"\ncapacity = {{ cpu = {cpu} }}\n{elastic}\n"
        )
    };
    let config = parse(&cluster(2)).unwrap();
    let p = &config.clusters()[1];
    let DriverConfig::Process(process) = &p.driver else { panic!("{p:?}") };
    let cpus = |capacity: &Option<yard_domain::Capacity>| capacity.as_ref().map(|c| c.0.cpu_milli);
    assert_eq!((cpus(&process.present), cpus(&p.cluster.capacity)), (Some(2_000), Some(8_000)));
    assert_eq!(p.settings()["capacity.cpu"], "2");
    let lines = complaints(&cluster(9), &[]);
    assert!(
        lines.len() == 1 && lines[0].contains("cluster p.elastic: has a ceiling below capacity"),
        "{lines:?}"
    );
}

#[test]
fn samples_are_valid() {
    let folder = repository().join("docs/samples");
    for (name, variables) in [
        ("minimal.toml", &[][..]),
        ("dev.toml", &[][..]),
        (
            "production.toml",
            &[
                ("YARD__DATABASE__URL", "mysql://yard:secret@db/yard"),
                ("EAST_TOKEN", "t"),
                ("WEST_TOKEN", "t"),
            ][..],
        ),
    ] {
        let config =
            Config::load(&folder.join(name), &environment(variables)).unwrap_or_else(|e| panic!("{e}"));
        insta::assert_snapshot!(
            name.replace('.', "_"),
            Summary(&config).to_string().replace(&folder.display().to_string(), "FOLDER")
        );
    }
    // Folders hold samples of other things, with tests of their own.
    let files = std::fs::read_dir(folder).unwrap().filter(|e| e.as_ref().unwrap().path().is_file());
    assert_eq!(files.count(), 4, "a sample that no test parses");
}

#[test]
fn access_is_given_by_what_is_sound_and_no_secret_is_shown() {
    let secret = "0123456789abcdef0123456789abcdef";
    let text = format!("[access]\nbootstrap_token_env = \"OPERATOR\"\n{MINIMAL}");
    let config = parse_with(&text, &[("OPERATOR", secret)]).unwrap();
    let shown = format!("{config:?}{}", Summary(&config));
    assert!(
        config.access.required && config.access.bootstrap.is_some() && !shown.contains(secret),
        "{shown}"
    );
    let open = format!("[server]\nlisten = \"0.0.0.0:8920\"\n[access]\nrequired = false\n{MINIMAL}");
    assert_eq!(
        complaints(&open, &[]),
        [
            "yard.toml:4: access.required: is false, but the API listens on 0.0.0.0:8920, where others reach it: remove it, or set server.listen to 127.0.0.1:8920"
        ]
    );
    let here = format!("[access]\nrequired = false\n{MINIMAL}");
    assert!(!parse(&here).unwrap().access.required);
    let wrong = format!(
        "[access]\nbootstrap_token_env = \"OPERATOR\"\n[[access.issuer]]\nname = \"corp\"\nissuer = \"http://login.example\"\naudience = \"a\"\nalgorithms = [\"HS256\"]\nroles = {{ \"x\" = \"boss\" }}\n{MINIMAL}"
    );
    let told = complaints(&wrong, &[("OPERATOR", "hunter2")]).join("\n");
    for part in ["too short", "must begin with https://", "RS256, ES256, EdDSA", "no role \"boss\""] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

/// Every key that the parser knows, from a file in which every kind of table stands.
#[test]
fn links_to_packages_need_an_address_and_a_key() {
    let with = |keys: &str| format!("[ray_api]\n{keys}{MINIMAL}");
    let key = ("K", "0123456789abcdef01234567");
    let good = parse_with(&with("link_url = \"http://yard.yard/\"\nlink_key_env = \"K\"\n"), &[key]).unwrap();
    let shown = format!("{:?}", good.package_links);
    assert!(shown.contains("http://yard.yard") && !shown.contains(key.1), "{shown}");
    assert_eq!(parse(MINIMAL).unwrap().package_links, None);
    for (keys, problem) in [
        ("link_url = \"http://y\"\n", "ray_api.link_key_env: missing"),
        ("link_key_env = \"K\"\n", "ray_api.link_key_env: has no use without link_url"),
        (
            "link_url = \"http://y\"\nlink_key_env = \"L\"\n",
            "ray_api.link_key_env: the environment variable L",
        ),
        (
            "link_url = \"http://y\"\nlink_key_env = \"S\"\n",
            "ray_api.link_key_env: a key for links must have 24",
        ),
        ("link_url = \"y\"\nlink_key_env = \"K\"\n", "ray_api.link_url: is not a URL"),
        ("link_url = \"http://y\"\nlink_key = \"x\"\n", "ray_api.link_key: must not stand here"),
    ] {
        let said = complaints(&with(keys), &[key, ("S", "short")]);
        assert!(said.iter().any(|line| line.contains(problem)), "{problem}: {said:?}");
    }
}

fn known_keys() -> BTreeSet<KnownKey> {
    let text = format!(
        "{MINIMAL}[[cluster]]\nid = \"here\"\ndriver = \"process\"\ndir = \"x\"\ncapacity = {{ cpu = 1 }}\n[[cluster]]\nid = \"kube\"\ndriver = \"kuberay\"\nin_cluster = true\nnamespace = \"ray\"\ntemplate = \"profiles: {{a: {{image: x}}}}\"\n[[queue]]\nname = \"q\"\n[[access.issuer]]\nname = \"i\"\nissuer = \"https://i.example\"\naudience = \"a\"\n[[cohort]]\nid = \"c\"\n[[priority_class]]\nid = \"p\"\npriority = 1\n[[team]]\nid = \"t\"\n[[team.push]]\nname = \"s\"\nsqs = \"https://q.example\"\n"
    );
    let (config, known) = Config::parse_and_list_keys("yard.toml", &text, Path::new(""), &environment(&[]));
    config.unwrap_or_else(|e| panic!("{e}"));
    known
}

#[test]
fn every_key_and_default_stands_in_the_documentation() {
    let text = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap();
    let mut section = "";
    let mut documented = BTreeSet::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## `[") {
            section = heading.trim_matches(|c| "[]`".contains(c));
        } else if let Some((key, rest)) = line.strip_prefix("| `").and_then(|l| l.split_once("` | ")) {
            let default = rest.split(" | ").next().unwrap().trim_matches('`').to_owned();
            documented.insert((format!("{section}.{key}"), default));
        }
    }
    let known: BTreeSet<_> =
        known_keys().into_iter().map(|k| (k.path, k.default.unwrap_or_else(|| "–".to_owned()))).collect();
    let undocumented: Vec<_> = known.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&known).collect();
    assert!(
        undocumented.is_empty() && invented.is_empty(),
        "not in the text: {undocumented:#?}\nnot in the code: {invented:#?}"
    );
}
