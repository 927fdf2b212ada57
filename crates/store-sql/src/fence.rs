//! The fence: the first statement of every transaction of a scheduler or dispatcher reads its lease's row, in
//! share mode, together with the time. Whoever takes the lease over writes that one row, so from then on no
//! transaction of the holder before can begin, and none that had begun is still open (docs/adr/0003).

use yard_domain::{ClusterId, Lease, LeaseScope, Timestamp};
use yard_ports::store::StoreError;

use crate::fault::Fault;
use crate::reader::Reader;
use crate::tx::Conn;

/// Proves that `lease` is valid, until the end of the transaction; the time at which it was.
pub(crate) async fn fence(conn: &mut Conn, lease: &Lease) -> Result<Timestamp, Fault> {
    let share = conn.dialect.share();
    check(conn, lease, share).await
}

/// As [`fence_scheduler`], but the lease may end while the transaction goes on: for what is only written for people, and
/// may have to wait for rows that a process which stands still has locked. A lease row that is held meanwhile could not
/// be renewed, and with it would go everything else that the process holds.
pub(crate) async fn glance_scheduler(conn: &mut Conn, lease: &Lease) -> Result<Timestamp, Fault> {
    demand_scheduler(conn, lease)?;
    check(conn, lease, "").await
}

async fn check(conn: &mut Conn, lease: &Lease, share: &str) -> Result<Timestamp, Fault> {
    let now = conn.dialect.now();
    let sql = format!("SELECT scope, token, expires_us, {now} FROM leases WHERE scope = ?{share}");
    let row = conn.rows(sql, vec![lease.scope.to_string().into()]).await?.pop();
    if let Some(row) = row {
        let mut r = Reader::new("leases", row);
        r.text("scope")?;
        let (token, expires, now) = (r.int("token")?, r.time("expires_us")?, r.time("now")?);
        if token == lease.token.0 && !expires.is_due(now) {
            return Ok(now);
        }
    }
    count_stale(conn.verb, 1);
    Err(lost(lease))
}

/// As [`fence`], for a lease on a cluster; which one.
pub(crate) async fn fence_cluster(conn: &mut Conn, lease: &Lease) -> Result<(Timestamp, ClusterId), Fault> {
    let LeaseScope::Dispatch(cluster) = &lease.scope else {
        let reason = format!("the lease {} is not on a cluster", lease.scope);
        return Err(StoreError::Rejected { context: conn.verb, reason }.into());
    };
    Ok((fence(conn, lease).await?, cluster.clone()))
}

/// As [`fence`], for a scheduler's lease.
pub(crate) async fn fence_scheduler(conn: &mut Conn, lease: &Lease) -> Result<Timestamp, Fault> {
    demand_scheduler(conn, lease)?;
    fence(conn, lease).await
}

fn demand_scheduler(conn: &Conn, lease: &Lease) -> Result<(), Fault> {
    if matches!(lease.scope, LeaseScope::Scheduler(_)) {
        return Ok(());
    }
    let reason = format!("the lease {} is not a scheduler's", lease.scope);
    Err(StoreError::Rejected { context: conn.verb, reason }.into())
}

/// Counts writes that were refused because their lease, claim or attempt is not current.
pub(crate) fn count_stale(verb: &'static str, n: usize) {
    if n > 0 {
        metrics::counter!("yard_stale_writes_total", "verb" => verb).increment(n as u64);
    }
}

fn lost(lease: &Lease) -> Fault {
    StoreError::LeaseLost { scope: lease.scope.to_string(), token: lease.token }.into()
}
