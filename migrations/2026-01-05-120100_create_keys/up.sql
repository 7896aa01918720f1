-- Signing and sealing keys, sealed under the key-encryption key that `kek` names. `sealed` is emptied when a key is removed or revoked.
CREATE TABLE keys (
    kid TEXT NOT NULL PRIMARY KEY,
    purpose TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    kek TEXT NOT NULL,
    sealed TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    active_at BIGINT NOT NULL,
    retired_at BIGINT,
    removed_at BIGINT,
    revoked_at BIGINT
);
