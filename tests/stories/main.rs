//! One binary for all stories.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a story that meets what it does not expect fails"
)]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the ground offers more than the stories of today use")]
mod harness;

mod account_states;
mod active_directory_signs_in;
mod audit_is_shipped;
mod backup_is_restored;
mod check_finds_what_stops_serve;
mod client_proves_itself_by_key;
mod clock_is_stepped;
mod command_line_asks_twice;
mod config_mistakes;
mod confused_tokens;
mod croit_clients_log_in;
mod database_fails;
mod databases_are_migrated;
mod declared_clients_belong_to_the_file;
mod directories_of_every_kind;
mod directory_credentials_change;
mod directory_fails_over;
mod directory_hangs;
mod directory_is_down;
mod directory_refuses;
mod doctor_looks_at_the_house;
mod doctor_says_what_is_wrong;
mod first_start_greets;
mod floods_are_held;
mod groups_become_roles;
mod house_rules;
mod identity_age_is_bounded;
mod introspection_is_signed;
mod key_encryption_key_changes;
mod keys_turn;
mod killed_under_load;
mod leaver_loses_access;
mod local_accounts;
mod mapping_changes_are_weighed;
mod metrics_are_true;
mod no_side_doors;
mod nobody_is_told_who_exists;
mod okta_groups_are_resolved;
mod okta_is_asked_again;
mod okta_login_in_croit_shape;
mod okta_logs_people_out;
mod okta_rotates_its_keys;
mod okta_token_is_exchanged;
mod okta_token_is_thin;
mod person_signs_in_through_ldap;
mod refresh_tokens_rotate;
mod refresh_while_the_source_is_gone;
mod resource_server_keeps_answers;
mod resource_server_validates_jwts;
mod revocation_is_at_once;
mod revocations_are_followed;
mod revoked_by_cause;
mod server_keeps_its_promises;
mod service_gets_its_own_token;
mod standard_clients_work;
mod strangers_lock_nobody_out;
mod testing_ground;
mod three_nodes_are_attacked;
mod two_nodes_share_a_database;
mod wire_errors;
