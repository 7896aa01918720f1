# Sourced by run.sh. client_credentials and introspection against a bare floor and npm oidc-provider; start time and memory.

read -r floor_port port provider_port <<< "$(free_ports 3)"
"$floor" "127.0.0.1:$floor_port" &
keep_server $!
wait_for "$floor_port" /

# SQLite, two clients, one for each form of token.
configure tokens "$port"
start_countersign tokens "$port" > /dev/null
opaque=$(add_client tokens bench-opaque --token-format opaque)
jwt=$(add_client tokens bench-jwt --token-format jwt)

issuer=$("$root/tests/peers/oidc.sh" start "$work/provider" "$provider_port")
metadata=$(curl -fsS "$issuer/.well-known/openid-configuration")
provider_token=$(member token_endpoint <<< "$metadata")
provider_introspect=$(member introspection_endpoint <<< "$metadata")
provider=$(basic bench bench-secret-bench-secret-bench-secret)

url=http://127.0.0.1:$port/oauth2
grant=grant_type=client_credentials
fetch_tokens "$url/token" "$opaque" opaque
fetch_tokens "$url/token" "$jwt" jwt
fetch_tokens "$provider_token" "$provider" provider
is_active "$url/introspect" "$opaque" opaque
is_active "$url/introspect" "$opaque" jwt
is_active "$provider_introspect" "$provider" provider

for _ in $(seq "$rounds"); do
  stop_countersign "$server"
  start_countersign tokens "$port" >> "$work/start.ms"
done
sleep 2
idle=$(resident "$server")
issued=0
while [ "$issued" -lt 1000000 ]; do
  load fill "$url/token" "$opaque" "$grant"
  issued=$((issued + $(tail -n 1 "$work/fill.requests")))
done
filled=$(resident "$server")

for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  load floor "http://127.0.0.1:$floor_port/form" "" "$grant"
  load opaque.issue "$url/token" "$opaque" "$grant"
  load opaque.introspect "$url/introspect" "$opaque" token= opaque
  load provider.issue "$provider_token" "$provider" "$grant"
  load signed "http://127.0.0.1:$floor_port/signed" "" "$grant"
  load jwt.issue "$url/token" "$jwt" "$grant"
  load jwt.introspect "$url/introspect" "$opaque" token= jwt
  load provider.introspect "$provider_introspect" "$provider" token= provider
done

for target in floor signed opaque.issue jwt.issue opaque.introspect jwt.introspect provider.issue provider.introspect; do
  row "$target, requests a second (p99 $(median "$target.p99") ms)" "$(median "$target.rate")" -
done
row "client_credentials, opaque / floor" "$(ratio opaque.issue floor)" ">= 0.70"
row "client_credentials, ES256 / floor with one signature" "$(ratio jwt.issue signed)" ">= 0.80"
row "introspection, opaque / floor" "$(ratio opaque.introspect floor)" ">= 0.70"
row "introspection, ES256 / floor" "$(ratio jwt.introspect floor)" -
row "client_credentials, opaque / provider" "$(ratio opaque.issue provider.issue)" ">= 10"
row "introspection, opaque / provider" "$(ratio opaque.introspect provider.introspect)" ">= 10"
row "start with a database to the first 200 of /readyz, ms" "$(median start.ms)" "< 60"
row "resident memory, idle, MB" "$idle" "< 40"
row "resident memory after $issued tokens, MB" "$filled" "< 80"
row "size of the program, MB" "$(awk -v b="$(stat -c %s "$countersign")" 'BEGIN { printf "%.1f", b / 1e6 }')" -
"$root/tests/peers/oidc.sh" stop "$work/provider"
