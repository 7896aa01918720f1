//! The vocabulary of RFC 6749 and its companions: ids, secrets, scopes, errors, form parameters, requests and responses. No I/O.

pub mod error;
pub mod form;
pub mod ids;
pub mod request;
pub mod response;
pub mod scope;
pub mod secret;

pub use error::{ErrorCode, OAuth2Error};
pub use form::Form;
pub use ids::{AccountId, ClientId, FamilyId, GrantId, Jti, Kid, SecretId, SourceName};
pub use request::TokenRequest;
pub use response::TokenResponse;
pub use scope::Scope;
pub use secret::Secret;
