//! Many open streams of events: how long until what was committed is in all of them.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::report::{Detail, Finding, Target};
use crate::stats::{millis, quantile};
use crate::whole::Whole;
use crate::world::{World, body, team_name};
use crate::{Failure, Plan, Result};

/// Longest wait for an event.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs the benchmark.
pub async fn run(plan: &Plan) -> Result<Vec<Finding>> {
    let world = World::create(&plan.url, 1).await?;
    let whole = Whole::api(world.store.clone()).await?;
    let findings = measure(plan, &whole).await;
    whole.stop().await?;
    world.remove().await?;
    findings
}

async fn measure(plan: &Plan, whole: &Whole) -> Result<Vec<Finding>> {
    let (streams, turns) = (plan.pick(2_000, 20), plan.pick(20, 2));
    let (seen, mut sightings) = mpsc::unbounded_channel();
    let mut readers = tokio::task::JoinSet::new();
    let asked =
        format!("GET /v1/events HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {}\r\n\r\n", whole.token);
    for _ in 0..streams {
        let mut stream = TcpStream::connect(whole.api).await?;
        stream.write_all(asked.as_bytes()).await?;
        let begun = read_until(&mut stream, "retry: ").await?;
        if !begun.starts_with("HTTP/1.1 200") {
            return Err(format!("the stream was refused: {begun}").into());
        }
        readers.spawn(watch(stream, seen.clone()));
    }
    let client = reqwest::Client::builder().build()?;
    let (mut last, mut middle) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        let text = body(&team_name(turn % 15), &format!("event-{turn}"), turn);
        let request = client.post(format!("http://{}/v1/jobs", whole.api)).bearer_auth(&whole.token);
        let answer = request.header("content-type", "application/json").body(text).send().await?;
        let committed = Instant::now();
        let job: Value = serde_json::from_str(&answer.error_for_status()?.text().await?)?;
        let job = job["id"].as_str().ok_or("no id")?;
        let mut times = Vec::with_capacity(streams);
        while times.len() < streams {
            let next = tokio::time::timeout(LONGEST, sightings.recv());
            let (id, at): (String, Instant) = next.await?.ok_or("all streams have ended")?;
            if id == job {
                times.push(millis(at.saturating_duration_since(committed)));
            }
        }
        last.push(quantile(&times, 1.0));
        middle.push(quantile(&times, 0.5));
    }
    readers.shutdown().await;
    let what = format!("commit → event in all of {streams} streams, the slowest of {turns}");
    let details = vec![
        Detail::new("the usual turn's last stream", quantile(&last, 0.5), "ms"),
        Detail::new("the usual turn's middle stream", quantile(&middle, 0.5), "ms"),
    ];
    let finding = Finding::alone("events", what, quantile(&last, 1.0), "ms").target(Target::AtMost(1_000.0));
    Ok(vec![
        finding
            .details(details)
            .note("from the answer to the submission; clients and server share the machine"),
    ])
}

/// Reports each job that is named by an event.
async fn watch(mut stream: TcpStream, seen: mpsc::UnboundedSender<(String, Instant)>) -> Result<()> {
    loop {
        let text = read_until(&mut stream, "\n\n").await?;
        let at = Instant::now();
        for part in text.split("\"job\":\"").skip(1) {
            let id: String = part.chars().take(36).collect();
            seen.send((id, at)).map_err(Failure::from)?;
        }
    }
}

/// Reads on until this was read.
async fn read_until(stream: &mut TcpStream, end: &str) -> Result<String> {
    let mut text = String::new();
    let mut buffer = [0_u8; 4_096];
    while !text.contains(end) {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Err("a stream has ended".into());
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    Ok(text)
}
