//! The samples are what they say, and the server's workload is read as it was written.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use yard_domain::{Catalog, Cluster, ClusterSelector, JobId, Priority, Request, Timestamp};
use yard_ports::store::PastArrival;
use yard_simulator::workload::{jsonl, standard};
use yard_wire::views::WorkloadLine;

use super::{Args, Form, Shown, compare, input, single};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn sample(name: &str) -> String {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/samples/simulate");
    folder.join(name).display().to_string()
}

fn args(line: &[&str]) -> Args {
    Line::try_parse_from([&["simulate"], line].concat()).unwrap().args
}

fn report(line: &[&str]) -> yard_simulator::Report {
    match single(&args(line)) {
        Ok(Shown::One(report)) => *report,
        Ok(Shown::Two(_)) => panic!("one run was asked for"),
        Err(message) => panic!("{message}"),
    }
}

/// What the standard run uses is what the samples declare, so that they can be changed and compared.
#[test]
fn the_samples_are_the_standard_catalog() {
    let (policy, clusters) = (sample("policy.toml"), sample("clusters.toml"));
    let given = args(&["--policy", &policy, "--clusters", &clusters]);
    let read = input::catalog(&given, &input::workload(&given).unwrap()).unwrap();
    assert_eq!(read, Catalog { ..standard::catalog() });
}

#[test]
fn the_sample_workloads_run_and_keep_every_rule() {
    let (jsonl, swf, clusters) = (sample("workload.jsonl"), sample("workload.swf"), sample("clusters.toml"));
    let (policy, scenario) = (sample("policy.toml"), sample("scenario.toml"));
    let lines = report(&[
        "--workload",
        &jsonl,
        "--clusters",
        &clusters,
        "--policy",
        &policy,
        "--scenario",
        &scenario,
    ]);
    assert!(lines.is_sound() && lines.jobs.arrived == 60 && lines.notes.is_empty(), "{lines}");
    let machine = report(&["--workload", &swf]);
    assert!(machine.is_sound() && machine.jobs.succeeded + machine.jobs.failed == 40, "{machine}");
    assert_eq!((machine.clusters.len(), machine.clusters[0].resources[0].whole), (1, 64_000));
    assert_eq!(
        machine.notes.len(),
        2,
        "teams that no catalog declares, a job that never ran: {:?}",
        machine.notes
    );
    let few = report(&["--workload", &jsonl, "--clusters", &clusters, "--jobs", "7"]);
    assert_eq!(few.jobs.arrived, 7);
    let page = Shown::One(Box::new(few)).in_form(Form::Html);
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg"));
}

#[test]
fn wrong_input_is_said_with_the_fix() {
    let said = |line: &[&str]| single(&args(line)).err().unwrap();
    let jsonl = sample("workload.jsonl");
    assert!(said(&["--workload", &jsonl]).contains("--clusters FILE"));
    assert!(said(&["--workload", "jobs.csv"]).contains(".jsonl or .swf"));
    assert!(said(&["--workload", "none.swf"]).contains("none.swf"));
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.toml").display().to_string();
    std::fs::write(&wrong, "[[team]]\nid = \"A b\"\n[[cluster]]\nid = \"east\"\ndriver = \"rey\"\n").unwrap();
    let both = said(&["--policy", &wrong]);
    assert!(both.contains("team") && both.contains("driver"), "{both}");
    // A capacity that only the cluster could tell.
    let asked = folder.path().join("asked.toml").display().to_string();
    std::fs::write(&asked, "[[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://east:1\"\n")
        .unwrap();
    assert!(said(&["--clusters", &asked, "--jobs", "5"]).contains("cluster east: capacity"));
    assert!(Line::try_parse_from(["simulate", "--history", "a..b"]).is_err(), "--policy is missing");
}

/// A new catalog may leave out what the present one knows.
#[test]
fn what_a_new_policy_leaves_out_stays() {
    let present = standard::catalog();
    let new = input::changed(&args(&["--policy", &sample("policy.toml")]), &present).unwrap();
    assert_eq!(new.clusters, present.clusters);
    let unknown = vec![Cluster::new("east".parse().unwrap(), "ray")];
    let known = input::with_known_capacity(unknown, &present);
    assert_eq!(known[0].capacity, present.clusters[1].capacity);
}

