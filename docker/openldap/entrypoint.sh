#!/usr/bin/env bash
# Makes an authority, a certificate and the data at the first start, then runs slapd in the foreground.
set -euo pipefail
here=/etc/countersign-example
tls=/ldap-tls
if [ ! -e "$tls/server.crt" ]; then
  umask 077
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj "/CN=example authority" -keyout "$tls/ca.key" -out "$tls/ca.crt" 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj "/CN=openldap" -keyout "$tls/server.key" -out "$tls/server.csr" 2>/dev/null
  printf 'subjectAltName=DNS:openldap,DNS:localhost\nextendedKeyUsage=serverAuth\n' > "$tls/extensions"
  openssl x509 -req -days 3650 -in "$tls/server.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial \
    -extfile "$tls/extensions" -out "$tls/server.new" 2>/dev/null
  rm "$tls/ca.key" "$tls/server.csr" "$tls/extensions"
  chmod 0644 "$tls/ca.crt"
  mv "$tls/server.new" "$tls/server.crt"
fi
if [ ! -e /var/lib/ldap/data.mdb ]; then
  hash() { slappasswd -h '{SSHA}' -T "/run/secrets/$1"; }
  service=$(hash ldap-bind-password) people=$(hash ldap-people-password)
  sed -e "s|@SERVICE@|$service|" -e "s|@PEOPLE@|$people|" "$here/people.ldif" | slapadd -q -f "$here/slapd.conf"
fi
exec slapd -d 0 -f "$here/slapd.conf" -h "ldap://127.0.0.1:1389/ ldaps://0.0.0.0:1636/"
