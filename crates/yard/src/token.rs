//! `yard token create --config`: the first token, for whoever has the database.

use yard_cli::args::TokenCreate;
use yard_domain::{AuditEntry, Grant, Role, TeamId, TeamScope};
use yard_ports::Store;
use yard_ports::access::NewToken;
use yard_server::access::token::FreshToken;
use yard_wire::views::{EVERY_TEAM, TokenMade, TokenView};

/// Who made it, as it is written down.
const BY: &str = "whoever has the database";

/// Writes a token into the store; an error is one line for people.
pub async fn create(store: &dyn Store, args: &TokenCreate) -> Result<TokenMade, String> {
    let role: Role = args.role.parse().map_err(|e: yard_domain::access::UnknownRole| e.to_string())?;
    let teams = if args.team.iter().any(|team| team == EVERY_TEAM) {
        TeamScope::All
    } else {
        let teams: Result<_, _> = args.team.iter().map(|team| team.parse::<TeamId>()).collect();
        TeamScope::Only(teams.map_err(|e| format!("--team: {e}"))?)
    };
    let grant = Grant::new(role, teams).map_err(|e| format!("--team: {e}"))?;
    let name = args.name.trim();
    if name.is_empty() || name.chars().count() > 100 || name.chars().any(char::is_control) {
        return Err("--name: must be a text of 1 to 100 characters on one line".to_owned());
    }
    let fresh = FreshToken::make()?;
    let new = NewToken {
        id: fresh.id,
        name: name.to_owned(),
        grant,
        secret: fresh.secret,
        created_by: BY.to_owned(),
        lifetime: args.expires.0,
    };
    // The line first: there is no token that the log does not know of.
    let line = AuditEntry {
        actor: BY.to_owned(),
        address: "-".to_owned(),
        action: "token.create".to_owned(),
        target: format!("token {} ({})", new.id, new.name),
        result: "ok".to_owned(),
        request: "-".to_owned(),
    };
    store.write_audit(&line).await.map_err(|e| e.to_string())?;
    let kept = store.create_token(&new).await.map_err(|e| e.to_string())?;
    Ok(TokenMade { token: fresh.text, about: TokenView::from(&kept) })
}
