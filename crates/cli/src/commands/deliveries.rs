//! `yard deliveries`: what is on its way to subscribers.

use yard_wire::views::{DeliveryList, ResendAnswer};

use super::{Done, print, print_json, typed};
use crate::args::Deliveries;
use crate::client::Client;
use crate::exit;
use crate::show;

/// Events named in one call.
const NAMED_MAX: usize = 200;

/// Lists deliveries, or sends them again.
pub async fn deliveries(command: &Deliveries, client: &Client, as_json: bool) -> Done {
    match command {
        Deliveries::List { team, subscription, state, limit, cursor } => {
            let mut query = vec![("limit", limit.to_string())];
            let given =
                [("team", team), ("subscription", subscription), ("state", state), ("cursor", cursor)];
            query.extend(given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
            let list: DeliveryList = typed(client.get(&["v1", "deliveries"], &query).await?)?;
            if as_json {
                print_json(&list)?;
            } else {
                print(&show::deliveries(&list));
                if let Some(next) = &list.next {
                    eprintln!("more: --cursor {next}");
                }
            }
            Ok(exit::OK)
        }
        Deliveries::Retry { team, subscription, ids } => {
            retry(team, subscription.as_deref(), ids, client, as_json).await
        }
    }
}

async fn retry(team: &str, subscription: Option<&str>, ids: &[u64], client: &Client, as_json: bool) -> Done {
    let mut resent = 0;
    // All of them, if none is named.
    let calls: Vec<&[u64]> = if ids.is_empty() { vec![ids] } else { ids.chunks(NAMED_MAX).collect() };
    for ids in calls {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let mut query = vec![("team", team.to_owned())];
        query.extend(subscription.map(|name| ("subscription", name.to_owned())));
        if !ids.is_empty() {
            query.push(("id", ids.join(",")));
        }
        loop {
            let answer = client.post_query(&["v1", "deliveries", "retry"], &query).await?;
            let answer: ResendAnswer = typed(answer)?;
            resent += answer.resent;
            if !answer.more {
                break;
            }
        }
    }
    if as_json {
        print_json(&ResendAnswer { resent, more: false })?;
    } else {
        print(&format!("{resent} sent again"));
    }
    Ok(exit::OK)
}
