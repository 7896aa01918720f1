# Sourced by run.sh. CPU of Countersign for each request, with 1, 2 and 4 nodes on one PostgreSQL. The cores are the same, so the
# rate tells little; what a request costs must not grow with the number of nodes.

read -r database_port a b c d <<< "$(free_ports 5)"
grant=grant_type=client_credentials
chmod 711 "$work"
bash "$root/tests/peers/postgres.sh" start "$work/postgres" "$database_port" || fail "PostgreSQL did not start"
database_url=postgres://postgres@127.0.0.1:$database_port/postgres
head -c 32 /dev/urandom | base64 > "$work/kek"
chmod 600 "$work/kek"
node_ports=("$a" "$b" "$c" "$d") nodes=()
for n in 0 1 2 3; do
  configure "node$n" "${node_ports[n]}" "[keys]\nencryption_key_file = \"$work/kek\"" "$database_url" "http://127.0.0.1:$a"
  start_countersign "node$n" "${node_ports[n]}" > /dev/null
  nodes+=("$server")
  [ "$n" -gt 0 ] || cluster=$(add_client node0 bench)
done
fetch_tokens "http://127.0.0.1:$a/oauth2/token" "$cluster" cluster
for n in 0 1 2 3; do is_active "http://127.0.0.1:${node_ports[n]}/oauth2/introspect" "$cluster" cluster; done

# CPU seconds that all four used so far; those that are not asked follow the feed all the same.
cpu() { for pid in "${nodes[@]}"; do sed 's/.*) //' "/proc/$pid/stat"; done | awk -v hz="$(getconf CLK_TCK)" '{ s += $12 + $13 } END { printf "%.3f", s / hz }'; }
loaded() { # HOW_MANY ENDPOINT BODY TOKENS
  local n jobs=() before after
  rm -f "$work"/part.*.requests
  before=$(cpu)
  for n in $(seq 0 $(($1 - 1))); do
    connections=$((32 / $1)) load "part.$n" "http://127.0.0.1:${node_ports[n]}/oauth2/$2" "$cluster" "$3" ${4:+"$4"} &
    jobs+=($!)
  done
  for n in "${jobs[@]}"; do wait "$n" || fail "a node was not loaded"; done
  after=$(cpu)
  cat "$work"/part.*.requests | awk -v us="$(awk -v a="$before" -v b="$after" 'BEGIN { print (b - a) * 1e6 }')" '{ n += $1 } END { printf "%.3f\n", us / n }'
}
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  for count in 1 2 4; do
    loaded "$count" token "$grant" >> "$work/nodes.issue.$count"
    loaded "$count" introspect token= cluster >> "$work/nodes.introspect.$count"
  done
done
for what in issue introspect; do
  for count in 1 2 4; do cp "$work/nodes.$what.$count" "$work/nodes.$what.$count.rate"; done
  row "CPU for each $what, one node, microseconds" "$(median "nodes.$what.1")" -
  row "CPU for each $what, 2 nodes / 1" "$(ratio "nodes.$what.2" "nodes.$what.1")" "< 1.10"
  row "CPU for each $what, 4 nodes / 1" "$(ratio "nodes.$what.4" "nodes.$what.1")" "< 1.10"
done
stop_all
bash "$root/tests/peers/postgres.sh" stop "$work/postgres"
rm -rf "$work/postgres"
