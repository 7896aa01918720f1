//! One binary for all stories.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a story that meets what it does not expect fails"
)]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the ground offers more than the stories of today use")]
mod harness;

mod config_mistakes;
mod confused_tokens;
mod house_rules;
mod okta_login_in_croit_shape;
mod okta_rotates_its_keys;
mod okta_token_is_exchanged;
mod resource_server_validates_jwts;
mod service_gets_its_own_token;
mod standard_clients_work;
mod testing_ground;
mod wire_errors;
