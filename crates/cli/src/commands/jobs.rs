//! `yard list`, `get`, `history`, `stop`, `receipt`.

use serde_json::{Value, json};
use yard_domain::JobId;
use yard_wire::views::{HistoryView, JobList, JobView, LineView, ReceiptView, StopAnswerView};

use super::{Done, print, print_json, typed};
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

/// A job as people name it: its id, or TEAM/KEY.
pub async fn resolve(job: &str, client: &Client) -> Result<String, Failure> {
    if job.parse::<JobId>().is_ok() {
        return Ok(job.to_owned());
    }
    let Some((team, key)) = job.split_once('/') else {
        return Err(Failure::new(
            exit::USAGE,
            format!("{job:?} is no job: give its id (a UUID) or TEAM/KEY"),
        ));
    };
    let receipt: ReceiptView = typed(client.get(&["v1", "receipts", team, key], &[]).await?)?;
    receipt.job.ok_or_else(|| {
        Failure::new(
            exit::NOT_FOUND,
            format!("{job} was rejected, so there is no job: see `yard receipt {team} {key}`"),
        )
    })
}

/// Lists jobs.
pub async fn list(args: &List, client: &Client, as_json: bool) -> Done {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.team.clone().map(|t| ("team", t)));
    query.extend(args.state.iter().map(|s| ("state", s.clone())));
    query.extend(args.cluster.clone().map(|c| ("cluster", c)));
    query.extend(args.metadata.iter().map(|(name, value)| ("metadata", format!("{name}={value}"))));
    query.extend(args.label.iter().map(|(name, value)| ("label", format!("{name}={value}"))));
    query.extend(args.after.clone().map(|t| ("accepted_after", t)));
    query.extend(args.before.clone().map(|t| ("accepted_before", t)));
    query.extend(args.key_prefix.clone().map(|k| ("key_prefix", k)));
    query.extend(args.name.clone().map(|n| ("name", n)));
    let list = first_page(&query, args.cursor.clone(), client).await?;
    if as_json {
        print_json(&list)?;
    } else {
        print(&show::jobs(&list));
        if let Some(next) = &list.next {
            eprintln!("more: --cursor {next}");
        }
    }
    Ok(exit::OK)
}

/// The first page with jobs on it: the server looks at so many jobs in one call, and there may be none among them.
async fn first_page(
    query: &[(&'static str, String)],
    mut cursor: Option<String>,
    client: &Client,
) -> Result<JobList, Failure> {
    loop {
        let mut query = query.to_vec();
        query.extend(cursor.map(|c| ("cursor", c)));
        let list: JobList = typed(client.get(&["v1", "jobs"], &query).await?)?;
        if !list.jobs.is_empty() || list.next.is_none() {
            return Ok(list);
        }
        cursor = list.next;
    }
}

/// Shows one job.
pub async fn get(job: &str, client: &Client, as_json: bool) -> Done {
    let view = fetch(&resolve(job, client).await?, client).await?;
    if as_json {
        print_json(&view)?;
    } else {
        print(&show::job(&view));
    }
    Ok(exit::OK)
}

/// Shows everything that happened to a job, page by page.
pub async fn history(job: &str, client: &Client, as_json: bool) -> Done {
    let job = &resolve(job, client).await?;
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
        print_json(&lines)?;
    } else {
        print(&show::history(&lines));
    }
    Ok(exit::OK)
}

/// Asks for jobs to be stopped. All are asked, whatever the answers before.
pub async fn stop(jobs: &[String], reason: &str, client: &Client, as_json: bool) -> Done {
    let mut answers: Vec<Value> = Vec::new();
    let mut code = exit::OK;
    for job in jobs {
        let body = json!({"reason": reason}).to_string();
        let asked = match resolve(job, client).await {
            Ok(id) => client.post(&["v1", "jobs", &id, "stop"], body).await,
            Err(failure) => Err(failure),
        };
        match asked {
            Ok((_, answer)) => {
                let view: StopAnswerView = typed(answer.clone())?;
                if !as_json {
                    print(&format!("{}: {}", view.id, show::stop_answer(&view)));
                }
                answers.push(answer);
            }
            Err(mut failure) => {
                code = failure.code;
                if let Some(document) = &mut failure.document {
                    document.job.get_or_insert_with(|| job.clone());
                }
                Failure { message: format!("{job}: {}", failure.message), ..failure }.tell(as_json);
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
        print_json(&view)?;
    } else {
        print(&show::receipt(&view));
    }
    Ok(if view.verdict == "accepted" { exit::OK } else { exit::REJECTED })
}
