//! The routes that requests are counted by.

/// The label of a request: one of few, never the path that a stranger sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    Token,
    Introspect,
    Revoke,
    Revocations,
    Jwks,
    Metadata,
    Health,
    Other,
}

impl Route {
    pub(super) const ALL: [Route; 8] =
        [Route::Token, Route::Introspect, Route::Revoke, Route::Revocations, Route::Jwks, Route::Metadata, Route::Health, Route::Other];

    /// The route that a path leads to. An issuer with a path of its own stands before ours.
    pub fn of(path: &str) -> Route {
        if path.ends_with("/oauth2/token") {
            Route::Token
        } else if path.ends_with("/oauth2/introspect") {
            Route::Introspect
        } else if path.ends_with("/oauth2/revoke") {
            Route::Revoke
        } else if path.ends_with("/oauth2/revocations") {
            Route::Revocations
        } else if path.ends_with("/oauth2/jwks") {
            Route::Jwks
        } else if path.contains("/.well-known/") {
            Route::Metadata
        } else if matches!(path, "/healthz" | "/readyz") {
            Route::Health
        } else {
            Route::Other
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Route::Token => "token",
            Route::Introspect => "introspect",
            Route::Revoke => "revoke",
            Route::Revocations => "revocations",
            Route::Jwks => "jwks",
            Route::Metadata => "metadata",
            Route::Health => "health",
            Route::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_few_labels() {
        assert_eq!(Route::of("/oauth2/token"), Route::Token);
        assert_eq!(Route::of("/tenant/oauth2/introspect"), Route::Introspect);
        assert_eq!(Route::of("/.well-known/openid-configuration/tenant"), Route::Metadata);
        assert_eq!(Route::of("/readyz"), Route::Health);
        assert_eq!(Route::of("/%00\n"), Route::Other);
        for (position, route) in Route::ALL.into_iter().enumerate() {
            assert_eq!(route as usize, position);
        }
    }
}
