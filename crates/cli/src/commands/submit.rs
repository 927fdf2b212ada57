//! `yard submit`.

use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use yard_wire::views::Submitted;

use super::{Done, bulk, print, print_json, read_file, typed, wait};
use crate::args::Submit;
use crate::client::Client;
use crate::exit::{self, Failure};

/// Hands over one job.
pub async fn submit(args: Submit, client: &Client, as_json: bool) -> Done {
    if !args.bulk.is_empty() {
        return bulk::submit(&args.bulk, client, as_json).await;
    }
    let body = match &args.file {
        Some(file) => read_file(file)?,
        None => document(&args)?.to_string(),
    };
    let (status, answer) = client.post(&["v1", "jobs"], body).await?;
    let submitted: Submitted = typed(answer)?;
    if as_json && !args.wait {
        print_json(&submitted)?;
    } else if submitted.pending {
        eprintln!(
            "the database is away: kept in a queue, to be accepted as {} unless team {} has key {} already",
            submitted.id, submitted.team, submitted.key
        );
    } else if status == StatusCode::CREATED {
        eprintln!("accepted as {} (team {}, key {})", submitted.id, submitted.team, submitted.key);
    } else {
        eprintln!(
            "this was submitted before: {} (team {}, key {})",
            submitted.id, submitted.team, submitted.key
        );
    }
    if args.wait {
        return wait::wait(&[submitted.id], None, client, as_json).await;
    }
    if !as_json {
        print(&submitted.id);
    }
    Ok(exit::OK)
}

/// The document that the options say. What they leave out is left out: the server's defaults hold.
fn document(args: &Submit) -> Result<Value, Failure> {
    let mut doc = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            doc.insert(key.to_owned(), value);
        }
    };
    put("v", Some(json!(1)));
    put("team", args.team.clone().map(Value::from));
    put("key", args.key.clone().map(Value::from));
    put("name", args.name.clone().map(Value::from));
    put("entrypoint", Some(Value::from(shell_words(&args.command))));
    put("priority", args.priority.map(Value::from));
    put("metadata", object(texts(&args.metadata)));
    put("runtime_env", object(texts(&args.env)).map(|env| json!({"env_vars": env})));
    put("retry", args.retries.map(|n| json!({"max_retries": n})));
    let mut timeouts = Map::new();
    timeouts.extend(args.queue_timeout.map(|s| ("queue_s".to_owned(), Value::from(s))));
    timeouts.extend(args.run_timeout.map(|s| ("run_s".to_owned(), Value::from(s))));
    put("timeouts", object(timeouts));
    let mut clusters = Map::new();
    if !args.cluster.is_empty() {
        clusters.insert("only".to_owned(), json!(args.cluster));
    }
    if !args.avoid.is_empty() {
        clusters.insert("avoid".to_owned(), json!(args.avoid));
    }
    clusters.extend(object(texts(&args.label)).map(|labels| ("labels".to_owned(), labels)));
    clusters.extend(object(texts(&args.prefer)).map(|labels| ("prefer".to_owned(), labels)));
    put("priority_class", args.class.clone().map(Value::from));
    put("clusters", object(clusters));
    put("resources", object(resources(args)?));
    put("ray_cluster", object(ray_cluster(args)?));
    Ok(Value::Object(doc))
}

fn resources(args: &Submit) -> Result<Map<String, Value>, Failure> {
    let mut resources = Map::new();
    resources.extend(args.cpu.map(|n| ("cpu".to_owned(), number(n))));
    resources.extend(args.gpu.map(|n| ("gpu".to_owned(), number(n))));
    resources.extend(args.memory.clone().map(|m| ("memory".to_owned(), Value::from(m))));
    let mut custom = Map::new();
    for (name, amount) in &args.custom {
        let amount: f64 = amount.parse().map_err(|_| {
            Failure::new(exit::USAGE, format!("--custom {name}={amount}: the amount must be a number"))
        })?;
        custom.insert(name.clone(), number(amount));
    }
    resources.extend(object(custom).map(|custom| ("custom".to_owned(), custom)));
    Ok(resources)
}

