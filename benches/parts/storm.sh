# Sourced by run.sh. Introspection while 256 people sign in with passwords all the time.

people=256
read -r port <<< "$(free_ports 1)"
grant=grant_type=client_credentials
configure storm "$port" '[limits]\nlogin_failures = "100000/1m"\naddress_failures = "100000/1m"'
start_countersign storm "$port" > /dev/null
storm=$(add_client storm bench)
people_client=$(add_client storm bench-people --grant password)
say "adding $people people"
for n in $(seq "$people"); do
  printf 'long enough %s bench\n' "$n" | "$countersign" user add "person$n" --password-stdin --config "$(config_of storm)" > /dev/null
  printf 'username=person%s&password=long+enough+%s+bench\n' "$n" "$n" >> "$work/people.tokens"
done
url=http://127.0.0.1:$port/oauth2
fetch_tokens "$url/token" "$storm" storm
is_active "$url/introspect" "$storm" storm
post "$url/token" "$people_client" "grant_type=password&$(head -n 1 "$work/people.tokens")" | grep -q access_token || fail "nobody can sign in"
for round in $(seq "$rounds"); do
  say "round $round of $rounds"
  load calm.introspect "$url/introspect" "$storm" token= storm
  # Longer than what is measured meanwhile; more than the queue holds are answered 503, so failures are counted and allowed.
  BENCH_AUTHORIZATION=$people_client BENCH_BODY='grant_type=password&' BENCH_TOKENS=$work/people.tokens \
    wrk -t 1 -c "$people" -d "$((seconds + 2))s" --timeout 30s -s "$here/form.lua" "$url/token" | sed -n 's/^BENCH //p' > "$work/storm.line" &
  sign_ins=$!
  sleep 1
  load storm.introspect "$url/introspect" "$storm" token= storm
  wait "$sign_ins" || fail "the sign-ins could not be sent"
  awk '{ printf "%.0f\n", ($1 - $3) / $2 }' "$work/storm.line" >> "$work/storm.sign_ins"
done
row "sign-ins a second meanwhile (argon2id)" "$(median storm.sign_ins)" -
row "introspection while $people sign-ins queue / without" "$(ratio storm.introspect calm.introspect)" ">= 0.60"
row "resident memory meanwhile, the most, MB" "$(peak "$server")" "< 400"
