# Sourced by run.sh and lab.sh, which define `fail` and `say`. Installs what the peers and the build need and leaves every
# system service alone.

# slapd stands outside of an ordinary user's PATH.
export PATH=$PATH:/usr/sbin

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo > /dev/null; then sudo "$@"
  else fail "this needs root or sudo: $*"
  fi
}

# Each line: a program and the Debian package it comes in.
install_missing_packages() {
  local program package missing=()
  while read -r program package; do
    command -v "$program" > /dev/null || missing+=("$package")
  done <<'P'
slapd slapd
ldapmodify ldap-utils
faketime faketime
psql postgresql-client
openssl openssl
curl curl
python3 python3
cc gcc
perl perl
make make
samba samba
samba-tool samba-common-bin
winbindd winbind
faketime faketime
ns-slapd 389-ds-base
certutil libnss3-tools
P
  # What is no program, by a file of the package.
  while read -r program package; do
    compgen -G "$program" > /dev/null || missing+=("$package")
  done <<'P'
/usr/share/samba/setup/provision.ldif samba-ad-provision
/usr/lib/*/samba/ldb/samldb.so samba-dsdb-modules
/usr/lib/*/samba/vfs/acl_xattr.so samba-vfs-modules
/usr/lib/python3/dist-packages/samba/samdb.py python3-samba
P
  ls /usr/lib/postgresql/*/bin/initdb > /dev/null 2>&1 || missing+=(postgresql)
  [ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
  [ -d /etc/ssl/certs ] || missing+=(ca-certificates)
  [ "$(node_major)" -ge 20 ] || command -v npm > /dev/null || missing+=(nodejs npm)
  command -v npm > /dev/null || case " ${missing[*]-} " in *" npm "*) ;; *) missing+=(npm) ;; esac
  [ "${#missing[@]}" -gt 0 ] || return 0
  command -v apt-get > /dev/null || fail "missing here: ${missing[*]}; without apt-get you must install them yourself"
  say "installing ${missing[*]}"
  install_without_services "${missing[@]}"
}

# Packages start their services on installation; a policy-rc.d that answers 101 forbids it (Debian policy, invoke-rc.d).
install_without_services() {
  local policy=/usr/sbin/policy-rc.d ours=no status=0
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" > /dev/null
    as_root chmod 755 "$policy"
    ours=yes
  fi
  { as_root env DEBIAN_FRONTEND=noninteractive sh -c '
      echo "slapd slapd/no_configuration boolean true" | debconf-set-selections 2> /dev/null
      apt-get update -q && apt-get install -q -y --no-install-recommends "$@"' sh "$@" > "${TMPDIR:-/tmp}/countersign-apt.$$" 2>&1; } || status=$?
  [ "$ours" = no ] || as_root rm -f "$policy"
  [ "$status" -eq 0 ] || tail -n 20 "${TMPDIR:-/tmp}/countersign-apt.$$" >&2
  rm -f "${TMPDIR:-/tmp}/countersign-apt.$$"
  [ "$status" -eq 0 ] || fail "apt-get install failed: $*"
}

node_major() {
  local version
  version=$(node --version 2> /dev/null) || version=v0
  version=${version#v}
  echo "${version%%.*}"
}

# oidc-provider needs Node 20; Debian 12 has 18. The npm package `node` carries the binary of a newer one.
use_recent_node() {
  [ "$(node_major)" -lt 20 ] || return 0
  local home=$COUNTERSIGN_PEER_CACHE/node22
  if [ ! -x "$home/node_modules/node/bin/node" ]; then
    say "node is older than 20: fetching the npm package node@22 into $home"
    mkdir -p "$home"
    npm install --prefix "$home" --no-audit --no-fund --loglevel=error node@22 || fail "npm could not install node@22 into $home"
  fi
  export PATH=$home/node_modules/node/bin:$PATH
  [ "$(node_major)" -ge 20 ] || fail "the node in $home does not run here; put a node of version 20 or newer first in PATH"
}
