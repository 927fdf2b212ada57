//! `yard token create`, `list`, `revoke`; `yard audit-log`.

use std::io::{IsTerminal, Write};

use yard_wire::views::{AuditLog, TokenList, TokenMade, TokenRequest, TokenView};

use super::{Done, print, print_json, typed};
use crate::args::{AuditLogPage, Token, TokenCreate};
use crate::client::Client;
use crate::exit;
use crate::show;

/// Runs one of them.
pub async fn token(command: &Token, client: &Client, as_json: bool) -> Done {
    match command {
        Token::Create(args) => create(args, client, as_json).await,
        Token::List { limit, cursor } => list(*limit, cursor.as_deref(), client, as_json).await,
        Token::Revoke { id } => revoke(id, client, as_json).await,
    }
}

async fn create(args: &TokenCreate, client: &Client, as_json: bool) -> Done {
    let request = TokenRequest {
        name: args.name.clone(),
        role: args.role.clone(),
        teams: args.team.clone(),
        expires_in_s: args.expires.0.map(|span| span.as_secs()),
    };
    let (_, answer) = client.post(&["v1", "tokens"], serde_json::json!(request).to_string()).await?;
    show_made(&typed(answer)?, as_json)
}

/// Shows a token that was just made: the token alone on standard output, so that a script can catch it.
pub fn show_made(made: &TokenMade, as_json: bool) -> Done {
    if as_json {
        print_json(made)?;
        return Ok(exit::OK);
    }
    let until = made.about.expires_at.as_deref().unwrap_or("for ever");
    eprintln!(
        "token {} ({}): {} of {}, good until {until}. It is shown this once:",
        made.about.id,
        show::clean(&made.about.name),
        made.about.role,
        made.about.teams.join(", ")
    );
    let mut out = std::io::stdout();
    _ = writeln!(out, "{}", made.token);
    if out.is_terminal() {
        eprintln!("use it with: export YARD_TOKEN=…, or keep it in a file: --token-file FILE");
    }
    Ok(exit::OK)
}

async fn list(limit: u32, cursor: Option<&str>, client: &Client, as_json: bool) -> Done {
    let mut query = vec![("limit", limit.to_string())];
    query.extend(cursor.map(|cursor| ("cursor", cursor.to_owned())));
    let list: TokenList = typed(client.get(&["v1", "tokens"], &query).await?)?;
    if as_json {
        print_json(&list)?;
    } else {
        print(&show::tokens(&list));
        if let Some(next) = &list.next {
            eprintln!("more: --cursor {next}");
        }
    }
    Ok(exit::OK)
}

async fn revoke(id: &str, client: &Client, as_json: bool) -> Done {
    let view: TokenView = typed(client.delete(&["v1", "tokens", id]).await?)?;
    if as_json {
        print_json(&view)?;
    } else {
        print(&format!("token {} ({}) is revoked", view.id, show::clean(&view.name)));
    }
    Ok(exit::OK)
}

/// Lists who changed what.
pub async fn audit_log(args: &AuditLogPage, client: &Client, as_json: bool) -> Done {
    let mut query = vec![("limit", args.limit.to_string())];
    query.extend(args.before.map(|before| ("before", before.to_string())));
    let log: AuditLog = typed(client.get(&["v1", "audit", "log"], &query).await?)?;
    if as_json {
        print_json(&log)?;
    } else {
        print(&show::audit_log(&log));
        if let Some(next) = log.next {
            eprintln!("older ones: --before {next}");
        }
    }
    Ok(exit::OK)
}
