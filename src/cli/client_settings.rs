//! The flags of `client add`: one for every key of `[[client]]`, or a file with them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::CliError;
use crate::clients::assertion;
use crate::config::{self, AuthMethod, Config, Introspect, OfflinePolicy, Problem, SigningAlgorithm, TokenFormat};

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
    /// For private_key_jwt: a file with the client's public keys as a JWK set
    #[arg(long, value_name = "FILE", value_parser = read_key_set)]
    jwks: Option<serde_json::Value>,
    /// For private_key_jwt: the https URL of the client's public keys
    #[arg(long, value_name = "URL")]
    jwks_uri: Option<String>,
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
    /// Algorithm of its signed introspection answers; without one RS256
    #[arg(long, value_enum)]
    introspection_signed_response_alg: Option<Algorithm>,
    /// Let it follow the revocation feed
    #[arg(long)]
    revocations: bool,
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
    /// As a resource server: the source of a person is asked again when the last look is older than this, such as 5m
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    identity_max_age: Option<Duration>,
    /// While a source is unreachable, a refresh grants the last good groups until this long after the last look, such as 4h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    offline_grace: Option<Duration>,
    /// Longest life of an access token that is granted so; 5m unless said
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, requires = "offline_grace")]
    offline_access_lifetime: Option<Duration>,
    /// Read the settings from a TOML file with the keys of [[client]] instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["grants", "roles", "scopes", "public", "auth_method", "jwks", "jwks_uri", "role_ceiling",
        "sources", "introspection_signed_response_alg", "revocations", "audiences", "resources", "introspect", "token_format", "signing_algorithm", "jwt_claims", "access_lifetime",
        "identity_max_age", "offline_grace", "offline_access_lifetime"])]
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

words!(Method => AuthMethod { ClientSecretBasic = "client_secret_basic", ClientSecretPost = "client_secret_post",
    PrivateKeyJwt = "private_key_jwt", None = "none" });
words!(Sees => Introspect { Audience = "audience", Any = "any" });
words!(Format => TokenFormat { Opaque = "opaque", Jwt = "jwt" });
words!(Algorithm => SigningAlgorithm { Es256 = "ES256", Rs256 = "RS256", EdDsa = "EdDSA" });

impl Settings {
    /// The client that the flags or the file describe. Errors: everything that is wrong with it, for a file with line and column.
    pub fn into_client(self, id: &str, config: &Config) -> Result<config::Client, CliError> {
        match &self.from {
            Some(file) => from_file(file, id, config),
            None => {
                let client = self.flags(id);
                let mistakes = mistakes(&client, config).into_iter().map(|p| format!("{}: {}", p.path, p.reason));
                let mistakes: Vec<_> = mistakes.collect();
                if mistakes.is_empty() { Ok(client) } else { Err(CliError::Said(mistakes.join("\n"))) }
            }
        }
    }

    fn flags(self, id: &str) -> config::Client {
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        config::Client {
            id: id.to_owned(),
            secrets_file: None,
            public: self.public,
            auth_method: self.auth_method.map(Into::into),
            jwks: self.jwks,
            jwks_uri: self.jwks_uri,
            grants: self.grants,
            scopes: self.scopes,
            roles: self.roles,
            role_ceiling: some(self.role_ceiling),
            sources: some(self.sources),
            audiences: self.audiences,
            resources: self.resources,
            introspect: self.introspect.into(),
            introspection_signed_response_alg: self.introspection_signed_response_alg.map(Into::into),
            revocations: self.revocations,
            token_format: self.token_format.map(Into::into),
            signing_algorithm: self.signing_algorithm.map(Into::into),
            jwt_claims: self.jwt_claims,
            access_lifetime: self.access_lifetime,
            identity_max_age: self.identity_max_age,
            offline_policy: self.offline_grace.map(|grace| OfflinePolicy {
                grace,
                access_lifetime: self.offline_access_lifetime.unwrap_or_else(OfflinePolicy::usual_access_lifetime),
            }),
        }
    }
}

/// The JWK set in a file.
fn read_key_set(file: &str) -> Result<serde_json::Value, String> {
    let text = std::fs::read_to_string(file).map_err(|reason| format!("cannot read it: {reason}"))?;
    serde_json::from_str(&text).map_err(|reason| format!("it is not JSON: {reason}"))
}

fn from_file(file: &Path, id: &str, config: &Config) -> Result<config::Client, CliError> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|reason| CliError::Said(format!("{name}: {reason}")))?;
    let (read, locations) = config::read_client(&name, &text)?;
    let mut problems = Vec::new();
    if !read.id.is_empty() && read.id != id {
        problems.push(Problem::new("id", format!("the file is about the client {}, not {id}", read.id)));
    }
    if read.secrets_file.is_some() {
        problems.push(Problem::new("secrets_file", "this is for declared clients; the secret of this one is generated"));
    }
    let client = config::Client { id: id.to_owned(), ..read };
    problems.extend(mistakes(&client, config));
    if problems.is_empty() { Ok(client) } else { Err(locations.explain(problems).into()) }
}

/// What keys may not combine, and sources that are not configured.
fn mistakes(client: &config::Client, config: &Config) -> Vec<Problem> {
    let known = config.source_names();
    let unknown = client.sources.iter().flatten().enumerate().filter(|(_, name)| !known.contains(name)).map(|(i, name)| {
        Problem::new(format!("sources[{i}]"), format!("there is no source {name}; the configuration has {}", known.join(", ")))
    });
    let keys = assertion::check(client, &config.outbound.allow);
    config::check_client(client).into_iter().chain(unknown).chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_place_of_each_mistake() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("app.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            from_file(&file, "app", &Config::default()).map_err(|error| error.to_string().replace(file.to_str().unwrap(), "app.toml"))
        };
        assert_eq!(read("grants = [\"password\"]\nsources = [\"local\"]\n").unwrap().id, "app");
        for (text, said) in [
            ("grants = [\n", "app.toml:"),
            ("\ngrant = []\n", "app.toml:2:1: grant: unknown key, did you mean grants?"),
            ("public = true\ngrants = [\"client_credentials\"]\n", "app.toml:2:11: grants[0]: a public client"),
            ("sources = [\"local\", \"corp\"]\n", "app.toml:1:21: sources[1]: there is no source corp; the configuration has local"),
            ("id = \"other\"\n", "app.toml:1:1: id: the file is about the client other, not app"),
            ("secrets_file = \"x\"\n", "app.toml:1:1: secrets_file: this is for declared clients"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
