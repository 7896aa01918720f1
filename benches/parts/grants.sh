# Sourced by run.sh. Introspection beside 1,000,000 live grants and 100,000 revocations, against the same with an empty database.

read -r empty_port full_port <<< "$(free_ports 2)"
grant=grant_type=client_credentials
configure empty "$empty_port"
configure full "$full_port"
for name in empty full; do
  start_countersign "$name" "$(port_of "$name")" > /dev/null
  eval "$name=\$(add_client $name bench)"
done

stop_countersign "$server"
say "writing 1,000,000 grants and 100,000 revocations"
python3 "$here/fill.py" "$work/full/countersign.db" 1000000 100000
start_countersign full "$full_port" > "$work/full.start"
full_server=$server
for name in empty full; do
  fetch_tokens "http://127.0.0.1:$(port_of "$name")/oauth2/token" "${!name}" "$name"
  is_active "http://127.0.0.1:$(port_of "$name")/oauth2/introspect" "${!name}" "$name"
done
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  for name in empty full; do
    load "$name.introspect" "http://127.0.0.1:$(port_of "$name")/oauth2/introspect" "${!name}" token= "$name"
  done
done
row "introspection, 1,000,000 grants and 100,000 revocations / empty" "$(ratio full.introspect empty.introspect)" ">= 0.90"
row "resident memory with them, MB" "$(resident "$full_server")" -
row "start with them to the first 200 of /readyz, ms" "$(cat "$work/full.start")" -
