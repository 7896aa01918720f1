#!/usr/bin/env bash
# A real OpenLDAP server on loopback, with people in every state that a sign-in can meet.
#
#   openldap.sh start DIR PORT TLS_PORT   makes DIR anew, starts slapd in the background, waits until it answers and
#                                         prints the path of the authority's certificate. ldap://127.0.0.1:PORT takes
#                                         StartTLS and plain connections, ldaps://127.0.0.1:TLS_PORT takes TLS.
#   openldap.sh stop DIR                  stops it; the data stays
#   openldap.sh again DIR                 starts it again with the data it had
#
# DIR/slapd.pid holds the process id. PEOPLE=200 sets how many plain people (u00000, u00001, …) are added. With CLIENT_TLS=demand
# whoever comes by TLS must show a certificate of the same authority, such as DIR/ca/client.crt with DIR/ca/client.key.
# Debian packages: slapd, ldap-utils, openssl, python3.
#
# The suffix is dc=lab,dc=test. The service account is cn=svc,ou=services,dc=lab,dc=test with the password svcpw; tests change
# entries as cn=admin,dc=lab,dc=test with adminpw. A person's password is pw- followed by the uid. The people are described in
# openldap_people.py, also those who play other kinds of directory under ou=posix, ou=ipa and ou=lldap; they may read groups, and of people only themselves. Binds with a name and an empty password succeed here as anonymous ones, as they do in careless directories.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n '4,8s/^# *//p' "$0" >&2; exit 2; }

build() {
  rm -rf "$dir/data" "$dir/slapd.pid"
  mkdir -p "$dir/data"
  [ -f "$dir/ca/slapd.crt" ] || "$here/certs.sh" "$dir/ca" slapd
  [ -f "$dir/ca/client.crt" ] || USAGE=clientAuth "$here/certs.sh" "$dir/ca" client
  printf 'ldap://127.0.0.1:%s/ ldaps://127.0.0.1:%s/' "$1" "$2" > "$dir/listen"
  cat > "$dir/slapd.conf" <<CONF
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
attributetype ( 1.3.6.1.4.1.32473.1.1 NAME 'ipaUniqueID' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.3.6.1.4.1.32473.1.2 NAME 'nsAccountLock' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.32473.2.1 NAME 'ipaObject' SUP top AUXILIARY MAY ( ipaUniqueID \$ nsAccountLock ) )
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
pidfile $dir/slapd.pid
allow bind_anon_cred bind_anon_dn
loglevel none
sizelimit 500
TLSCACertificateFile $dir/ca/ca.crt
TLSCertificateFile $dir/ca/slapd.crt
TLSCertificateKeyFile $dir/ca/slapd.key
TLSVerifyClient ${CLIENT_TLS:-never}

database mdb
suffix "dc=lab,dc=test"
rootdn "cn=admin,dc=lab,dc=test"
rootpw adminpw
directory $dir/data
maxsize 268435456
dbnosync
index objectClass,uid,mail,cn,entryUUID,member,uniqueMember,memberOf eq
limits dn.exact="cn=svc,ou=services,dc=lab,dc=test" size=unlimited time=unlimited
access to attrs=userPassword by anonymous auth by self write by * none
access to dn.subtree="ou=groups,dc=lab,dc=test" by users read by anonymous auth by * none
access to * by dn.exact="cn=svc,ou=services,dc=lab,dc=test" read by self read by anonymous auth by * none

overlay memberof
memberof-dangling ignore
memberof-refint TRUE
overlay ppolicy
ppolicy_default "cn=default,ou=policies,dc=lab,dc=test"
ppolicy_use_lockout
CONF
  # slapadd runs no overlay: memberOf and the states of the password policy are part of what is loaded.
  python3 "$here/openldap_people.py" "${PEOPLE:-200}" > "$dir/people.ldif"
  slapadd -q -f "$dir/slapd.conf" -l "$dir/people.ldif"
}

run() {
  read -r first second < "$dir/listen" || true
  # With -d slapd stays in the foreground of the subshell; its standard streams are closed so that no caller waits for them.
  (cd "$dir" && exec setsid slapd -d 0 -f "$dir/slapd.conf" -h "$first $second" </dev/null >"$dir/slapd.log" 2>&1) &
  for _ in $(seq 100); do
    if [ -f "$dir/slapd.pid" ] && ldapwhoami -x -H "$first" -D cn=svc,ou=services,dc=lab,dc=test -w svcpw >/dev/null 2>&1; then
      echo "$dir/ca/ca.crt"
      return
    fi
    sleep 0.1
  done
  echo "openldap.sh: slapd does not answer on $first; it says:" >&2
  cat "$dir/slapd.log" >&2
  exit 1
}

halt() {
  local pid
  pid=$(cat "$dir/slapd.pid" 2>/dev/null) || return 0
  # A pid file that outlived its process must not end another one.
  grep -qa "$dir/slapd.conf" "/proc/$pid/cmdline" 2>/dev/null || return 0
  kill -CONT "$pid" 2>/dev/null || true
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid"
}

[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
case $1 in
  start) [ $# -eq 4 ] || usage; halt; build "$3" "$4"; run ;;
  stop) halt ;;
  again) run ;;
  *) usage ;;
esac
