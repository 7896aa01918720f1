# Sourced by run.sh. The password grant of people of a directory against the bare library doing the same three calls: search as the
# service account, bind as the person, search for the groups.

read -r port ldap_port ldaps_port <<< "$(free_ports 3)"
workers=8
grant=grant_type=client_credentials
bare=$(bench_program bare_ldap)
authority=$(PEOPLE=2000 bash "$root/tests/peers/openldap.sh" start "$work/openldap" "$ldap_port" "$ldaps_port")
mkdir -p "$work/ldap"
printf svcpw > "$work/ldap/password"
chmod 600 "$work/ldap/password"
configure ldap "$port" "[limits]\nlogin_failures = \"100000/1m\"\naddress_failures = \"100000/1m\"
[[source]]
name = \"corp\"
type = \"ldap\"
urls = [\"ldaps://127.0.0.1:$ldaps_port\"]
ca_file = \"$authority\"
bind_dn = \"cn=svc,ou=services,dc=lab,dc=test\"
bind_password_file = \"password\"
user_base = \"ou=people,dc=lab,dc=test\"
group_base = \"ou=groups,dc=lab,dc=test\"
group_cache = \"1ms\"
pool.size = $workers"
start_countersign ldap "$port" > /dev/null
ldap=$(add_client ldap bench --grant password)
for n in $(seq 0 1999); do printf 'username=u%05d&password=pw-u%05d\n' "$n" "$n" >> "$work/directory.tokens"; done
url=http://127.0.0.1:$port/oauth2/token
post "$url" "$ldap" "grant_type=password&$(head -n 1 "$work/directory.tokens")" | grep -q access_token || fail "nobody of the directory can sign in"
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  connections=$workers load ldap.grant "$url" "$ldap" 'grant_type=password&' directory
  for way in fresh kept; do
    "$bare" "$way" "127.0.0.1:$ldaps_port" "$authority" "$workers" "$seconds" >> "$work/ldap.$way.rate" || fail "the bare library failed"
  done
done
row "LDAP password grant, a second" "$(median ldap.grant.rate)" -
row "LDAP password grant / bare ldap3, a connection for each bind as here" "$(ratio ldap.grant ldap.fresh)" ">= 0.50"
row "LDAP password grant / bare ldap3 that binds on kept connections" "$(ratio ldap.grant ldap.kept)" -
bash "$root/tests/peers/openldap.sh" stop "$work/openldap"
rm -rf "$work/openldap"
