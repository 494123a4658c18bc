//! The contract of every store: one body per promise, one test per adapter; then the promises of durable stores only.
#![cfg(test)]
#![allow(unreachable_pub, missing_docs, reason = "a test binary has no callers")]

mod commits;
mod conversion;
mod encryption;
mod event_retention;
mod fixture;
mod imports;
mod outages;
mod outbox;
mod pings_view;
mod quotas;
mod restarts;
mod stats_rows;
mod storage;
mod tampering;
mod totals;
mod view_audit;
mod views;
mod writers;

macro_rules! case {
    ($theme:ident, $promise:ident, $open:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            crate::$theme::$promise(&crate::fixture::$open().await).await;
        }
    };
}

macro_rules! contract {
    ($adapters:tt $($theme:ident: $promises:tt)*) => {
        $(contract!(@theme $adapters $theme $promises);)*
    };
    (@theme [$($adapter:ident)*] $theme:ident $promises:tt) => {
        mod $theme { $(contract!(@adapter $adapter $theme $promises);)* }
    };
    (@adapter $adapter:ident $theme:ident [$($promise:ident)*]) => {
        mod $adapter { $(case!($theme, $promise, $adapter);)* }
    };
}

mod every {
    contract! {
        [memory sqlite postgres]
        commits: [
            the_same_id_counts_once
            known_ids_are_reported
            a_batch_of_known_ids_moves_the_writer_and_nothing_else
            the_first_version_of_an_event_stays
            sources_and_kinds_survive
            overlapping_batches_count_each_id_once
            a_batch_of_thousands_is_one_commit
        ]
        writers: [
            a_writer_id_is_never_reused
            closing_returns_the_last_number
            a_closed_writer_commits_nothing
            an_unknown_writer_commits_nothing
            a_commit_that_races_with_closing_is_in_or_out
            renewing_keeps_a_writer_open
            an_expired_writer_is_closed
            a_commit_renews_the_lease
            a_batch_that_does_not_follow_the_last_one_commits_nothing
            last_numbers_are_those_of_live_and_compacted_writers
        ]
        outbox: [
            a_row_comes_back_as_it_was_committed
            rows_are_returned_in_order_up_to_the_limit
            forgotten_rows_are_gone_and_later_ones_stay
            an_orphan_is_lent_to_one_caller
            a_writer_without_rows_is_no_orphan
            the_watermark_is_the_oldest_row
        ]
        totals: [
            a_range_counts_what_is_in_it
            a_snapshot_is_consistent
            a_snapshot_holds_the_window_and_what_was_touched
            compaction_keeps_every_count
            open_and_unpublished_writers_are_not_compacted
            concurrent_compactions_compact_each_writer_once
            a_recount_agrees
        ]
        views: [
            a_step_is_applied_once
            late_events_correct_their_window
            kinds_are_read_by_ranges_that_compare_bytes
            the_watermark_is_that_of_the_slowest_partition
            a_rebuild_equals_the_steps
            a_closed_day_keeps_its_count
            the_busiest_come_first
            expired_rows_are_deleted
            segments_are_merged_once
            many_sources_are_found_after_many_merges
            totals_over_time_are_those_of_the_rows
        ]
        storage: [
            sizes_are_those_of_all_parts
            sources_are_counted_exactly_while_they_are_few
        ]
        view_audit: [
            the_accounts_of_views_agree
            merges_and_retention_keep_the_accounts_equal
            an_id_is_committed_to_its_source_once
            segments_are_audited_in_the_order_of_their_numbers
            the_result_of_an_audit_is_kept
            the_last_change_of_an_incarnation_is_kept
        ]
        event_retention: [
            dropped_events_stay_counted
            a_dropped_id_is_refused_and_an_id_without_a_day_is_remembered
            counts_within_dropped_minutes_are_refused
            views_that_are_rebuilt_after_a_drop_equal_those_before
            late_events_of_dropped_days_are_counted
            ten_days_keep_as_many_rows_as_two
        ]
        quotas: [
            a_bucket_grants_what_it_holds_and_no_more
            what_is_returned_can_be_taken_again
            a_bucket_refills
            claims_are_answered_in_their_order
            concurrent_claims_stay_within_the_bucket
            new_names_are_admitted_up_to_the_budget_and_counted_once
            names_are_admitted_together_or_not_at_all
            concurrent_admissions_stay_within_the_budget
            names_in_the_views_and_admitted_ones_are_known
            full_buckets_are_forgotten_and_others_are_not
        ]
    }
}

/// Where the clock is set by hand.
mod timed {
    contract! {
        [memory sqlite]
        quotas: [
            a_new_day_has_a_new_budget
            a_kind_of_all_sources_stays_known
        ]
    }
}

mod durable {
    contract! {
        [sqlite postgres]
        tampering: [
            a_deleted_row_is_found
            a_wrong_minute_is_found
            a_wrong_day_and_a_wrong_total_are_found
        ]
        view_audit: [
            edited_segments_are_recognized
            views_of_an_earlier_version_are_rebuilt_before_they_are_compared
        ]
    }
}
