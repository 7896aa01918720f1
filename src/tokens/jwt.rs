//! Signing and verifying our own JWTs (RFC 7515, RFC 9068). The parsed key pair is kept: signing through a library that parses
//! the key at each call costs twice as much. jsonwebtoken verifies what others signed.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::TokenError;
use crate::config::SigningAlgorithm;
use crate::oauth2::Secret;

/// A signing key, parsed once.
pub struct SigningKey {
    pub kid: String,
    pub algorithm: SigningAlgorithm,
    pair: Pair,
    /// base64url of the JOSE header for `typ: at+jwt`.
    access_header: String,
}

enum Pair {
    Es256(EcdsaKeyPair),
    Rs256(RsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, {})", self.kid, self.algorithm.as_str())
    }
}

impl SigningKey {
    /// Makes a new key pair; PKCS #8.
    pub fn generate(algorithm: SigningAlgorithm) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let fail = |_| TokenError::NoKey("be generated");
        let random = SystemRandom::new();
        Ok(Zeroizing::new(match algorithm {
            SigningAlgorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(fail)?.as_ref().to_vec()
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random).map_err(fail)?.as_ref().to_vec(),
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(fail)?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(fail)?.as_ref().to_vec()
            }
        }))
    }

    /// Parses PKCS #8.
    pub fn parse(kid: &str, algorithm: &str, pkcs8: &[u8]) -> Result<SigningKey, TokenError> {
        let wrong = |reason: &str| TokenError::Key { kid: kid.to_owned(), reason: reason.to_owned() };
        let algorithm = SigningAlgorithm::ALL
            .into_iter()
            .find(|a| a.as_str() == algorithm)
            .ok_or_else(|| wrong("has an algorithm that this version does not know"))?;
        let rejected = |_| wrong("is not a PKCS #8 key of its algorithm");
        let pair = match algorithm {
            SigningAlgorithm::Es256 => Pair::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).map_err(rejected)?),
            SigningAlgorithm::Rs256 => Pair::Rs256(RsaKeyPair::from_pkcs8(pkcs8).map_err(rejected)?),
            SigningAlgorithm::EdDsa => Pair::EdDsa(Ed25519KeyPair::from_pkcs8(pkcs8).map_err(rejected)?),
        };
        let header = serde_json::json!({ "typ": ACCESS_TOKEN_TYP, "alg": algorithm.as_str(), "kid": kid });
        Ok(SigningKey { kid: kid.to_owned(), algorithm, pair, access_header: URL_SAFE_NO_PAD.encode(header.to_string()) })
    }

    /// Signs `claims` (JSON) as an access token of RFC 9068.
    pub fn sign_access_token(&self, claims: &[u8]) -> Result<Secret, TokenError> {
        self.sign_under(&self.access_header, claims)
    }

    /// Signs `claims` (JSON) as a JWT whose `typ` is this one.
    pub fn sign(&self, typ: &str, claims: &[u8]) -> Result<Secret, TokenError> {
        let header = serde_json::json!({ "typ": typ, "alg": self.algorithm.as_str(), "kid": self.kid });
        self.sign_under(&URL_SAFE_NO_PAD.encode(header.to_string()), claims)
    }

    /// Signs under any header at all: what others may send us.
    #[cfg(test)]
    pub fn sign_as(&self, header: &serde_json::Value, claims: &[u8]) -> String {
        self.sign_under(&URL_SAFE_NO_PAD.encode(header.to_string()), claims).unwrap().expose().to_owned()
    }

    fn sign_under(&self, header: &str, claims: &[u8]) -> Result<Secret, TokenError> {
        let mut token = String::with_capacity(header.len() + claims.len() * 4 / 3 + 360);
        token.push_str(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let fail = |_| TokenError::Key { kid: self.kid.clone(), reason: "could not sign".to_owned() };
        let random = SystemRandom::new();

        let signature: Vec<u8> = match &self.pair {
            Pair::Es256(pair) => pair.sign(&random, token.as_bytes()).map_err(fail)?.as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.sign(token.as_bytes()).as_ref().to_vec(),
            Pair::Rs256(pair) => {
                let mut rsa = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, token.as_bytes(), &mut rsa).map_err(fail)?;
                rsa
            }
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::new(token))
    }

    /// Whether `signature` over `message` was made by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &dyn signature::VerificationAlgorithm = match &self.pair {
            Pair::Es256(_) => &ECDSA_P256_SHA256_FIXED,
            Pair::Rs256(_) => &RSA_PKCS1_2048_8192_SHA256,
            Pair::EdDsa(_) => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, self.public_bytes()).verify(message, signature).is_ok()
    }

    fn public_bytes(&self) -> &[u8] {
        match &self.pair {
            Pair::Es256(pair) => pair.public_key().as_ref(),
            Pair::Rs256(pair) => pair.public_key().as_ref(),
            Pair::EdDsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public half as a JWK (RFC 7517, RFC 8037).
    pub fn jwk(&self) -> serde_json::Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.pair {
            Pair::Es256(pair) => {
                // An uncompressed point: 0x04, x, y.
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
                serde_json::json!({ "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Pair::Rs256(pair) => {
                let parts: PublicKeyComponents<Vec<u8>> = pair.public_key().into();
                serde_json::json!({ "kty": "RSA", "n": encode(&parts.n), "e": encode(&parts.e) })
            }
            Pair::EdDsa(pair) => serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }),
        };
        if let Some(members) = jwk.as_object_mut() {
            members.insert("kid".to_owned(), self.kid.clone().into());
            members.insert("alg".to_owned(), self.algorithm.as_str().into());
            members.insert("use".to_owned(), "sig".into());
        }
        jwk
    }
}

