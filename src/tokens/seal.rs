//! Sealing: what only we need to read is encrypted with AES-256-GCM-SIV (RFC 8452), whose random nonces stay safe at any rate of
//! tokens. Each purpose has a subkey of its own by HKDF (RFC 5869), so that one never opens as another.
//!
//! Form: prefix, then base64url of version (1 byte), key id (4), nonce (12), ciphertext and tag (16). The associated data bind
//! issuer, prefix, version and key id.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TokenError;
use crate::oauth2::Secret;
use crate::oauth2::secret::fill_unique;

/// What a sealed thing is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Access,
    Refresh,
}

impl Purpose {
    const ALL: [Purpose; 2] = [Purpose::Access, Purpose::Refresh];

    /// By this, people and leak scanners recognise it.
    pub fn prefix(self) -> &'static str {
        match self {
            Purpose::Access => "cs_at_",
            Purpose::Refresh => "cs_rt_",
        }
    }

    fn label(self) -> &'static [u8] {
        match self {
            Purpose::Access => b"countersign v1 access",
            Purpose::Refresh => b"countersign v1 refresh",
        }
    }
}

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4;

/// The id of a sealing key, as it stands in each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SealingKeyId(pub [u8; 4]);

impl SealingKeyId {
    pub fn parse(kid: &str) -> Option<SealingKeyId> {
        u32::from_str_radix(kid, 16).ok().filter(|_| kid.len() == 8).map(|n| SealingKeyId(n.to_be_bytes()))
    }
}

/// One sealing key with its subkeys.
pub struct SealingKey {
    pub id: SealingKeyId,
    access: LessSafeKey,
    refresh: LessSafeKey,
    associated: [Vec<u8>; 2],
}

impl std::fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealingKey({:?})", self.id)
    }
}

impl SealingKey {
    /// Derives the subkeys of `bytes` for `issuer`.
    pub fn new(id: SealingKeyId, bytes: &[u8], issuer: &str) -> Result<SealingKey, TokenError> {
        let fail = || TokenError::Key { kid: format!("{id:?}"), reason: "is no key of 32 bytes".to_owned() };
        if bytes.len() != 32 {
            return Err(fail());
        }
        let derive = |purpose: Purpose| {
            let info = [purpose.label()];
            let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"countersign").extract(bytes);
            let okm = prk.expand(&info, &AES_256_GCM_SIV).map_err(|_| fail())?;
            Ok::<_, TokenError>(LessSafeKey::new(UnboundKey::from(okm)))
        };
        let associated = Purpose::ALL.map(|purpose| {
            let mut data = Vec::with_capacity(issuer.len() + 16);
            data.extend_from_slice(purpose.prefix().as_bytes());
            data.push(VERSION);
            data.extend_from_slice(&id.0);
            data.extend_from_slice(issuer.as_bytes());
            data
        });
        Ok(SealingKey { id, access: derive(Purpose::Access)?, refresh: derive(Purpose::Refresh)?, associated })
    }

    fn parts(&self, purpose: Purpose) -> (&LessSafeKey, &[u8]) {
        let [access, refresh] = &self.associated;
        match purpose {
            Purpose::Access => (&self.access, access),
            Purpose::Refresh => (&self.refresh, refresh),
        }
    }

    /// Seals `plain`.
    pub fn seal(&self, purpose: Purpose, plain: &[u8]) -> Result<Secret, TokenError> {
        let (key, associated) = self.parts(purpose);
        let mut nonce = [0u8; NONCE_LEN];
        fill_unique(&mut nonce);
        let mut out = Vec::with_capacity(HEADER + NONCE_LEN + plain.len() + 16);
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let body = out.get_mut(HEADER + NONCE_LEN..).unwrap_or_default();
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(associated), body)
            .map_err(|_| TokenError::NoKey("seal"))?;
        out.extend_from_slice(tag.as_ref());
        let mut text = String::with_capacity(8 + out.len() * 4 / 3 + 4);
        text.push_str(purpose.prefix());
        URL_SAFE_NO_PAD.encode_string(&out, &mut text);
        Ok(Secret::new(text))
    }

    /// Opens what [`SealingKey::seal`] made for the same purpose; None for anything else.
    pub fn open(&self, purpose: Purpose, sealed: &mut Sealed) -> Option<Vec<u8>> {
        if sealed.key_id() != self.id {
            return None;
        }
        let (key, associated) = self.parts(purpose);
        let bytes = sealed.0.get_mut(HEADER..)?;
        let (nonce, body) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        Some(key.open_in_place(nonce, Aad::from(associated), body).ok()?.to_vec())
    }
}

/// Something that has the outer form of a sealed token; nothing in it is known to be true.
#[derive(Debug)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// None if `text` has not the form for `purpose`.
    pub fn parse(purpose: Purpose, text: &str) -> Option<Sealed> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(purpose.prefix())?).ok()?;
        (bytes.first() == Some(&VERSION) && bytes.len() > HEADER + NONCE_LEN + 16).then_some(Sealed(bytes))
    }

    /// The id of the key that is said to have sealed it.
    pub fn key_id(&self) -> SealingKeyId {
        let mut id = [0; 4];
        if let Some(bytes) = self.0.get(1..HEADER) {
            id.copy_from_slice(bytes);
        }
        SealingKeyId(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(id: u8, issuer: &str) -> SealingKey {
        SealingKey::new(SealingKeyId([id; 4]), &[7; 32], issuer).unwrap()
    }

    fn open(key: &SealingKey, purpose: Purpose, text: &str) -> Option<Vec<u8>> {
        key.open(purpose, &mut Sealed::parse(purpose, text)?)
    }

    #[test]
    fn a_token_opens_only_for_its_purpose_issuer_and_key() {
        let token = key(1, "https://a").seal(Purpose::Access, b"claims").unwrap();
        assert_eq!(open(&key(1, "https://a"), Purpose::Access, token.expose()).as_deref(), Some(&b"claims"[..]));
        assert!(open(&key(1, "https://b"), Purpose::Access, token.expose()).is_none());
        assert!(open(&key(2, "https://a"), Purpose::Access, token.expose()).is_none());
        let disguised = token.expose().replace("cs_at_", "cs_rt_");
        assert!(open(&key(1, "https://a"), Purpose::Refresh, &disguised).is_none());
    }

    proptest! {
        #[test]
        fn one_changed_bit_or_a_cut_never_opens(plain in proptest::collection::vec(any::<u8>(), 1..80), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let key = key(1, "https://a");
            let token = key.seal(Purpose::Access, &plain).unwrap();
            let text = token.expose();
            let mut bytes = text.as_bytes().to_vec();
            let i = at.index(bytes.len());
            bytes[i] ^= 1 << bit;
            if let Ok(changed) = std::str::from_utf8(&bytes) {
                prop_assert!(open(&key, Purpose::Access, changed).is_none());
            }
            prop_assert!(open(&key, Purpose::Access, &text[..i]).is_none());
        }

        #[test]
        fn any_text_is_refused_quietly(text in "\\PC{0,120}") {
            prop_assert!(open(&key(1, "i"), Purpose::Access, &text).is_none());
            let prefixed = format!("cs_at_{}", text);
            prop_assert!(open(&key(1, "i"), Purpose::Access, &prefixed).is_none());
        }
    }
}
