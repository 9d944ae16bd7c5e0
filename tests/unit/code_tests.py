"""Which test makes each code happen. The list of what waits shrinks as features land: a code that is said somewhere and
has no test here is found by `test_codes`."""

from __future__ import annotations

from i2core.api import Code

MIRROR = "tests/integration/test_mirror_"
SINK = "plugins/sink_fs/tests/test_sink_fs_"

PROVOKED: dict[Code, str] = {
    Code.DUPLICATE_MESSAGE: "tests/integration/test_mirror_seqs.py::test_what_was_applied_is_passed_over",
    Code.RULE_RESTARTED: "tests/unit/test_node_runner.py::"
    "test_a_limit_of_zero_stops_the_rule_and_another_one_starts_it_again",
    Code.MIRROR_DONE: "tests/integration/test_replica_forgot.py::test_a_backup_node_that_lost_the_state_of_a_rule",
    Code.NETWORK: MIRROR + "brake.py::test_a_link_that_breaks_while_deletes_are_held_holds_them_anew",
    Code.MIRROR_CANCELLED: "tests/integration/test_limits_used_up.py::test_limits_that_are_used_up_are_told",
    Code.ILLEGAL_TASK: "tests/integration/test_replica_forgot.py::test_a_backup_node_that_lost_the_state_of_a_rule",
    Code.CONFIG_GONE: "tests/unit/test_reload.py::test_a_file_that_is_gone_is_told_and_may_come_back",
    Code.RULE_UNKNOWN: "tests/unit/test_node_control.py::test_errors_come_back_as_they_were_raised",
    Code.WRITE_FRAGMENT: "tests/unit/test_records.py::test_offsets_that_no_file_has_are_refused",
    Code.VERSION_MISMATCH: MIRROR + "refused.py::test_another_version_of_the_protocol",
    Code.TIME_STAMP: "tests/unit/test_limits.py::test_the_clock_may_be_set_at_any_time",
    Code.SEQUENCE: MIRROR + "seqs.py::test_a_gap_within_a_session_is_refused",
    Code.REPLICATE_FILE: SINK + "faults.py::test_read_only_replica_stops_the_rule",
    Code.OPEN_SOURCE: MIRROR + "first.py::test_an_unreadable_file_is_named_and_left_out",
    Code.READ_SOURCE: MIRROR + "many.py::test_a_path_that_no_record_can_hold_is_named_and_left_out",
    Code.OPEN_REPLICA: SINK + "traps.py::test_root_taken_away_stops_the_rule",
    Code.THREAD: "tests/unit/test_node_faults.py::test_a_thread_that_cannot_be_had",
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
    Code.INTERNAL: "tests/unit/test_node_faults.py::test_what_has_no_code_is_a_mistake_of_ours",
    Code.PEER_REFUSED: "tests/system/test_system_pairing.py::test_pair_replicate_revoke_and_pair_again",
    Code.MASS_DELETE_HELD: MIRROR + "brake.py::test_live_deletes_are_held_beyond_the_share",
    Code.CAPTURE_LOST: "tests/integration/test_losses.py::test_a_loss_is_told_and_its_place_compared",
    Code.CAPTURE_UNFIT: "plugins/capture_inotify/tests/test_inotify_limits.py::"
    "test_no_instance_left_stops_the_rule_with_the_setting_that_mends_it",
    Code.REPLICA_FULL: "tests/integration/test_disk_full.py::test_a_full_replica_stops_the_rule_and_harms_nothing",
    Code.SOURCE_GONE: "tests/system/test_system_daemon.py::test_one_rule_that_fails_leaves_the_other_running",
    Code.ATTRIBUTE_UNSUPPORTED: SINK + "exact.py::test_an_attribute_that_cannot_be_kept_is_said_once_with_its_code",
    Code.PLUGIN_BROKEN: "tests/unit/registry/test_registry_lookup.py::test_a_name_with_a_problem_says_so",
    Code.WORK_FULL: "tests/integration/test_disk_full.py::test_a_full_disk_on_the_work_node_stops_the_rule",
    Code.RPO_BROKEN: "tests/unit/test_rpo.py::test_broken_and_holding_again_are_each_told_once",
    Code.RPO_HOLDS: "tests/unit/test_rpo.py::test_broken_and_holding_again_are_each_told_once",
    Code.BANDWIDTH_ZERO: "tests/system/test_system_daemon.py::test_an_edited_limit_counts_while_the_node_runs",
    Code.STALLED: "tests/integration/test_stall.py::test_a_stalled_transfer_is_found_told_and_begun_anew",
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
"""Codes of the manual for what cannot occur in this design, or is told by another code, and why."""

WAITS_FOR: dict[str, tuple[Code, ...]] = {
    "compare": (Code.FILE_CHECKSUM,),
    "CDP": (
        Code.CDP_DESCRIPTION,
        Code.CDP_DESCRIPTION_READ,
        Code.CDP_DESCRIPTION_WRITE,
        Code.CDP_INCOMPLETE,
        Code.CDP_READ,
        Code.CDP_INDEX_READ,
        Code.CDP_RESTORE_WRITE,
        Code.CDP_VERSION,
        Code.CDP_INDEX_WRITE,
        Code.CDP_DATA_WRITE,
        Code.CDP_INDEX_DAMAGED,
        Code.CDP_CONFIG,
        Code.CDP_DATABASE,
    ),
    "snapshots": (Code.SNAPSHOT_REMOVE, Code.SNAPSHOT_CREATE, Code.SNAPSHOT_MOUNT),
    "replicas on volumes": (
        Code.VOLUME_GROUP,
        Code.LOGICAL_VOLUME,
        Code.VOLUME_CREATE,
        Code.VOLUME_FORMAT,
        Code.VOLUME_GROUP_EXTEND,
        Code.MOUNTED_TWICE,
    ),
}
"""Codes of features that are not finished yet."""
