//! The ledger's rows: locked in one order, checked and summed here in exact integers, written back.

use std::collections::{BTreeMap, BTreeSet};

use yard_domain::{Account, AccountOwner, ClusterId, Request, TeamId};

use crate::backend::{Row, Value};
use crate::codec::{read_request, write_request};
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

/// Reads an account from (owner, used).
pub(crate) fn read_account(row: Row) -> Result<Account, Fault> {
    let mut r = Reader::new("accounts", row);
    Ok(Account { owner: r.coded("owner", read_owner)?, used: r.coded("used", read_request)?, past: None })
}

/// Locked accounts.
#[derive(Default)]
pub(crate) struct Accounts {
    used: BTreeMap<AccountOwner, Request>,
    changed: BTreeSet<AccountOwner>,
}

impl Accounts {
    /// Locks these accounts, clusters before teams, each by id. Those that are not there are left out.
    pub(crate) async fn lock(conn: &mut Conn, owners: BTreeSet<AccountOwner>) -> Result<Self, Fault> {
        let mut accounts = Self::default();
        let keys: Vec<Value> = owners.iter().map(|o| owner_key(o).into()).collect();
        let (index, lock) = (conn.dialect.index("PRIMARY"), conn.dialect.for_update());
        for keys in keys.chunks(BATCH) {
            let marks = sql::marks(keys.len());
            let sql = format!(
                "SELECT owner, used FROM accounts{index} WHERE owner IN ({marks}) ORDER BY owner{lock}"
            );
            let mut args = Vec::new();
            sql::pad(&mut args, keys);
            for row in conn.rows(sql, args).await? {
                let account = read_account(row)?;
                accounts.used.insert(account.owner, account.used);
            }
        }
        Ok(accounts)
    }

    /// As [`Accounts::lock`], for clusters and teams.
    pub(crate) async fn lock_for<'a>(
        conn: &mut Conn,
        clusters: impl IntoIterator<Item = &'a ClusterId>,
        teams: impl IntoIterator<Item = &'a TeamId>,
    ) -> Result<Self, Fault> {
        let clusters = clusters.into_iter().cloned().map(AccountOwner::Cluster);
        let owners = clusters.chain(teams.into_iter().cloned().map(AccountOwner::Team)).collect();
        Self::lock(conn, owners).await
    }

    /// What an owner has in use; `None` if its account is not locked or not there.
    pub(crate) fn used(&self, owner: &AccountOwner) -> Option<&Request> {
        self.used.get(owner)
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
            let key = owner_key(&owner);
            let used = self.used.get_mut(&owner);
            let used =
                used.ok_or_else(|| Fault::inconsistent("accounts", &key, &"there is no such account"))?;
            change(used).map_err(|problem| Fault::inconsistent("accounts", &key, &problem))?;
            self.changed.insert(owner);
        }
        Ok(())
    }

    /// Writes back what has changed.
    pub(crate) async fn write(self, conn: &mut Conn) -> Result<(), Fault> {
        let rows = self.changed.iter().filter_map(|owner| {
            let used = write_request(self.used.get(owner)?);
            Some((owner_key(owner).into(), vec![Set::To("used", used.into())]))
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
