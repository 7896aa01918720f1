//! A client's own key: what it signs assertions with, and the public half that it registers or publishes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::Clock;
use countersign::config::SigningAlgorithm;
use countersign::tokens::jwt::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::unique;

pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

#[derive(Debug)]
pub struct ClientKey {
    pub kid: String,
    /// As in `alg`.
    pub algorithm: &'static str,
    pkcs8: Vec<u8>,
}

impl ClientKey {
    /// A new key for ES256, EdDSA, RS256 or PS256.
    pub fn new(algorithm: &'static str) -> ClientKey {
        let pkcs8 = SigningKey::generate(ClientKey::kind(algorithm)).expect("a key can be made").to_vec();
        ClientKey { kid: unique(), algorithm, pkcs8 }
    }

    fn kind(algorithm: &str) -> SigningAlgorithm {
        match algorithm {
            "ES256" => SigningAlgorithm::Es256,
            "EdDSA" => SigningAlgorithm::EdDsa,
            _ => SigningAlgorithm::Rs256,
        }
    }

    /// The public half, as a set of one.
    pub fn jwks(&self) -> Value {
        let kind = ClientKey::kind(self.algorithm);
        let mut jwk = SigningKey::parse(&self.kid, kind.as_str(), &self.pkcs8).expect("it is a key").jwk();
        jwk["alg"] = self.algorithm.into();
        json!({ "keys": [jwk] })
    }

    /// What an assertion of `client` to `audience` says, good for a minute.
    pub fn claims(client: &str, audience: &str) -> Value {
        let now = Clock::System.now();
        json!({"iss": client, "sub": client, "aud": audience, "iat": now, "exp": now + 60, "jti": unique()})
    }

    /// A new assertion.
    pub fn assertion(&self, client: &str, audience: &str) -> String {
        self.sign(&json!({"alg": self.algorithm, "kid": self.kid}), &ClientKey::claims(client, audience))
    }

    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let (random, message) = (SystemRandom::new(), signed.as_bytes());
        let signature = match self.algorithm {
            "ES256" => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8).expect("a key of P-256");
                pair.sign(&random, message).expect("it signs").as_ref().to_vec()
            }
            "EdDSA" => Ed25519KeyPair::from_pkcs8(&self.pkcs8).expect("a key of Ed25519").sign(message).as_ref().to_vec(),
            algorithm => {
                let pair = RsaKeyPair::from_pkcs8(&self.pkcs8).expect("an RSA key");
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                pair.sign(padding, &random, message, &mut signature).expect("it signs");
                signature
            }
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// The web server on which a client publishes its keys.
#[derive(Debug)]
pub struct KeyPage {
    port: u16,
    answer: Arc<Mutex<(u16, String)>>,
    fetches: Arc<AtomicUsize>,
}

impl KeyPage {
    pub async fn with(keys: &Value) -> KeyPage {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let answer = Arc::new(Mutex::new((200, keys.to_string())));
        let page = KeyPage { port, answer: answer.clone(), fetches: Arc::default() };
        let fetches = page.fetches.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                fetches.fetch_add(1, Ordering::SeqCst);
                let (status, body) = answer.lock().expect("no story panics here").clone();
                let head =
                    format!("HTTP/1.1 {status} X\r\nlocation: /elsewhere\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        page
    }

    pub fn url(&self) -> String {
        format!("http://localhost:{}/jwks", self.port)
    }

    pub fn answer(&self, status: u16, body: &str) {
        *self.answer.lock().expect("no story panics here") = (status, body.to_owned());
    }

    pub fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}
