//! The ledger's rows: locked in one order, checked and summed here in exact integers, written back. With what is in
//! use, past use is counted up to the same moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use yard_domain::{Account, AccountOwner, ClusterId, PastUse, Request, TeamId, Timestamp};

use crate::backend::Value;
use crate::codec::{read_past, read_request, write_past, write_request};
use crate::fault::Fault;
use crate::reader::Reader;
use crate::sql::{self, BATCH, Set};
use crate::tx::Conn;

/// How an owner is written; the order of these texts is the order of [`AccountOwner`].
pub(crate) fn owner_key(owner: &AccountOwner) -> String {
    format!("{}:{}", owner.kind(), owner.id())
}

fn read_owner(key: &str) -> Option<AccountOwner> {
    match key.split_once(':')? {
        ("cluster", id) => id.parse().ok().map(AccountOwner::Cluster),
        ("team", id) => id.parse().ok().map(AccountOwner::Team),
        _ => None,
    }
}

/// The columns of an account, in the order in which [`read_account`] takes them.
pub(crate) const ACCOUNT_COLUMNS: &str = "owner, used, past";

/// Reads the [`ACCOUNT_COLUMNS`] of a row.
pub(crate) fn read_account(r: &mut Reader) -> Result<Account, Fault> {
    Ok(Account {
        owner: r.coded("owner", read_owner)?,
        used: r.coded("used", read_request)?,
        past: r.opt_coded("past", read_past)?,
    })
}

/// What these owners have in use, read without locks. Those that are not there are left out.
pub(crate) async fn used_by<'a>(
    conn: &mut Conn,
    teams: impl IntoIterator<Item = &'a TeamId>,
) -> Result<BTreeMap<AccountOwner, Request>, Fault> {
    let owners = teams.into_iter().cloned().map(AccountOwner::Team).collect();
    let accounts = select(conn, &owners, "").await?;
    Ok(accounts.into_iter().map(|account| (account.owner, account.used)).collect())
}

async fn select(
    conn: &mut Conn,
    owners: &BTreeSet<AccountOwner>,
    lock: &'static str,
) -> Result<Vec<Account>, Fault> {
    let keys: Vec<Value> = owners.iter().map(|o| owner_key(o).into()).collect();
    let index = conn.dialect.index("PRIMARY");
    let mut accounts = Vec::with_capacity(keys.len());
    for keys in keys.chunks(BATCH) {
        let marks = sql::marks(keys.len());
        let sql = format!(
            "SELECT {ACCOUNT_COLUMNS} FROM accounts{index} WHERE owner IN ({marks}) ORDER BY owner{lock}"
        );
        let mut args = Vec::new();
        sql::pad(&mut args, keys);
        for row in conn.rows(sql, args).await? {
            accounts.push(read_account(&mut Reader::new("accounts", row))?);
        }
    }
    Ok(accounts)
}

/// Locked accounts.
pub(crate) struct Accounts {
    now: Timestamp,
    entries: BTreeMap<AccountOwner, Entry>,
}

struct Entry {
    used: Request,
    past: Option<PastUse>,
    used_changed: bool,
    past_changed: bool,
}

impl Accounts {
    /// Nothing locked.
    pub(crate) fn none(now: Timestamp) -> Self {
        Self { now, entries: BTreeMap::new() }
    }

    /// Locks these accounts, clusters before teams, each by id. Those that are not there are left out. `now`: up to
    /// when past use is counted where what is in use changes.
    pub(crate) async fn lock(
        conn: &mut Conn,
        now: Timestamp,
        owners: BTreeSet<AccountOwner>,
    ) -> Result<Self, Fault> {
        let lock = conn.dialect.for_update();
        let entry = |account: Account| {
            let Account { owner, used, past } = account;
            (owner, Entry { used, past, used_changed: false, past_changed: false })
        };
        let entries = select(conn, &owners, lock).await?.into_iter().map(entry).collect();
        Ok(Self { now, entries })
    }

