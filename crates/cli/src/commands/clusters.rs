//! `yard teams`, `clusters`, `drain`, `resume`, `audit`.

use yard_wire::views::{AuditView, ClusterList, SwitchAnswer, TeamList};

use super::{Done, print, print_json, typed};
use crate::client::Client;
use crate::exit;
use crate::show;

/// Shows teams.
pub async fn teams(client: &Client, as_json: bool) -> Done {
    let list: TeamList = typed(client.get(&["v1", "teams"], &[]).await?)?;
    if as_json {
        print_json(&list)?;
    } else {
        print(&show::teams(&list));
    }
    Ok(exit::OK)
}

/// Shows clusters.
pub async fn clusters(client: &Client, as_json: bool) -> Done {
    let list: ClusterList = typed(client.get(&["v1", "clusters"], &[]).await?)?;
    if as_json {
        print_json(&list)?;
    } else {
        print(&show::clusters(&list));
    }
    Ok(exit::OK)
}

/// Drains or resumes a cluster.
pub async fn switch(cluster: &str, verb: &str, client: &Client, as_json: bool) -> Done {
    let (_, answer) = client.post(&["v1", "clusters", cluster, verb], String::new()).await?;
    let answer: SwitchAnswer = typed(answer)?;
    if as_json {
        print_json(&answer)?;
    } else {
        print(&format!("{} is {}", answer.id, answer.switch));
    }
    Ok(exit::OK)
}

/// Recomputes the ledger.
pub async fn audit(client: &Client, as_json: bool) -> Done {
    let audit: AuditView = typed(client.get(&["v1", "audit"], &[]).await?)?;
    if as_json {
        print_json(&audit)?;
    } else if audit.exact {
        print("exact: every account is the sum of its open attempts");
    } else {
        print(&show::drift(&audit));
    }
    Ok(if audit.exact { exit::OK } else { exit::DRIFT })
}
