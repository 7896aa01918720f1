//! Client authentication by a signed assertion: the client's keys, the checks, and the one use, which all nodes share.

use std::sync::Arc;

use super::App;
use crate::clients::Client;
use crate::clients::assertion::{AssertionRefusal, OneUse, UnverifiedAssertion};
use crate::config::AuthMethod;
use crate::identity::oidc::keys::KeySet;
use crate::oauth2::OAuth2Error;
use crate::storage::used;

/// `used.kind` of an assertion.
const USED: &str = "client_assertion";

impl App {
    /// The client that the assertion proves, for the first time: its use is in the database before this answers. `endpoint` is the
    /// name of the endpoint that was called; `aud` names it, the token endpoint or the issuer.
    ///
    /// Errors: `invalid_client`, whose cause is an [`AssertionRefusal`]; 503 where the client's keys or the database cannot be had.
    pub async fn authenticate_by_key(&self, assertion: &UnverifiedAssertion, endpoint: &str) -> Result<Arc<Client>, OAuth2Error> {
        let refused = |refusal: AssertionRefusal| OAuth2Error::invalid_client().because(refusal);
        assertion.algorithm().map_err(refused)?;
        let (client, one_use) = match self.prove(assertion, endpoint).await? {
            Ok(proven) => proven,
            // The client or its keys may be newer than what this node has heard.
            Err(AssertionRefusal::UnknownClient | AssertionRefusal::UnknownKey | AssertionRefusal::BadSignature) => {
                self.catch_up().await?;
                self.prove(assertion, endpoint).await?.map_err(refused)?
            }
            Err(refusal) => return Err(refused(refusal)),
        };
        match self.storage.write(move |tx| used::claim(tx, USED, &one_use.id, one_use.until)).await? {
            true => Ok(client),
            false => Err(refused(AssertionRefusal::Replayed)),
        }
    }

    async fn prove(
        &self,
        assertion: &UnverifiedAssertion,
        endpoint: &str,
    ) -> Result<Result<(Arc<Client>, OneUse), AssertionRefusal>, OAuth2Error> {
        let by_key = |client: &Arc<Client>| !client.disabled && client.settings.auth_method == Some(AuthMethod::PrivateKeyJwt);
        let Some(client) = self.clients.find(assertion.subject()).filter(by_key) else { return Ok(Err(AssertionRefusal::UnknownClient)) };
        let Some(keys) = self.keys_of(&client, assertion.kid()).await? else { return Ok(Err(AssertionRefusal::UnknownKey)) };
        let url = |endpoint: &str| format!("{}/oauth2/{endpoint}", self.issuer.trim_end_matches('/'));
        let (token_endpoint, called) = (url("token"), url(endpoint));
        let audiences = [&*self.issuer, &token_endpoint, &called];
        Ok(assertion.verify(client.id.as_str(), &keys, &audiences, self.clock.now()).map(|one_use| (client, one_use)))
    }

    async fn keys_of(&self, client: &Client, kid: Option<&str>) -> Result<Option<Arc<KeySet>>, OAuth2Error> {
        let Some(uri) = &client.settings.jwks_uri else { return Ok(client.keys.clone()) };
        self.client_keys.keys(&client.id, uri, kid).await.map_err(|reason| {
            tracing::debug!(client = %client.id, reason, "the keys of a client cannot be had");
            OAuth2Error::unavailable("the keys of the client cannot be fetched").because(reason)
        })
    }
}