fn ray_cluster(args: &Submit) -> Result<Map<String, Value>, Failure> {
    let mut shape = Map::new();
    shape.extend(args.profile.clone().map(|name| ("profile".to_owned(), Value::from(name))));
    shape.extend(args.image.clone().map(|image| ("image".to_owned(), Value::from(image))));
    let Some(count) = args.workers else { return Ok(shape) };
    let (mut workers, mut custom) = (Map::new(), Map::new());
    workers.insert("count".to_owned(), json!(count));
    for (name, amount) in &args.worker {
        if matches!(name.as_str(), "memory" | "gpu_type") {
            workers.insert(name.clone(), Value::from(amount.clone()));
            continue;
        }
        let number_of = amount.parse().map(number).map_err(|_| {
            Failure::new(exit::USAGE, format!("--worker {name}={amount}: the amount must be a number"))
        })?;
        let place = if matches!(name.as_str(), "cpu" | "gpu") { &mut workers } else { &mut custom };
        place.insert(name.clone(), number_of);
    }
    workers.extend(object(custom).map(|custom| ("custom".to_owned(), custom)));
    shape.insert("workers".to_owned(), Value::Object(workers));
    Ok(shape)
}

/// 2 rather than 2.0, as a person would write it.
fn number(n: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
    if n.fract() == 0.0 && n.abs() < 1e15 { Value::from(n as i64) } else { Value::from(n) }
}

fn texts(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(k, v)| (k.clone(), Value::from(v.clone()))).collect()
}

fn object(map: Map<String, Value>) -> Option<Value> {
    (!map.is_empty()).then_some(Value::Object(map))
}

/// The command line as a shell reads it back; a single word is taken as the shell text that it is.
fn shell_words(words: &[String]) -> String {
    let plain =
        |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&b));
    match words {
        [only] => only.clone(),
        many => {
            let quote =
                |w: &String| if plain(w) { w.clone() } else { format!("'{}'", w.replace('\'', r"'\''")) };
            many.iter().map(quote).collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Command;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    fn doc(line: &[&str]) -> Value {
        let cli = Cli::try_parse_from(["yard", "submit"].iter().chain(line)).unwrap();
        let Command::Submit(args) = cli.command else { panic!("submit expected") };
        document(&args).unwrap()
    }

    #[test]
    fn options_become_the_document_and_the_rest_is_left_out() {
        assert_eq!(
            doc(&["--team", "ads", "--", "python", "train.py"]),
            json!({"v": 1, "team": "ads", "entrypoint": "python train.py"})
        );
        let full = [
            "--team=ads",
            "--key=k",
            "--cpu=2",
            "--gpu=0.5",
            "--memory=8GiB",
            "--custom=A100=1",
            "--priority=-3",
            "--cluster=east",
            "--label=region=us",
            "--retries=2",
            "--run-timeout=9",
            "--metadata=a=b=c",
            "--env=X=1",
            "--",
            "sh",
            "-c",
            "echo it's",
        ];
        assert_eq!(
            doc(&full),
            json!({
                "v": 1, "team": "ads", "key": "k", "entrypoint": r"sh -c 'echo it'\''s'", "priority": -3,
                "resources": {"cpu": 2, "gpu": 0.5, "memory": "8GiB", "custom": {"A100": 1}},
                "clusters": {"only": ["east"], "labels": {"region": "us"}}, "retry": {"max_retries": 2},
                "timeouts": {"run_s": 9}, "metadata": {"a": "b=c"}, "runtime_env": {"env_vars": {"X": "1"}},
            })
        );
        let shaped = [
            "--team=a",
            "--profile=gpu",
            "--image=r/x:1",
            "--workers=2",
            "--worker=gpu=1",
            "--worker=memory=8GiB",
        ];
        let shaped = doc(&[&shaped[..], &["--worker=fast=0.5", "--", "x"]].concat());
        assert_eq!(
            shaped["ray_cluster"],
            json!({"profile": "gpu", "image": "r/x:1",
                "workers": {"count": 2, "gpu": 1, "memory": "8GiB", "custom": {"fast": 0.5}}})
        );
        assert_eq!(doc(&["--team=a", "--", "echo $HOME | wc"])["entrypoint"], "echo $HOME | wc");
    }

    #[test]
    fn a_file_and_options_exclude_each_other_and_one_is_needed() {
        for line in [&["f.json", "--team=a", "--", "x"][..], &[][..], &["--team=a"][..], &["--", "x"][..]] {
            assert!(Cli::try_parse_from(["yard", "submit"].iter().chain(line)).is_err(), "{line:?}");
        }
    }
}
