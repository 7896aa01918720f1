#!/usr/bin/env bash
# A real 389 Directory Server on loopback, with people in every state that a sign-in can meet.
#
#   dirsrv389.sh start DIR PORT TLS_PORT   makes DIR anew, starts ns-slapd in the background, waits until it answers and prints
#                                          the path of the authority's certificate
#   dirsrv389.sh stop DIR                  stops it; the data stays
#   dirsrv389.sh end DIR                   ends it at once, without care for the data
#   dirsrv389.sh again DIR                 starts it again with the data it had
#
# Everything of the instance lies in DIR, so that nothing of the system is touched, any number run side by side, and no root is
# needed. DIR/ns-slapd.pid holds the process id. Debian packages: 389-ds-base (with libnss3-tools), ldap-utils, openssl, python3.
#
# The suffix is dc=lab,dc=test. The service account is cn=svc,ou=services,dc=lab,dc=test with the password svcpw; tests change
# entries as cn=Directory Manager with dmpassword. A person's password is pw- followed by the uid. dirsrv389_people.py says who is
# there. After three wrong passwords an account is locked for an hour. ENTRYUUID=off starts it without the entryUUID plugin.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n '4,8s/^# *//p' "$0" >&2; exit 2; }
share=/usr/share/dirsrv
manager=(-x -D "cn=Directory Manager" -w dmpassword)

build() {
  rm -rf "$dir/conf" "$dir/data" "$dir/ns-slapd.pid"
  # The server writes its socket's and its locks' paths into places of about a hundred bytes; none of ours is used, but they must exist.
  mkdir -p "$dir"/conf/schema "$dir"/data/{db,home,bak,ldif,log,lock,run,tmp}
  [ -f "$dir/ca/dirsrv.crt" ] || "$here/certs.sh" "$dir/ca" dirsrv
  printf '%s %s' "$1" "$2" > "$dir/listen"
  cp "$share/schema/99user.ldif" "$dir/conf/schema/" 2> /dev/null || printf 'dn: cn=schema\nobjectClass: top\nobjectClass: ldapSubentry\nobjectClass: subschema\ncn: schema\n' > "$dir/conf/schema/99user.ldif"
  printf '' > "$dir/conf/slapd-collations.conf"
  printf 'certmap default default\ndefault:DNComps\n' > "$dir/conf/certmap.conf"
  certificates
  settings "$1" "$2" > "$dir/conf/dse.ldif"
}

# The server reads its key from an NSS database without a password.
certificates() {
  : > "$dir/conf/empty"
  certutil -N -d "sql:$dir/conf" --empty-password
  certutil -A -d "sql:$dir/conf" -n authority -t CT,, -a -i "$dir/ca/ca.crt"
  openssl pkcs12 -export -name Server-Cert -in "$dir/ca/dirsrv.crt" -inkey "$dir/ca/dirsrv.key" -passout pass: -out "$dir/conf/server.p12"
  pk12util -i "$dir/conf/server.p12" -d "sql:$dir/conf" -k "$dir/conf/empty" -W "" > /dev/null
  rm "$dir/conf/server.p12"
}

# What `dscreate` makes of the package's template, with loopback, TLS, memberOf, a lockout and names beyond ASCII.
settings() {
  local hashed # the server takes no clear text here
  hashed=$(python3 -c 'import base64, hashlib; print("{SSHA}" + base64.b64encode(hashlib.sha1(b"dmpasswordsalt").digest() + b"salt").decode())')
  sed -e "s|%schema_dir%|$dir/conf/schema|; s|%config_dir%|$dir/conf|; s|%cert_dir%|$dir/conf|; s|%inst_dir%|$dir/conf|" \
    -e "s|%lock_dir%|$dir/data/lock|; s|%tmp_dir%|$dir/data/tmp|; s|%ldif_dir%|$dir/data/ldif|; s|%bak_dir%|$dir/data/bak|" \
    -e "s|%run_dir%|$dir/data/run|; s|%log_dir%|$dir/data/log|; s|%db_dir%|$dir/data/db|; s|%db_home_dir%|$dir/data/home|" \
    -e "s|%db_lib%|bdb|; s|%fqdn%|localhost|; s|%ds_port%|$1|; s|%ds_user%|$(id -un)|; s|%ds_suffix%|dc=lab,dc=test|" \
    -e "s|%rootdn%|cn=Directory Manager|; s|%ds_passwd%|$hashed|; s|%ldapi_enabled%|off|; s|%ldapi_autobind%|off|" \
    -e "s|%ldapi%|$dir/data/run/socket|" "$share/data/template-dse.ldif" |
    awk -v port="$2" '
      /^dn: cn=MemberOf Plugin,/ { memberof = 1 }
      memberof && /^nsslapd-pluginenabled:/ { $0 = "nsslapd-pluginenabled: on"; memberof = 0 }
      /^dn: cn=7-bit check,/ { ascii = 1 }
      ascii && /^nsslapd-pluginenabled:/ { $0 = "nsslapd-pluginenabled: off"; ascii = 0 }
      { print }
      $0 == "cn: config" && !done {
        done = 1
        print "nsslapd-listenhost: 127.0.0.1\nnsslapd-securelistenhost: 127.0.0.1\nnsslapd-security: on\nnsslapd-securePort: " port
        print "passwordLockout: on\npasswordMaxFailure: 3\npasswordLockoutDuration: 3600\npasswordResetFailureCount: 3600"
        print "nsslapd-pwpolicy-local: on\nnsslapd-allow-hashed-passwords: on\nnsslapd-accesslog-logging-enabled: off"
        print "nsslapd-rootpwstoragescheme: SSHA\npasswordStorageScheme: SSHA"
        print "nsslapd-allow-anonymous-access: rootdse\nnsslapd-unhashed-pw-switch: nolog"
      }'
  [ "${ENTRYUUID:-on}" = off ] || plugins
  sed -e 's|%ds_bename%|userRoot|; s|%ds_suffix%|dc=lab,dc=test|g' -e "s|%db_dir%|$dir/data/db|; /^#/d" "$share/data/template-suffix-db.ldif"
}

