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

mod config_mistakes;
mod croit_clients_log_in;
mod first_start_greets;
mod house_rules;
mod local_accounts;
mod okta_rotates_its_keys;
mod server_keeps_its_promises;
mod service_gets_its_own_token;
mod testing_ground;
mod wire_errors;
