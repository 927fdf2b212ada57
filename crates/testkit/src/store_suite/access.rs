//! Tokens and the audit log.

use std::time::Duration;

use yard_domain::{AuditEntry, Grant, Role, SecretHash, TeamId, TeamScope, TokenId};
use yard_ports::access::NewToken;
use yard_ports::store::{JobFilter, JobPage, StoreError};

use super::World;
use super::world::eventually;

fn new_token(n: u64, grant: Grant, lifetime: Option<Duration>) -> NewToken {
    NewToken {
        id: TokenId::new(n),
        name: format!("täst {n}"),
        grant,
        secret: SecretHash([7; 32]),
        created_by: "ann".to_owned(),
        lifetime,
    }
}

fn viewer(teams: &[&str]) -> Grant {
    let teams = teams.iter().map(|t| t.parse().unwrap()).collect();
    Grant::new(Role::Viewer, TeamScope::Only(teams)).unwrap()
}

/// What is kept reads back; the same again is the same token; another under its id is refused.
pub async fn tokens_are_kept_as_they_are(w: &World) {
    let grants = [
        viewer(&["ads", "ml"]),
        Grant::operator(),
        Grant::new(Role::TeamAdmin, TeamScope::All).unwrap(),
        Grant::new(Role::Submitter, viewer(&["ads"]).teams().clone()).unwrap(),
    ];
    for (n, grant) in (1..).zip(&grants) {
        let new = new_token(n, grant.clone(), (n == 1).then_some(Duration::from_hours(24)));
        let made = w.store.create_token(&new).await.unwrap();
        let read = w.store.token(&new.id).await.unwrap().unwrap();
        assert_eq!(read.token, made);
        assert_eq!(w.store.create_token(&new).await.unwrap(), made, "asked for again");
        assert_eq!((&made.id, &made.name, &made.grant, made.secret), (&new.id, &new.name, grant, new.secret));
        assert_eq!((made.created_by.as_str(), made.last_used_at, made.revoked_at), ("ann", None, None));
        let life = made.expires_at.map(|at| at.since(made.created_at));
        assert_eq!(life, new.lifetime);
        assert!(read.now.since(made.created_at) < Duration::from_mins(1));
    }
    let other = NewToken { secret: SecretHash([8; 32]), ..new_token(1, Grant::operator(), None) };
    assert!(matches!(w.store.create_token(&other).await, Err(StoreError::Rejected { .. })));
    assert_eq!(w.store.token(&TokenId::new(99)).await.unwrap(), None);
    let pages = w.store.tokens(None, 3).await.unwrap();
    let rest = w.store.tokens(Some(&pages[2].id), 3).await.unwrap();
    let grants_read: Vec<_> = pages.iter().chain(&rest).map(|t| t.grant.clone()).collect();
    assert_eq!(grants_read, grants);
}

/// Revoked once and for ever; used is noted, and not too often.
pub async fn tokens_are_revoked_and_their_use_is_noted(w: &World) {
    let new = new_token(1, viewer(&["ads"]), None);
    w.store.create_token(&new).await.unwrap();
    let touched = async |apart| {
        w.store.touch_token(&new.id, apart).await.unwrap();
        w.store.token(&new.id).await.unwrap().unwrap().token.last_used_at
    };
    let first = touched(Duration::from_mins(1)).await.unwrap();
    assert_eq!(touched(Duration::from_mins(1)).await, Some(first), "not again within the minute");
    eventually("it is noted again", async || touched(Duration::ZERO).await.filter(|at| *at > first)).await;
    let revoked = w.store.revoke_token(&new.id).await.unwrap().unwrap();
    assert!(revoked.revoked_at.is_some());
    assert_eq!(w.store.revoke_token(&new.id).await.unwrap().unwrap().revoked_at, revoked.revoked_at);
    assert_eq!(w.store.revoke_token(&TokenId::new(99)).await.unwrap(), None);
}