# The template has no entryUUID, which newer servers add by themselves.
plugins() {
  local name kind init
  while read -r name kind init; do
    printf 'dn: cn=%s,cn=plugins,cn=config\nobjectClass: top\nobjectClass: nsSlapdPlugin\ncn: %s\nnsslapd-pluginPath: lib%s-plugin\n' "$name" "$name" "${name/_/-}"
    printf 'nsslapd-pluginInitfunc: %s\nnsslapd-pluginType: %s\nnsslapd-pluginEnabled: on\n\n' "$init" "$kind"
  done << 'L'
entryuuid_syntax syntax entryuuid_syntax_plugin_init
entryuuid betxnpreoperation entryuuid_plugin_init
L
}

run() {
  read -r port tls_port < "$dir/listen" || true
  (cd "$dir" && exec setsid ns-slapd -d 0 -D "$dir/conf" -i "$dir/ns-slapd.pid" < /dev/null > "$dir/ns-slapd.log" 2>&1) &
  local pid=$!
  for _ in $(seq 300); do
    kill -0 "$pid" 2> /dev/null || break
    if [ -s "$dir/ns-slapd.pid" ] && ldapwhoami "${manager[@]}" -H "ldap://127.0.0.1:$port" > /dev/null 2>&1; then
      return
    fi
    sleep 0.1
  done
  echo "dirsrv389.sh: ns-slapd does not answer on ports $port and $tls_port; it says:" >&2
  cat "$dir/ns-slapd.log" >&2
  tail -n 20 "$dir/data/log/errors" >&2
  exit 1
}

populate() {
  python3 "$here/dirsrv389_people.py" > "$dir/people.ldif"
  ldapmodify -a "${manager[@]}" -H "ldap://127.0.0.1:$1" -f "$dir/people.ldif" > "$dir/people.log" || { cat "$dir/people.log" >&2; exit 1; }
  for _ in 1 2 3; do # locked after failures
    ldapwhoami -x -H "ldap://127.0.0.1:$1" -D uid=locked,ou=people,dc=lab,dc=test -w wrong > /dev/null 2>&1 || true
  done
  printf 'dn: uid=mustchange,ou=people,dc=lab,dc=test\nchangetype: modify\nreplace: userPassword\nuserPassword: pw-mustchange\n' |
    ldapmodify "${manager[@]}" -H "ldap://127.0.0.1:$1" > /dev/null
}

halt() {
  local pid
  pid=$(cat "$dir/ns-slapd.pid" 2> /dev/null) || return 0
  # A pid file that outlived its process must not end another one.
  grep -qa "$dir/conf" "/proc/$pid/cmdline" 2> /dev/null || return 0
  kill -CONT "$pid" 2> /dev/null || true
  kill "-${1:-TERM}" "$pid" 2> /dev/null || true
  for _ in $(seq 150); do
    kill -0 "$pid" 2> /dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid"
}

[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
case $1 in
  start) [ $# -eq 4 ] || usage; halt KILL; build "$3" "$4"; run; populate "$3"; echo "$dir/ca/ca.crt" ;;
  stop) halt ;;
  end) halt KILL ;;
  again) run; echo "$dir/ca/ca.crt" ;;
  *) usage ;;
esac
