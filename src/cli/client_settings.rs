//! The flags of `client add`: one for every key of `[[client]]`, or a file with them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::CliError;
use crate::config::{self, AuthMethod, Introspect, SigningAlgorithm, TokenFormat};

#[derive(Debug, Args)]
pub struct Settings {
    /// A grant type as on the wire; without one the client may only introspect and revoke
    #[arg(long = "grant", value_name = "GRANT")]
    grants: Vec<String>,
    /// A role of the client's own tokens
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// A scope it may ask for
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// A client that can keep no secret
    #[arg(long)]
    public: bool,
    /// The only way it may authenticate
    #[arg(long, value_enum)]
    auth_method: Option<Method>,
    /// A role pattern that people may have through this client; without one there is no ceiling
    #[arg(long = "role-ceiling", value_name = "PATTERN")]
    role_ceiling: Vec<String>,
    /// A source whose people may sign in; without one all
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<String>,
    /// What may be asked for as resource or audience; the first is the default
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,
    /// A URI that it answers for as a resource server
    #[arg(long = "resource", value_name = "URI")]
    resources: Vec<String>,
    /// Whose tokens it may introspect
    #[arg(long, value_enum, default_value_t = Sees::Audience)]
    introspect: Sees,
    #[arg(long, value_enum)]
    token_format: Option<Format>,
    /// Algorithm of its JWT access tokens
    #[arg(long, value_enum)]
    signing_algorithm: Option<Algorithm>,
    /// Which of roles and groups its JWT access tokens carry
    #[arg(long = "jwt-claim", value_name = "CLAIM")]
    jwt_claims: Vec<String>,
    /// Life of its access tokens, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    access_lifetime: Option<Duration>,
    /// Read the settings from a TOML file with the keys of [[client]] instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grants", "roles", "scopes", "public", "auth_method", "role_ceiling", "sources",
        "audiences", "resources", "introspect", "token_format", "signing_algorithm", "jwt_claims", "access_lifetime"])]
    from: Option<PathBuf>,
}

macro_rules! words {
    ($name:ident => $target:ident { $($variant:ident = $word:literal),+ }) => {
        #[derive(Clone, Copy, Debug, ValueEnum)]
        enum $name { $(#[value(name = $word)] $variant),+ }

        impl From<$name> for $target {
            fn from(word: $name) -> $target {
                match word { $($name::$variant => $target::$variant),+ }
            }
        }
    };
}

words!(Method => AuthMethod { ClientSecretBasic = "client_secret_basic", ClientSecretPost = "client_secret_post", None = "none" });
words!(Sees => Introspect { Audience = "audience", Any = "any" });
words!(Format => TokenFormat { Opaque = "opaque", Jwt = "jwt" });
words!(Algorithm => SigningAlgorithm { Es256 = "ES256", Rs256 = "RS256", EdDsa = "EdDSA" });

impl Settings {
    /// The client that the flags or the file describe.
    pub fn into_client(self, id: &str) -> Result<config::Client, CliError> {
        if let Some(file) = self.from {
            let wrong = |reason: String| CliError::Said(format!("{}: {reason}", file.display()));
            let text = std::fs::read_to_string(&file).map_err(|reason| wrong(reason.to_string()))?;
            let client: config::Client = toml::from_str(&text).map_err(|reason| wrong(reason.to_string()))?;
            if !client.id.is_empty() && client.id != id {
                return Err(wrong(format!("the file is about the client {}, not {id}", client.id)));
            }
            if client.secrets_file.is_some() {
                return Err(wrong("secrets_file is for declared clients; the secret of this one is generated".to_owned()));
            }
            return Ok(config::Client { id: id.to_owned(), ..client });
        }
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        Ok(config::Client {
            id: id.to_owned(),
            secrets_file: None,
            public: self.public,
            auth_method: self.auth_method.map(Into::into),
            grants: self.grants,
            scopes: self.scopes,
            roles: self.roles,
            role_ceiling: some(self.role_ceiling),
            sources: some(self.sources),
            audiences: self.audiences,
            resources: self.resources,
            introspect: self.introspect.into(),
            token_format: self.token_format.map(Into::into),
            signing_algorithm: self.signing_algorithm.map(Into::into),
            jwt_claims: self.jwt_claims,
            access_lifetime: self.access_lifetime,
        })
    }
}