#[test]
fn what_the_server_writes_is_what_the_simulator_reads() {
    let past = PastArrival {
        job: JobId::new(1_795_386_645_000, [3; 10]),
        team: "ads".parse().unwrap(),
        at: Timestamp::from_micros(1_795_386_645_123_457),
        priority: Priority::new(-7).unwrap(),
        request: Request {
            cpu_milli: 1_500,
            gpu_milli: 250,
            memory_bytes: (8 << 30) + 1,
            jobs: 1,
            custom_milli: [("A100".to_owned(), 1_005)].into(),
        },
        clusters: ClusterSelector {
            only: ["east".parse().unwrap()].into(),
            avoid: ["west".parse().unwrap()].into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            prefer: [("disk".to_owned(), "ssd".to_owned())].into(),
            driver: None,
            pods: None,
        },
        run_timeout: Duration::from_hours(2),
        queue_timeout: Duration::from_hours(24),
        ran: Some(Duration::from_micros(61_000_001)),
        waited: Some(Duration::from_secs(3)),
    };
    let line = serde_json::to_string(&WorkloadLine::from(&past)).unwrap();
    let job = jsonl::read(&line).unwrap().jobs.remove(0);
    assert_eq!((job.at, &job.team, job.priority), (past.at, &past.team, past.priority));
    assert_eq!((&job.request, &job.clusters), (&past.request, &past.clusters));
    assert_eq!(
        (job.run_timeout, job.queue_timeout, Some(job.run)),
        (past.run_timeout, past.queue_timeout, past.ran)
    );
    let never = PastArrival { ran: None, waited: None, clusters: ClusterSelector::default(), ..past };
    let line = serde_json::to_string(&WorkloadLine::from(&never)).unwrap();
    assert_eq!(jsonl::read(&line).unwrap().jobs[0].run, never.run_timeout, "no other of its team ran");
}

/// A server that has `pages` by path, and closes the connection after each answer.
async fn server(pages: Vec<(&'static str, String)>) -> yard_cli::Global {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = Vec::new();
            while !asked.windows(4).any(|w| w == b"\r\n\r\n") {
                if stream.read_buf(&mut asked).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let line = String::from_utf8_lossy(&asked);
            let path = line.split_whitespace().nth(1).unwrap_or_default();
            let page = pages.iter().find(|(p, _)| path.starts_with(p));
            let (status, body) = page.map_or(("404 Not Found", ""), |(_, body)| ("200 OK", body.as_str()));
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    yard_cli::Global { server, token: None, token_file: None, json: false }
}

/// What arrived is run under the catalog in force, whose capacity only the cluster knew, and under the new one.
#[tokio::test]
async fn history_is_run_under_both_catalogs() {
    let catalog = "[[team]]\nid = \"ads\"\nquota = { cpu = 1 }\n\
        [[cluster]]\nid = \"east\"\ndriver = \"ray\"\naddress = \"http://east:1\"\n";
    let in_force = serde_json::json!({
        "version": 1, "at": "2026-11-25T00:00:00Z", "by": "me", "source": "applied", "text": catalog
    });
    let clusters = "{\"clusters\": [{\"id\": \"east\", \"driver\": \"ray\", \"labels\": {}, \"switch\": \"open\",\
        \"health\": \"ready\", \"takes_jobs\": true, \"configured\": true, \"used\": {\"cpu\": 0, \"gpu\": 0, \"memory_bytes\": 0, \"jobs\": 0},\
        \"capacity\": {\"cpu\": 4, \"gpu\": 0, \"memory_bytes\": 0, \"jobs\": 100}}]}";
    let line = |at| {
        format!("{{\"at_s\": {at}, \"team\": \"ads\", \"run_s\": 100, \"resources\": {{\"cpu\": 1}}}}\n")
    };
    let workload = line(0) + &line(0) + &line(0);
    let pages = vec![
        ("/v1/workload?from=a&to=b", workload),
        ("/v1/catalog", in_force.to_string()),
        ("/v1/clusters", clusters.to_owned()),
    ];
    let global = server(pages).await;
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(&new, "[[team]]\nid = \"ads\"\nquota = { cpu = 3 }\n").unwrap();
    let args = args(&["--history", "a..b", "--policy", &new.display().to_string()]);
    let Ok(Shown::Two(both)) = compare(&args, "a..b", &global).await else {
        panic!("two runs were asked for")
    };
    assert!(both.is_sound());
    assert!(both.before.waits.max_s > 200.0, "one after the other: {}", both.before);
    assert!(both.after.waits.max_s < 1.0, "all at once: {}", both.after);
    let nobody = server(Vec::new()).await;
    assert!(compare(&args, "a..b", &nobody).await.is_err());
    assert!(compare(&args, "yesterday", &nobody).await.err().unwrap().contains("FROM..TO"));
}