/// The log by pages, newest first; old lines and tokens that ended go, others stay.
pub async fn the_audit_log_is_read_by_pages_and_purged(w: &World) {
    let entry = |n: usize| AuditEntry {
        actor: format!("ann {n}"),
        address: "10.0.0.7".to_owned(),
        action: "job.submit".to_owned(),
        target: "ä".repeat(900),
        result: "ok".to_owned(),
        request: "r".to_owned(),
    };
    for n in 0..5 {
        w.store.write_audit(&entry(n)).await.unwrap();
    }
    let first = w.store.audit_log(None, 3).await.unwrap();
    let second = w.store.audit_log(Some(first[2].id), 3).await.unwrap();
    let actors: Vec<_> = first.iter().chain(&second).map(|line| line.entry.actor.clone()).collect();
    assert_eq!(actors, ["ann 4", "ann 3", "ann 2", "ann 1", "ann 0"]);
    assert_eq!(first[0].entry.target.chars().count(), 500);
    let new = new_token(1, viewer(&["ads"]), None);
    w.store.create_token(&new).await.unwrap();
    w.store.create_token(&new_token(2, viewer(&["ads"]), Some(Duration::ZERO))).await.unwrap();
    assert_eq!(w.store.purge_access(Duration::from_hours(1), 100).await.unwrap(), 0);
    assert_eq!(w.store.audit_log(None, 10).await.unwrap().len(), 5);
    // By the database's clock, which may be of milliseconds: until the last line is older than now.
    eventually("all that is old is gone", async || {
        w.store.purge_access(Duration::ZERO, 2).await.unwrap();
        let left = w.store.audit_log(None, 10).await.unwrap().len();
        (left == 0 && w.store.tokens(None, 10).await.unwrap().len() == 1).then_some(())
    })
    .await;
    assert!(w.store.token(&new.id).await.unwrap().is_some(), "one that is good stays");
}

/// Only jobs of the teams that whoever asks may see, whatever else is asked for.
pub async fn lists_keep_to_teams(w: &World) {
    w.accept("ads", 3).await;
    w.accept("ml", 2).await;
    let count = async |team: Option<&str>, among: Option<&[&str]>| {
        let filter = JobFilter {
            team: team.map(|t| t.parse().unwrap()),
            among: among.map(|teams| teams.iter().map(|t| t.parse().unwrap()).collect()),
            limit: 100,
            ..JobFilter::default()
        };
        w.store.jobs(&filter).await.unwrap().jobs.len()
    };
    assert_eq!(count(None, None).await, 5);
    assert_eq!(count(None, Some(&["ads"])).await, 3);
    assert_eq!(count(None, Some(&["ads", "ml", "none"])).await, 5);
    assert_eq!(count(None, Some(&[])).await, 0);
    assert_eq!(count(Some("ml"), Some(&["ads"])).await, 0);
    assert_eq!(count(Some("ml"), Some(&["ml"])).await, 2);
    let filter =
        |among: Option<Vec<TeamId>>| JobFilter { among, limit: 2, scan_max: 2, ..JobFilter::default() };
    // The bound of a call: two jobs of `ml`, which are the newest; those of `ads` are for the next page.
    let page =
        w.store.jobs(&filter(Some(vec!["ads".parse().unwrap(), "none".parse().unwrap()]))).await.unwrap();
    assert!(page.jobs.is_empty() && page.next.is_some(), "{page:?}");
    // A caller of one team is given the team's own index, as if they had asked for the team.
    let page = w.store.jobs(&filter(Some(vec!["ads".parse().unwrap()]))).await.unwrap();
    assert_eq!(page.jobs.len(), 2);
    let page = w.store.jobs(&filter(Some(Vec::new()))).await.unwrap();
    assert_eq!(page, JobPage::default());
    // Of another team nothing is told, not even by where the next page would begin.
    let others =
        JobFilter { team: Some("ml".parse().unwrap()), ..filter(Some(vec!["ads".parse().unwrap()])) };
    assert_eq!(
        w.store.jobs(&JobFilter { limit: 1, scan_max: 1, ..others }).await.unwrap(),
        JobPage::default()
    );
}
