//! Client authentication by a signed assertion: the client's keys, the checks, and the one use, which all nodes share.

use std::sync::Arc;

use super::App;
use crate::clients::Client;
use crate::clients::assertion::{AssertionRefusal, OneUse, UnverifiedAssertion};
use crate::config::AuthMethod;
use crate::identity::oidc::keys::KeySet;
use crate::oauth2::OAuth2Error;
use crate::storage::used;
use crate::tokens::lifecycle;

/// `used.kind` of an assertion.
const USED: &str = "client_assertion";

/// What an assertion is judged by.
struct Known {
    client: Option<Arc<Client>>,
    keys: Option<Arc<KeySet>>,
}

impl Known {
    /// Whether nothing has come since.
    fn is(&self, earlier: &Known) -> bool {
        fn same<T>(one: &Option<Arc<T>>, other: &Option<Arc<T>>) -> bool {
            one.as_ref().map(Arc::as_ptr) == other.as_ref().map(Arc::as_ptr)
        }
        same(&self.client, &earlier.client) && same(&self.keys, &earlier.keys)
    }
}

impl App {
    /// The client that the assertion proves, for the first time: its use is in the database before this answers. `endpoint` is the
    /// name of the endpoint that was called; `aud` names it, the token endpoint or the issuer.
    ///
    /// Errors: `invalid_client`, whose cause is an [`AssertionRefusal`]; 503 where the client's keys or the database cannot be had.
    pub async fn authenticate_by_key(&self, assertion: &UnverifiedAssertion, endpoint: &str) -> Result<Arc<Client>, OAuth2Error> {
        let refused = |refusal: AssertionRefusal| OAuth2Error::invalid_client().because(refusal);
        assertion.algorithm().map_err(refused)?;
        let known = self.known_of(assertion).await?;
        let (client, one_use) = match self.prove(assertion, endpoint, &known) {
            Ok(proven) => proven,
            // The client or its keys may be newer than what this node has heard.
            Err(refusal @ (AssertionRefusal::UnknownClient | AssertionRefusal::UnknownKey | AssertionRefusal::BadSignature)) => {
                self.catch_up().await?;
                let newer = self.known_of(assertion).await?;
                // A signature is dear, and with the same keys it stays as bad as it was.
                if newer.is(&known) {
                    return Err(refused(refusal));
                }
                self.prove(assertion, endpoint, &newer).map_err(refused)?
            }
            Err(refusal) => return Err(refused(refusal)),
        };
        let first = self.storage.write(move |tx| {
            // What was used before the database was recovered from a backup may be forgotten.
            let forgotten = lifecycle::recovered_at(tx)?.is_some_and(|recovered| one_use.from <= recovered);
            Ok(!forgotten && used::claim(tx, USED, &one_use.id, one_use.until)?)
        });
        if first.await? { Ok(client) } else { Err(refused(AssertionRefusal::Replayed)) }
    }

    async fn known_of(&self, assertion: &UnverifiedAssertion) -> Result<Known, OAuth2Error> {
        let by_key = |client: &Arc<Client>| !client.disabled && client.settings.auth_method == Some(AuthMethod::PrivateKeyJwt);
        let client = self.clients.find(assertion.subject()).filter(by_key);
        let keys = match &client {
            Some(client) => self.keys_of(client, assertion.kid()).await?,
            None => None,
        };
        Ok(Known { client, keys })
    }

    fn prove(&self, assertion: &UnverifiedAssertion, endpoint: &str, known: &Known) -> Result<(Arc<Client>, OneUse), AssertionRefusal> {
        let client = known.client.clone().ok_or(AssertionRefusal::UnknownClient)?;
        let keys = known.keys.as_ref().ok_or(AssertionRefusal::UnknownKey)?;
        let url = |endpoint: &str| format!("{}/oauth2/{endpoint}", self.issuer.trim_end_matches('/'));
        let (token_endpoint, called) = (url("token"), url(endpoint));
        let audiences = [&*self.issuer, &token_endpoint, &called];
        let one_use = assertion.verify(client.id.as_str(), keys, &audiences, self.clock.now())?;
        Ok((client, one_use))
    }

    async fn keys_of(&self, client: &Client, kid: Option<&str>) -> Result<Option<Arc<KeySet>>, OAuth2Error> {
        let Some(uri) = &client.settings.jwks_uri else { return Ok(client.keys.clone()) };
        self.client_keys.keys(&client.id, uri, kid).await.map_err(|reason| {
            tracing::debug!(client = %client.id, reason, "the keys of a client cannot be had");
            OAuth2Error::unavailable("the keys of the client cannot be fetched").because(reason)
        })
    }
}
