//! What every store must do, as tests that run on any adapter. A behaviour that is not here does not exist.
//!
//! An adapter gives a [`Database`] of its own to each test and names the suite once:
//!
//! ```ignore
//! yard_testkit::store_suite!(fresh); // async fn fresh() -> Option<Arc<dyn Database>>
//! ```
//!
//! Each behaviour then shows as a `#[test]` of its own. After each, whatever it was about, the ledger must be exact
//! and every job's history must replay to its stored state.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "all of this is tests: failing is what they are for"
)]

pub mod access;
pub mod catalog;
pub mod claims;
pub mod clocks;
pub mod cohorts;
pub mod ends;
pub mod events;
pub mod fencing;
pub mod intake;
pub mod launches;
pub mod leases;
pub mod packages;
pub mod past;
pub mod placements;
pub mod preemptions;
pub mod push;
pub mod stops;
pub mod versions;
pub mod views;
pub mod walk;
mod world;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use futures::FutureExt;
use yard_ports::store::{Store, StoreLimits};

pub use world::World;

/// A database with the product's schema, for one test alone.
#[async_trait]
pub trait Database: Send + Sync {
    /// Opens the store anew, as another process would.
    async fn open(&self, limits: StoreLimits) -> Arc<dyn Store>;
    /// Runs a statement past the store: to make rows that the store would never write.
    async fn tamper(&self, sql: &str);
    /// Deletes the database.
    async fn remove(&self);
}

/// Runs one behaviour on a database of its own; deletes that whatever happens.
pub async fn run(database: Arc<dyn Database>, test: impl AsyncFn(&World)) {
    let result = AssertUnwindSafe(async {
        let world = World::new(Arc::clone(&database)).await;
        test(&world).await;
        world.check_sound().await;
    })
    .catch_unwind()
    .await;
    database.remove().await;
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

/// Makes a `#[test]` of each behaviour. `$fresh` is an `async fn() -> Option<Arc<dyn Database>>`; on `None` the
/// test is left out (the adapter says why).
#[macro_export]
macro_rules! store_suite {
    ($fresh:path) => {
        $crate::store_suite_tests!($fresh,
            intake: [
                the_same_body_is_one_job,
                another_body_is_a_conflict,
                duplicates_inside_a_batch,
                rejected_then_accepted,
                rejection_leaves_an_accepted_receipt,
                keys_are_compared_byte_by_byte,
                concurrent_accepts_of_one_key_make_one_job,
                concurrent_batches_with_common_keys,
                large_batches_keep_their_order,
                overlong_texts_of_rejected_submissions,
            ],
            leases: [
                one_holder_per_scope,
                renewal_extends_and_expiry_loses,
                takeover_gives_a_larger_token,
                asking_again_gives_a_fresh_token,
                releasing_frees_at_once,
                one_call_renews_many,
                racing_holders_get_one_lease,
            ],
            fencing: [
                a_stale_lease_writes_nothing,
                an_expired_lease_writes_nothing,
                leases_of_the_wrong_kind_are_refused,
            ],
            claims: [
                priority_then_age,
                never_more_than_asked_for,
                claims_of_several_groups,
                concurrent_claimers_share_without_overlap,
                releasing_puts_back_in_place,
                the_view_is_bounded_and_fair,
                notes_tell_why_a_job_waits,
            ],
            placements: [
                placing_charges_both_accounts,
                no_room_puts_back,
                clusters_that_take_no_jobs_get_none,
                claims_of_others_are_stale,
                concurrent_schedulers_never_exceed_limits,
            ],
            cohorts: [
                a_team_borrows_what_others_leave,
                a_batch_counts_its_own_placements,
                a_team_moves_with_what_it_uses,
                concurrent_schedulers_never_exceed_a_cohort,
                placements_and_catalogs_at_once,
                cohorts_of_many_teams,
            ],
            preemptions: [
                an_attempt_is_asked_to_make_room_once,
                a_persons_wish_outranks,
                only_open_attempts_are_asked,
                a_placed_attempt_makes_room_before_its_launch,
                racing_wishes_and_ends,
                attempts_of_older_binaries_are_found,
            ],
            past: [
                holdings_are_the_last_placed_first,
                runs_that_ended_by_pages,
                arrivals_by_pages,
                past_use_is_counted_and_fades,
                forecasts_are_held_to_what_came,
            ],
            launches: [
                longest_placed_first,
                attempts_of_a_cluster_by_pages,
                starting_once,
                currency_of_attempts,
            ],
            ends: [
                success_ends_and_refunds,
                failures_are_retried_by_class,
                a_repeated_end_is_stale,
                concurrent_ends_refund_once,
                ends_of_another_cluster_are_stale,
                attempts_are_kept,
            ],
            clocks: [
                a_backoff_ends,
                a_queue_timeout_expires,
                a_late_launch_is_undone,
                claims_of_a_dead_scheduler_come_back,
                claims_of_a_live_scheduler_stay,
                a_sweep_is_bounded,
            ],
            stops: [
                a_queued_job_stops_at_once,
                a_claimed_job_stops_at_placement,
                a_claimed_job_stops_at_release,
                a_placed_job_stops_before_its_launch,
                a_running_job_is_wished_to_stop,
                a_stop_rules_out_another_attempt,
                stopping_what_is_not_there,
            ],
            catalog: [
                what_can_be_made_is_the_dispatcher_s_word,
                syncing_keeps_what_operators_and_dispatchers_said,
                what_is_taken_out_stays_until_it_is_empty,
                declared_capacity_is_not_reported_over,
                concurrent_syncs,
                the_instance_stays,
            ],
            versions: [
                each_document_is_a_version,
                the_whole_catalog_reads_back,
                rows_follow_an_unchanged_document,
                concurrent_catalogs_make_versions_in_a_row,
                elastic_clusters_keep_their_ceiling,
            ],
            views: [
                lists_by_pages_and_filters,
                searches_are_bounded_and_miss_nothing,
                counts_by_team_and_state,
                a_job_knows_its_place,
                receipts_and_keys_outlive_a_purge,
                an_unknown_state_is_an_error_that_names_the_row,
                the_audit_finds_drift,
                history_by_pages,
            ],
            access: [
                tokens_are_kept_as_they_are,
                tokens_are_revoked_and_their_use_is_noted,
                the_audit_log_is_read_by_pages_and_purged,
                lists_keep_to_teams,
            ],
            packages: [
                content_is_kept_once,
                uploads_at_once_keep_one_content,
                packages_expire_unless_used,
                waiting_jobs_keep_their_packages,
                hidden_jobs_are_not_shown,
            ],
            events: [
                concurrent_writers_and_readers_see_every_line_once,
                events_tell_whose_and_are_trimmed,
                doors_tell_how_far_they_are,
            ],
            push: [
                verdicts_without_a_job_are_events,
                an_event_is_made_into_deliveries_once,
                a_lane_goes_in_order,
                too_many_are_given_up,
                the_dead_are_sent_again_or_deleted,
                what_is_retired_is_dead,
                steps_and_attempts_at_once,
            ],
            walk: [
                actors_at_random,
            ],
        );
    };
}

/// See [`store_suite!`].
#[doc(hidden)]
#[macro_export]
macro_rules! store_suite_tests {
    ($fresh:path, $($concern:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        $(mod $concern {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(database) = $fresh().await {
                    $crate::store_suite::run(database, $crate::store_suite::$concern::$name).await;
                }
            })*
        })*
    };
}