    /// As [`Accounts::lock`], for clusters and teams.
    pub(crate) async fn lock_for<'a>(
        conn: &mut Conn,
        now: Timestamp,
        clusters: impl IntoIterator<Item = &'a ClusterId>,
        teams: impl IntoIterator<Item = &'a TeamId>,
    ) -> Result<Self, Fault> {
        let clusters = clusters.into_iter().cloned().map(AccountOwner::Cluster);
        let owners = clusters.chain(teams.into_iter().cloned().map(AccountOwner::Team)).collect();
        Self::lock(conn, now, owners).await
    }

    /// What an owner has in use; `None` if its account is not locked or not there.
    pub(crate) fn used(&self, owner: &AccountOwner) -> Option<&Request> {
        self.entries.get(owner).map(|entry| &entry.used)
    }

    /// Charges both accounts of a placement. They have been checked for room before.
    pub(crate) fn charge(
        &mut self,
        cluster: &ClusterId,
        team: &TeamId,
        request: &Request,
    ) -> Result<(), Fault> {
        self.change(cluster, team, |used| {
            used.add(request);
            Ok(())
        })
    }

    /// Refunds both accounts of an attempt that ended.
    pub(crate) fn refund(
        &mut self,
        cluster: &ClusterId,
        team: &TeamId,
        request: &Request,
    ) -> Result<(), Fault> {
        self.change(cluster, team, |used| {
            used.checked_sub(request).map_err(|short| format!("a refund is larger than the sum: {short}"))
        })
    }

    fn change(
        &mut self,
        cluster: &ClusterId,
        team: &TeamId,
        change: impl Fn(&mut Request) -> Result<(), String>,
    ) -> Result<(), Fault> {
        for owner in [AccountOwner::Cluster(cluster.clone()), AccountOwner::Team(team.clone())] {
            let bad = |problem: &dyn std::fmt::Display| {
                Fault::inconsistent("accounts", &owner_key(&owner), problem)
            };
            let entry = self.entries.get_mut(&owner).ok_or_else(|| bad(&"there is no such account"))?;
            if let Some(past) = &mut entry.past {
                past.advance(&entry.used, self.now);
                entry.past_changed = true;
            }
            change(&mut entry.used).map_err(|problem| bad(&problem))?;
            entry.used_changed = true;
        }
        Ok(())
    }

    /// Makes these accounts remember past use by this half-life from now on, or forget it.
    pub(crate) fn remember_past(&mut self, half_life: Option<Duration>) {
        for entry in self.entries.values_mut() {
            entry.past = half_life.map(|half_life| match entry.past.take() {
                None => PastUse::new(half_life, self.now),
                Some(mut past) => {
                    past.advance(&entry.used, self.now);
                    PastUse { half_life, ..past }
                }
            });
            entry.past_changed = true;
        }
    }

    /// Writes back what has changed.
    pub(crate) async fn write(self, conn: &mut Conn) -> Result<(), Fault> {
        let rows = self.entries.iter().filter_map(|(owner, entry)| {
            let used = entry.used_changed.then(|| Set::To("used", write_request(&entry.used).into()));
            let past =
                entry.past_changed.then(|| Set::To("past", entry.past.as_ref().map(write_past).into()));
            let sets: Vec<Set> = used.into_iter().chain(past).collect();
            (!sets.is_empty()).then(|| (owner_key(owner).into(), sets))
        });
        let rows = rows.collect();
        sql::update(conn, "accounts", "owner", rows).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_owners_do() {
        let cluster = |id: &str| AccountOwner::Cluster(id.parse().unwrap());
        let team = |id: &str| AccountOwner::Team(id.parse().unwrap());
        let owners = [cluster("a"), cluster("a-b"), cluster("a0"), cluster("z"), team("a"), team("b")];
        let keys: Vec<String> = owners.iter().map(owner_key).collect();
        assert!(owners.is_sorted() && keys.is_sorted());
        for (owner, key) in owners.iter().zip(&keys) {
            assert_eq!(read_owner(key).as_ref(), Some(owner));
        }
        assert_eq!(read_owner("cluster:"), None);
    }
}
