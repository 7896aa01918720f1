#!/usr/bin/env bash
# Makes a certificate authority that nobody else trusts, and server certificates signed by it.
#
#   certs.sh DIR NAME[@ADDRESS]...     DIR/ca.crt and DIR/ca.key, then DIR/NAME.crt and DIR/NAME.key for each NAME
#
# A server certificate is valid for localhost, 127.0.0.1 or the ADDRESS, and NAME.lab.test, and for nothing else. An authority that is
# already in DIR is kept, so that names can be added later. With USAGE=clientAuth the pairs are a client's. Needs openssl.
set -euo pipefail

dir=${1:?usage: certs.sh DIR NAME[@ADDRESS]...}
shift
mkdir -p "$dir"
cd "$dir"
umask 077

if [ ! -f ca.crt ]; then
  openssl req -x509 -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Countersign test authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt 2>/dev/null
fi

for server in "$@"; do
  name=${server%@*}
  address=127.0.0.1
  case $server in *@*) address=${server#*@} ;; esac
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name.lab.test" \
    -keyout "$name.key" -out "$name.csr" 2>/dev/null
  cat > "$name.ext" <<EXT
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = ${USAGE:-serverAuth}
subjectAltName = DNS:localhost,DNS:$name.lab.test,IP:$address
EXT
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -sha256 \
    -extfile "$name.ext" -out "$name.crt" 2>/dev/null
  rm "$name.csr" "$name.ext"
done
