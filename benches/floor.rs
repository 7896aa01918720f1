//! What the benches compare with: a bare warp server that parses a form and answers 1 KB of JSON, and does nothing else.
//!
//! `floor 127.0.0.1:PORT` serves POST /form, and POST /signed, which adds one ES256 signature. `run.sh` builds and runs it.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderValue, header};
use warp::reply::Response;
use warp::{Filter, Reply};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // `cargo bench` adds an argument of its own.
    let address = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).ok_or("usage: floor ADDRESS:PORT")?;
    let address: SocketAddr = address.parse()?;
    let pair = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?);
    let signed = warp::path!("signed").and(warp::post()).and(warp::body::bytes()).map(move |body: Bytes| {
        let signature = pair.sign(&SystemRandom::new(), &parse(&body)).map(|signature| URL_SAFE_NO_PAD.encode(signature));
        answer(signature.as_deref().unwrap_or("signing failed"))
    });
    let form = warp::path!("form").and(warp::post()).and(warp::body::bytes()).map(|body: Bytes| {
        parse(&body);
        answer("")
    });
    warp::serve(form.or(signed)).run(address).await;
    Ok(())
}

/// Decodes the form; what it returns stands for the claims of a token, some 400 bytes.
fn parse(body: &[u8]) -> Vec<u8> {
    let pairs: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let mut claims: Vec<u8> = pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).flatten().copied().collect();
    claims.resize(400, b'.');
    claims
}

fn answer(signature: &str) -> Response {
    let text = format!(r#"{{"token":"{signature:.<1000}","expires_in":900}}"#);
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