/// RFC 9068 section 2.1
pub const ACCESS_TOKEN_TYP: &str = "at+jwt";

/// A JWT taken apart; nothing in it is known to be true.
#[derive(Debug)]
pub struct UnverifiedJwt<'a> {
    message: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
    header: Header,
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

impl<'a> UnverifiedJwt<'a> {
    /// None if `text` has not the form of one of our access tokens.
    pub fn parse(text: &'a str) -> Option<UnverifiedJwt<'a>> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, payload) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header.typ != ACCESS_TOKEN_TYP || header.crit.is_some() {
            return None;
        }
        Some(UnverifiedJwt { message, payload, signature: URL_SAFE_NO_PAD.decode(signature).ok()?, header })
    }

    pub fn kid(&self) -> &str {
        &self.header.kid
    }

    /// The payload, if `key` signed it by its own algorithm.
    pub fn verify(&self, key: &SigningKey) -> Option<Vec<u8>> {
        if self.header.alg != key.algorithm.as_str() || !key.verifies(self.message.as_bytes(), &self.signature) {
            return None;
        }
        URL_SAFE_NO_PAD.decode(self.payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_signs_verifies_and_refuses_the_others() {
        for algorithm in SigningAlgorithm::ALL {
            let pkcs8 = SigningKey::generate(algorithm).unwrap();
            let key = SigningKey::parse("k1", algorithm.as_str(), &pkcs8).unwrap();
            let token = key.sign_access_token(br#"{"sub":"a"}"#).unwrap();
            let jwt = UnverifiedJwt::parse(token.expose()).unwrap();
            assert_eq!(jwt.kid(), "k1");
            assert_eq!(jwt.verify(&key).unwrap(), br#"{"sub":"a"}"#);
            let other = SigningKey::parse("k1", algorithm.as_str(), &SigningKey::generate(algorithm).unwrap()).unwrap();
            assert!(jwt.verify(&other).is_none());
            let mut forged = token.expose().to_owned();
            let at = forged.find('.').unwrap() + 3;
            let flipped = if &forged[at..=at] == "A" { "B" } else { "A" };
            forged.replace_range(at..=at, flipped);
            assert!(UnverifiedJwt::parse(&forged).and_then(|j| j.verify(&key)).is_none());
        }
    }

    #[test]
    fn a_jwk_is_public_only_and_verifies_elsewhere() {
        for algorithm in SigningAlgorithm::ALL {
            let key = SigningKey::parse("k1", algorithm.as_str(), &SigningKey::generate(algorithm).unwrap()).unwrap();
            let jwk = key.jwk();
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(jwk.get(private).is_none());
            }
            let token = key.sign_access_token(br#"{"sub":"a"}"#).unwrap();
            let (message, signature) = token.expose().rsplit_once('.').unwrap();
            let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk).unwrap();
            let decoding = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
            let alg = algorithm.as_str().parse().unwrap();
            assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &decoding, alg).unwrap());
        }
    }
}
