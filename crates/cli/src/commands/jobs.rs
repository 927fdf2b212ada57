//! `yard list`, `get`, `history`, `stop`, `receipt`.

use serde_json::{Value, json};
use yard_wire::views::{HistoryView, JobList, JobView, LineView, ReceiptView, StopAnswerView};

use super::{Done, print_json, typed};
use crate::args::List;
use crate::client::Client;
use crate::exit::{self, Failure};
use crate::show;

/// Lines of history fetched at once.
const HISTORY_PAGE: u32 = 500;

/// One job as the server shows it.
pub async fn fetch(job: &str, client: &Client) -> Result<JobView, Failure> {
    typed(client.get(&["v1", "jobs", job], &[]).await?)
}

/// Lists jobs.
pub async fn list(args: &List, client: &Client, as_json: bool) -> Done {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.team.clone().map(|t| ("team", t)));
    query.extend(args.state.iter().map(|s| ("state", s.clone())));
    query.extend(args.cluster.clone().map(|c| ("cluster", c)));
    query.extend(args.cursor.clone().map(|c| ("cursor", c)));
    let list: JobList = typed(client.get(&["v1", "jobs"], &query).await?)?;
    if as_json {
        print_json(&list)?;
    } else {
        println!("{}", show::jobs(&list));
        if let Some(next) = &list.next {
            eprintln!("more: --cursor {next}");
        }
    }
    Ok(exit::OK)
}

/// Shows one job.
pub async fn get(job: &str, client: &Client, as_json: bool) -> Done {
    let view = fetch(job, client).await?;
    if as_json {
        print_json(&view)?
    } else {
        println!("{}", show::job(&view))
    }
    Ok(exit::OK)
}

/// Shows everything that happened to a job, page by page.
pub async fn history(job: &str, client: &Client, as_json: bool) -> Done {
    let mut lines: Vec<LineView> = Vec::new();
    let mut after = 0u32;
    loop {
        let query = [("after", after.to_string()), ("limit", HISTORY_PAGE.to_string())];
        let page: HistoryView = typed(client.get(&["v1", "jobs", job, "history"], &query).await?)?;
        lines.extend(page.lines);
        match page.next {
            Some(next) if next > after => after = next,
            _ => break,
        }
    }
    if as_json {
        print_json(&lines)?
    } else {
        println!("{}", show::history(&lines))
    }
    Ok(exit::OK)
}

/// Asks for jobs to be stopped. All are asked, whatever the answers before.
pub async fn stop(jobs: &[String], reason: &str, client: &Client, as_json: bool) -> Done {
    let mut answers: Vec<Value> = Vec::new();
    let mut code = exit::OK;
    for job in jobs {
        let body = json!({"reason": reason}).to_string();
        match client.post(&["v1", "jobs", job, "stop"], body).await {
            Ok((_, answer)) => {
                let view: StopAnswerView = typed(answer.clone())?;
                if !as_json {
                    println!("{}: {}", view.id, show::stop_answer(&view));
                }
                answers.push(answer);
            }
            Err(failure) => {
                eprintln!("yard: {job}: {}", failure.message);
                code = failure.code;
            }
        }
    }
    if as_json {
        print_json(&answers)?;
    }
    Ok(code)
}

/// Shows what became of a submission.
pub async fn receipt(team: &str, key: &str, client: &Client, as_json: bool) -> Done {
    let view: ReceiptView = typed(client.get(&["v1", "receipts", team, key], &[]).await?)?;
    if as_json {
        print_json(&view)?
    } else {
        println!("{}", show::receipt(&view))
    }
    Ok(if view.verdict == "accepted" { exit::OK } else { exit::REJECTED })
}
