"""The test that causes each code. `test_codes` finds a code that is used somewhere and has no test here."""

from __future__ import annotations

from i2core.api import Code

MIRROR = "tests/integration/test_mirror_"
SINK = "plugins/sink_fs/tests/test_sink_fs_"
RECORDER = "tests/unit/history/test_recorder.py::"
VOLUMES = "plugins/store_lvm/tests/test_store_lvm_volumes.py::"
CDP = "plugins/store_cdp/tests/test_store_cdp_"

PROVOKED: dict[Code, str] = {
    Code.DUPLICATE_MESSAGE: "tests/integration/test_mirror_seqs.py::test_applied_records_are_skipped",
    Code.CATALOG_DAMAGED: "tests/integration/test_catalog_damaged.py::test_between_two_runs",
    Code.STATE_UNUSABLE: "tests/integration/test_catalog_damaged.py::test_again_and_again_is_the_disk",
    Code.RIGHT_AGAIN: "tests/integration/test_doubt_until_right.py::test_what_is_refused_is_tried_until_it_succeeds",
    Code.RULE_RESTARTED: "tests/unit/test_rule_runner.py::"
    "test_a_limit_of_zero_stops_the_rule_and_another_one_starts_it_again",
    Code.MIRROR_DONE: "tests/integration/test_replica_forgot.py::test_a_backup_node_that_lost_the_state_of_a_rule",
    Code.NETWORK: MIRROR + "brake.py::test_deletes_are_held_again_after_the_link_broke",
    Code.MIRROR_CANCELLED: "tests/integration/test_limits_used_up.py::test_used_up_limits_are_reported",
    Code.ILLEGAL_TASK: "tests/integration/test_replica_forgot.py::test_a_backup_node_that_lost_the_state_of_a_rule",
    Code.CONFIG_GONE: "tests/unit/test_reload.py::test_a_missing_file_is_reported_and_may_come_back",
    Code.RULE_UNKNOWN: "tests/unit/test_node_control.py::test_errors_come_back_as_they_were_raised",
    Code.CDP_DESCRIPTION: CDP + "faults.py::test_a_damaged_manifest_is_refused",
    Code.CDP_DESCRIPTION_READ: CDP + "faults.py::test_nothing_is_written_into_another_directory",
    Code.CDP_DESCRIPTION_WRITE: CDP + "faults.py::test_full_disk_changes_nothing",
    Code.CDP_INCOMPLETE: CDP + "crash.py::test_what_was_durable_is_never_taken_for_torn",
    Code.CDP_READ: CDP + "faults.py::test_a_read_error_is_told",
    Code.CDP_VERSION: CDP + "faults.py::test_another_version_is_refused",
    Code.CDP_INDEX_READ: RECORDER + "test_an_index_that_cannot_be_opened_is_left_alone",
    Code.CDP_INDEX_WRITE: RECORDER + "test_an_index_without_room_stops_the_rule_and_is_made_again",
    Code.CDP_INDEX_DAMAGED: RECORDER + "test_a_lost_index_of_a_merged_journal_stops_the_rule",
    Code.CDP_DATA_WRITE: CDP + "faults.py::test_full_disk_changes_nothing",
    Code.CDP_CONFIG: "tests/unit/history/test_removal.py::test_a_damaged_note_clears_nothing",
    Code.RECOVERING: "tests/system/test_system_recover.py::test_a_recovery_survives_kills_of_either_node",
    Code.CDP_FILLS_UP: "tests/unit/history/test_thinner.py::"
    "test_a_disk_that_fills_up_is_reported_once_and_when_it_is_worse",
    Code.WRITE_FRAGMENT: "tests/unit/test_records.py::test_offsets_that_no_file_has_are_refused",
    Code.VERSION_MISMATCH: MIRROR + "refused.py::test_another_version_of_the_protocol",
    Code.TIME_STAMP: "tests/unit/test_limits.py::test_the_clock_may_be_set_at_any_time",
    Code.SEQUENCE: MIRROR + "seqs.py::test_a_gap_within_a_session_is_refused",
    Code.REPLICATE_FILE: SINK + "faults.py::test_read_only_replica_stops_the_rule",
    Code.OPEN_SOURCE: MIRROR + "first.py::test_an_unreadable_file_is_reported_and_skipped",
    Code.READ_SOURCE: MIRROR + "many.py::test_a_path_that_no_record_can_hold_is_reported_and_skipped",
    Code.OPEN_REPLICA: SINK + "traps.py::test_root_that_cannot_be_opened_stops_the_rule",
    Code.THREAD: "tests/unit/test_node_faults.py::test_a_thread_that_cannot_be_started",
    Code.MESSAGE_TYPE: MIRROR + "refused.py::test_a_greeting_with_a_path_that_is_no_bytes",
    Code.ILLEGAL_PATH: MIRROR + "refused.py::test_a_target_outside_the_allowed_directories",
    Code.DUPLICATE_TASK: MIRROR + "refused.py::test_two_rules_with_one_target",
    Code.SAVE_ATTRIBUTES: SINK + "exact.py::test_attribute_too_large_is_one_failure",
    Code.COMPRESS: "plugins/codec_zstd/tests/test_codec_zstd.py::test_data_that_cannot_be_compressed_stops_the_rule",
    Code.DECOMPRESS: "plugins/codec_zstd/tests/test_codec_zstd.py::test_a_changed_frame_is_noticed",
    Code.ENCRYPT: "plugins/codec_aesgcm/tests/test_codec_aesgcm_secret.py::test_a_key_file_without_a_key",
    Code.DECRYPT: MIRROR + "refused.py::test_a_key_that_does_not_fit",
    Code.LOCKED: MIRROR + "refused.py::test_an_older_epoch",
    Code.READ_ATTRIBUTES: "tests/integration/test_unreadable_attributes.py::"
    "test_a_name_whose_attributes_cannot_be_read",
    Code.USAGE: "tests/unit/test_node_control.py::test_a_question_that_makes_no_sense",
    Code.INTERNAL: "tests/unit/test_node_faults.py::test_an_error_without_a_code_is_an_internal_error",
    Code.PEER_REFUSED: "tests/system/test_system_pairing.py::test_pair_replicate_revoke_and_pair_again",
    Code.MASS_DELETE_HELD: MIRROR + "brake.py::test_live_deletes_are_held_beyond_the_share",
    Code.CAPTURE_LOST: "tests/integration/test_losses.py::test_a_loss_is_logged_and_its_place_compared",
    Code.CAPTURE_UNFIT: "plugins/capture_inotify/tests/test_inotify_limits.py::"
    "test_no_instance_left_stops_the_rule_with_the_setting_that_mends_it",
    Code.REPLICA_FULL: "tests/integration/test_disk_full.py::test_a_full_replica_stops_the_rule_and_damages_nothing",
    Code.SOURCE_GONE: "tests/system/test_system_daemon.py::test_one_rule_that_fails_leaves_the_other_running",
    Code.ATTRIBUTE_UNSUPPORTED: SINK + "exact.py::test_an_attribute_that_cannot_be_kept_is_said_once_with_its_code",
    Code.PLUGIN_BROKEN: "tests/unit/registry/test_registry_lookup.py::test_a_name_with_a_problem_says_so",
    Code.WORK_FULL: "tests/integration/test_disk_full.py::test_a_full_disk_on_the_work_node_stops_the_rule",
    Code.RPO_BROKEN: "tests/unit/test_rpo.py::test_broken_and_holding_again_are_each_reported_once",
    Code.RPO_HOLDS: "tests/unit/test_rpo.py::test_broken_and_holding_again_are_each_reported_once",
    Code.BANDWIDTH_ZERO: "tests/system/test_system_daemon.py::test_an_edited_limit_counts_while_the_node_runs",
    Code.SOURCE_EXCHANGED: "tests/integration/test_roots.py::test_a_source_that_is_another_directory_is_compared",
    Code.REPLICA_GONE: SINK + "roots.py::test_nothing_is_durable_in_a_root_that_left_its_place",
    Code.REPLICA_EXCHANGED: "tests/integration/test_roots.py::test_a_replica_that_was_removed_is_filled_again",
    Code.POSITION_DAMAGED: "tests/unit/test_replica_position.py::test_a_rule_whose_position_is_damaged_is_compared",
    Code.STALLED: "tests/integration/test_stall.py::test_a_stalled_transfer_is_detected_reported_and_started_again",
    Code.REPLICA_WAITS: "plugins/sink_fs/tests/test_sink_fs_faults.py::test_what_passes_is_waited_for",
    Code.PEER_LIMIT: "tests/unit/test_admission.py::test_rules_of_a_peer_are_bounded_and_known_ones_are_accepted",
    Code.NO_EFFECT: "tests/system/test_system_daemon.py::test_keys_without_effect_are_reported",
    Code.TURNED_BACK: "tests/integration/test_rewind.py::test_the_work_node_is_refused_until_a_release",
    Code.CDP_RESTORE_WRITE: "tests/unit/history/test_turning.py::test_a_batch_ends_with_what_cannot_be_carried_out",
    Code.HISTORY_ENDED: "tests/integration/test_history_ends.py::test_another_directory_has_another_history",
    Code.CDP_CONFIG: "tests/integration/test_history_ends.py::test_a_sink_that_cannot_keep_is_refused",
    Code.HISTORY_GAP: RECORDER + "test_what_somebody_else_changed_is_said_and_compared",
    Code.TASK_INTERRUPTED: "tests/unit/test_node_tasks.py::test_a_task_that_the_daemon_broke_off_is_told",
    Code.SHORT: "tests/integration/test_reads_that_pass.py::test_a_run_that_ends_for_a_temporary_lack_is_started_again",
    Code.REPLICA_UNFIT: "tests/integration/test_doubt_until_right.py::test_objects_that_do_not_fit_are_skipped",
    Code.FLAGS_LEFT: "tests/integration/test_inode_flags.py::test_flags_are_named_once",
    Code.REPLICA_NO_INODES: "tests/integration/test_disk_full.py::test_a_lack_of_inodes_is_reported_as_such",
    Code.SNAPSHOT_MOUNT: "tests/unit/mount/test_point.py::test_what_the_host_lacks_is_said",
    Code.SNAPSHOT_CREATE: "tests/integration/test_snapshots.py::test_without_a_history_the_store_says_what_is_needed",
    Code.SNAPSHOT_REMOVE: "tests/integration/test_snapshots.py::test_one_that_is_read_is_not_removed",
    Code.VOLUME_GROUP: VOLUMES + "test_what_is_wrong_has_the_codes_of_the_manual",
    Code.LOGICAL_VOLUME: VOLUMES + "test_what_is_wrong_has_the_codes_of_the_manual",
    Code.MOUNTED_TWICE: VOLUMES + "test_what_is_wrong_has_the_codes_of_the_manual",
    Code.VOLUME_GROUP_EXTEND: "plugins/store_lvm/tests/test_store_lvm.py::"
    "test_a_snapshot_that_cannot_be_extended_is_told",
    Code.MOUNT_READ: "tests/unit/history/test_past_mounted.py::test_a_lost_object_fails_alone_and_is_logged_once",
    Code.MOUNT_BUSY: "tests/unit/mount/test_life.py::test_who_uses_a_mount_is_told_when_it_ends",
    Code.FILE_CHECKSUM: "tests/integration/test_scrub.py::test_a_byte_that_flips_on_the_replica_is_healed",
    Code.SOURCE_CONTENT: "tests/integration/test_scrub.py::test_a_byte_that_flips_on_the_source_is_not_sent",
    Code.MESSAGE_TOO_LONG: "tests/unit/test_message_size.py::test_a_record_that_no_frame_can_carry_is_refused_by_name",
}
"""The test of each code that can occur now: its source names the code."""

TOLD_OTHERWISE: dict[Code, str] = {
    Code.CONNECTION_STATE: "each change of a rule's state is a line with the code of what caused it",
    Code.RENAME_RECEIVED: "a rename is a record like any other; it stands in the CDP log, not in the logbook",
    Code.MIRROR_LIST_WRITE: "a mirror keeps no list; a full disk beneath the catalog is 3610",
    Code.MIRROR_LIST_READ: "a mirror keeps no list",
    Code.MIRROR_FILE_WRITE: "a mirror keeps no list; a full disk beneath the catalog is 3610",
    Code.MIRROR_FILE_READ: "a mirror keeps no list",
    Code.NAME_LOG: "there is no name log; a full disk beneath the catalog is 3610",
}
"""Codes of the manual for events that cannot occur in this design, or that have another code, and why."""

WAITS_FOR: dict[str, tuple[Code, ...]] = {
    "CDP": (Code.CDP_DATABASE,),
    "replicas on volumes": (Code.VOLUME_CREATE, Code.VOLUME_FORMAT),
}
"""Codes of features that are not finished yet."""
