//! One binary for all stories.

mod okta_rotates_its_keys;
