//! Tokens that are nearly ours: none opens but those that were issued.

use proptest::prelude::*;
use serde_json::json;

use super::access::{self, Form, Opened};
use super::claims::AccessClaims;
use super::kek::Kek;
use super::refresh::{self, RefreshClaims};
use super::{Keyring, lifecycle};
use crate::config::{Config, Database, SigningAlgorithm, TokenFormat};
use crate::fuzz::{hostile_text, survives};
use crate::oauth2::Secret;
use crate::storage::{Storage, keys};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.test";

fn ring() -> Keyring {
    let folder = tempfile::tempdir().unwrap();
    let database = Database { url: Secret::new(format!("sqlite:{}", folder.path().join("test.db").display())), ..Database::default() };
    let config = Config { database, ..Config::default() };
    let storage = Storage::open(&config.database).unwrap();
    storage.migrate().unwrap();
    let kek = Kek::load(&config, true).unwrap();
    lifecycle::ensure(&storage, &kek, "start", NOW).unwrap();
    Keyring::build(&storage.read_blocking(keys::all).unwrap(), &kek, ISSUER, NOW).unwrap()
}

#[test]
fn fuzz_token_opener() {
    let ring = ring();
    let claims: AccessClaims = serde_json::from_value(json!({
        "iss": ISSUER, "sub": "a", "client_id": "a", "aud": "x", "scope": "s", "jti": "j", "iat": NOW, "exp": NOW + 60, "rv": 0
    }))
    .unwrap();
    let minted = |format, algorithm| access::mint(&ring, Form { format, algorithm }, &claims, NOW).unwrap();
    let issued = [
        minted(TokenFormat::Opaque, SigningAlgorithm::Es256),
        minted(TokenFormat::Jwt, SigningAlgorithm::Es256),
        minted(TokenFormat::Jwt, SigningAlgorithm::Rs256),
        minted(TokenFormat::Jwt, SigningAlgorithm::EdDsa),
    ];
    let family = RefreshClaims { family: "f".into(), generation: 1, client_id: "a".into(), exp: NOW + 60 };
    let refresh = refresh::mint(&ring, &family, NOW).unwrap();
    let seeds: Vec<&str> = issued.iter().chain([&refresh]).map(Secret::expose).collect();
    survives(hostile_text(&seeds), |text| {
        // An ECDSA signature may be changed and stay valid, but what it signs may not.
        let ours = issued
            .iter()
            .any(|token| token.expose().rsplit_once('.').map_or(token.expose() == text, |(signed, _)| text.starts_with(signed)));
        if let Opened::Claims(opened) = access::open(&ring, ISSUER, &text) {
            prop_assert!(ours, "{text} opens");
            prop_assert_eq!(*opened, claims.clone());
        }
        if let refresh::Opened::Claims(_) = refresh::open(&ring, &text) {
            prop_assert_eq!(text.as_str(), refresh.expose());
        }
        Ok(())
    });
}
