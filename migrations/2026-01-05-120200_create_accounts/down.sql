DROP TABLE account_roles;
DROP TABLE account_passwords;
DROP TABLE account_links;
DROP TABLE accounts;
