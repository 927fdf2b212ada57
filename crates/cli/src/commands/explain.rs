//! `yard explain`.

use yard_wire::views::{ExplanationView, TeamExplanationView};

use super::{Done, jobs, print, print_json, typed};
use crate::client::Client;
use crate::exit;
use crate::show;

/// Why a job waits.
pub async fn job(job: &str, client: &Client, as_json: bool) -> Done {
    let id = jobs::resolve(job, client).await?;
    let view: ExplanationView = typed(client.get(&["v1", "jobs", &id, "explain"], &[]).await?)?;
    if as_json {
        print_json(&view)?;
    } else {
        print(&show::explanation(&view));
    }
    Ok(exit::OK)
}

/// What holds a team's jobs.
pub async fn team(team: &str, client: &Client, as_json: bool) -> Done {
    let view: TeamExplanationView = typed(client.get(&["v1", "teams", team, "explain"], &[]).await?)?;
    if as_json {
        print_json(&view)?;
    } else {
        print(&show::team_explanation(&view));
    }
    Ok(exit::OK)
}
