// @generated automatically by Diesel CLI.

diesel::table! {
    account_links (source, issuer, subject) {
        source -> Text,
        issuer -> Text,
        subject -> Text,
        account_id -> Text,
        created_at -> BigInt,
    }
}

diesel::table! {
    account_passwords (account_id) {
        account_id -> Text,
        hash -> Text,
        changed_at -> BigInt,
        must_change -> Bool,
        never_changed -> Bool,
    }
}

diesel::table! {
    account_roles (account_id, role) {
        account_id -> Text,
        role -> Text,
    }
}

diesel::table! {
    accounts (id) {
        id -> Text,
        number -> BigInt,
        username -> Text,
        source -> Text,
        email -> Nullable<Text>,
        name -> Nullable<Text>,
        disabled -> Bool,
        created_at -> BigInt,
        updated_at -> BigInt,
        last_sign_in_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    audit_records (id) {
        id -> Text,
        at -> BigInt,
        event -> Text,
        outcome -> Text,
        client_id -> Nullable<Text>,
        account_id -> Nullable<Text>,
        username -> Nullable<Text>,
        source -> Nullable<Text>,
        address -> Nullable<Text>,
        reason -> Nullable<Text>,
        request_id -> Nullable<Text>,
        detail -> Text,
        in_file -> Nullable<Bool>,
        in_syslog -> Nullable<Bool>,
    }
}

diesel::table! {
    client_secrets (id) {
        id -> Text,
        client_id -> Text,
        digest -> Text,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    clients (id) {
        id -> Text,
        number -> BigInt,
        declared -> Bool,
        disabled -> Bool,
        settings -> Text,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    feed (id) {
        id -> Text,
        head -> BigInt,
    }
}

diesel::table! {
    feed_entries (n) {
        n -> BigInt,
        kind -> Text,
        value -> Text,
        until -> BigInt,
        at -> BigInt,
    }
}

diesel::table! {
    grants (id) {
        id -> Text,
        account_id -> Text,
        client_id -> Text,
        source -> Text,
        scope -> Text,
        record -> Text,
        rv -> BigInt,
        auth_time -> BigInt,
        identity_checked_at -> BigInt,
        created_at -> BigInt,
        expires_at -> BigInt,
    }
}

diesel::table! {
    keys (kid) {
        kid -> Text,
        purpose -> Text,
        algorithm -> Text,
        kek -> Text,
        sealed -> Text,
        created_at -> BigInt,
        active_at -> BigInt,
        retired_at -> Nullable<BigInt>,
        removed_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    numbers (name) {
        name -> Text,
        last -> BigInt,
    }
}

diesel::table! {
    refresh_families (id) {
        id -> Text,
        grant_id -> Text,
        client_id -> Text,
        scope -> Text,
        audience -> Text,
        generation -> BigInt,
        rotated_at -> BigInt,
        dead -> Bool,
        created_at -> BigInt,
        expires_at -> BigInt,
        idle_expires_at -> BigInt,
    }
}

diesel::table! {
    settings (name) {
        name -> Text,
        value -> Text,
    }
}

diesel::table! {
    shield_marks (mark) {
        mark -> Text,
        until -> BigInt,
    }
}

diesel::table! {
    shield_tries (subject) {
        subject -> Text,
        failed -> BigInt,
        in_flight -> BigInt,
        guesses -> BigInt,
        epoch -> BigInt,
        number -> BigInt,
        last_try -> BigInt,
        last_guess -> BigInt,
        until -> BigInt,
    }
}

diesel::table! {
    used (kind, id) {
        kind -> Text,
        id -> Text,
        until -> BigInt,
    }
}

diesel::joinable!(account_links -> accounts (account_id));
diesel::joinable!(account_passwords -> accounts (account_id));
diesel::joinable!(account_roles -> accounts (account_id));
diesel::joinable!(client_secrets -> clients (client_id));
diesel::joinable!(refresh_families -> grants (grant_id));

diesel::allow_tables_to_appear_in_same_query!(
    account_links,
    account_passwords,
    account_roles,
    accounts,
    audit_records,
    client_secrets,
    clients,
    feed,
    feed_entries,
    grants,
    keys,
    numbers,
    refresh_families,
    settings,
    shield_marks,
    shield_tries,
    used,
);
