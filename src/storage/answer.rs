//! How a failure of the database is answered: 503 where it may pass by itself, else 500. The cause is for the log.

use super::StorageError;
use crate::oauth2::{ErrorCode, OAuth2Error};

impl From<StorageError> for OAuth2Error {
    fn from(error: StorageError) -> OAuth2Error {
        match error {
            StorageError::Unavailable(_) => OAuth2Error::unavailable("the database cannot be reached now; nothing was decided"),
            _ => OAuth2Error::new(ErrorCode::ServerError, "the request could not be completed"),
        }
        .because(error)
    }
}
