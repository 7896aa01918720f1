# Sourced by run.sh, which sets the variables used here and defines `fail` and `say`.

exec 4<> <(:) # see wait_for

install_wrk() {
  command -v curl > /dev/null || fail "curl is missing: apt-get install curl"
  command -v wrk > /dev/null && return
  command -v apt-get > /dev/null || fail "wrk is missing and there is no apt-get: install wrk yourself"
  say "installing wrk"
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null || fail "wrk is missing, and installing it needs root or sudo: apt-get install wrk"
    sudo=(sudo)
  fi
  ${sudo[@]+"${sudo[@]}"} apt-get update -q > "$work/apt.log" 2>&1 &&
    ${sudo[@]+"${sudo[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends wrk >> "$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; fail "apt-get could not install wrk"; }
}

# The path of a program in what cargo says.
executable() { sed -n 's/.*"name":"'"$1"'".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1; }

# The text of one member of a flat JSON object.
member() { tr -d '\n' | sed -n 's/.*"'"$1"'" *: *"\([^"]*\)".*/\1/p'; }

basic() { printf 'Basic %s' "$(printf '%s:%s' "$1" "$2" | base64 -w 0)"; }

now_us() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Builds a program of this folder and prints its path.
bench_program() {
  cargo bench --quiet --no-run --manifest-path "$root/Cargo.toml" --bench "$1" --message-format=json | executable "$1"
}

# So many ports on which nothing answers.
free_ports() {
  local found=() try
  while [ "${#found[@]}" -lt "$1" ]; do
    try=$((20000 + RANDOM % 12000))
    (exec 3<> "/dev/tcp/127.0.0.1/$try") 2> /dev/null || found+=("$try")
  done
  printf '%s\n' "${found[*]}"
}

# The status of GET, or nothing. In bash alone: a program started for each try would take longer than what is measured.
status_of() {
  local line=
  { exec 3<> "/dev/tcp/127.0.0.1/$1"; } 2> /dev/null || return 0
  printf 'GET %s HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n' "$2" >&3
  IFS= read -r -t 5 line <&3 || true
  exec 3>&-
  line=${line#* }
  printf -v answered '%s' "${line%% *}"
}

# Waits until the port answers a request, with the status if one is given.
wait_for() {
  local deadline=$(($(now_us) + 20000000)) answered=
  while :; do
    answered=
    status_of "$1" "$2"
    [ -z "$answered" ] || [ "$answered" != "${3:-$answered}" ] || return 0
    [ "$(now_us)" -lt "$deadline" ] || fail "no answer ${3:-} from port $1 within 20 s"
    # A pause of a millisecond without a program: nothing is ever written there.
    read -r -t 0.001 -u 4 || true
  done
}

# Everything that keep_server was told of is stopped at the end.
keep_server() {
  disown "$1"
  servers+=("$1")
}

stop_all() {
  local pid
  for pid in "${servers[@]:+${servers[@]}}"; do kill "$pid" 2> /dev/null || true; done
  for pid in "${servers[@]:+${servers[@]}}"; do
    while kill -0 "$pid" 2> /dev/null; do sleep 0.05; done
  done
  servers=()
}

config_of() { printf '%s/%s/countersign.toml' "$work" "$1"; }

# The port in NAME's configuration.
port_of() { sed -n 's/^listen = .*:\([0-9]*\)"$/\1/p' "$(config_of "$1")"; }

# Writes a configuration: NAME PORT [MORE] [DATABASE_URL] [ISSUER].
configure() {
  mkdir -p "$work/$1"
  {
    printf '[server]\nlisten = "127.0.0.1:%s"\n' "$2"
    [ -z "${5:-}" ] || printf 'issuer = "%s"\n' "$5"
    printf '[database]\nurl = "%s"\n[log]\nlevel = "warn"\n' "${4:-sqlite:countersign.db}"
    # shellcheck disable=SC2059
    printf "${3:-}\n"
  } > "$(config_of "$1")"
}

# Starts NAME on PORT, sets `server` and prints how many milliseconds passed until /readyz said 200. Not in a subshell: write the output to a file.
start_countersign() {
  local began
  began=$(now_us)
  "$countersign" serve --config "$(config_of "$1")" > "$work/$1.log" 2>&1 &
  server=$!
  keep_server "$server"
  wait_for "$2" /readyz 200
  awk -v us="$(($(now_us) - began))" 'BEGIN { printf "%.1f\n", us / 1000 }'
}

stop_countersign() {
  kill "$1"
  while kill -0 "$1" 2> /dev/null; do sleep 0.05; done
}

# Adds a client to the database of NAME and prints its Authorization header: NAME ID FLAG….
add_client() {
  local name=$1 id=$2 secret
  shift 2
  secret=$("$countersign" client add "$id" --grant client_credentials --introspect any "$@" --config "$(config_of "$name")" --json | member client_secret)
  [ -n "$secret" ] || fail "client add printed no secret for $id"
  basic "$id" "$secret"
}

post() { curl -fsS -H "Authorization: $2" -d "$3" "$1"; }

# Some tokens, into a file of that name.
fetch_tokens() {
  local n token
  for n in $(seq 64); do
    token=$(post "$1" "$2" "$grant" | member access_token)
    [ -n "$token" ] || fail "$1 answered no token (try $n)"
    printf '%s\n' "$token" >> "$work/$3.tokens"
  done
}

# An inactive token is answered faster: make sure that what is measured is the real thing.
is_active() {
  post "$1" "$2" "token=$(head -n 1 "$work/$3.tokens")" | grep -q '"active": *true' || fail "$1 does not call the $3 token active"
}

# Loads a URL: NAME URL AUTHORIZATION BODY [TOKENS]. Appends to NAME.rate, NAME.p99 and NAME.requests.
load() {
  local line requests elapsed failures p99
  line=$(BENCH_AUTHORIZATION=$3 BENCH_BODY=$4 BENCH_TOKENS=${5:+$work/$5.tokens} \
    wrk -t 1 -c "$connections" -d "${seconds}s" -s "$here/form.lua" "$2" | sed -n 's/^BENCH //p') || fail "wrk could not load $2"
  [ -n "$line" ] || fail "wrk printed no figures for $1"
  read -r requests elapsed failures p99 <<< "$line"
  [ "$failures" -eq 0 ] || fail "$1: $failures of $requests requests failed"
  awk -v n="$requests" -v s="$elapsed" 'BEGIN { printf "%.0f\n", n / s }' >> "$work/$1.rate"
  printf '%s\n' "$p99" >> "$work/$1.p99"
  printf '%s\n' "$requests" >> "$work/$1.requests"
}

# The most resident memory that a process ever had, in MB.
peak() { awk '/^VmHWM:/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$1/status"; }

# Resident memory of a process in MB.
resident() { awk '/^VmRSS:/ { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$1/status"; }

median() { sort -n "$work/$1" | awk '{ a[NR] = $1 } END { print (NR % 2) ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }

# The median over rounds of one rate over another's of the same round, which were measured one after the other.
ratio() { paste "$work/$1.rate" "$work/$2.rate" | awk '{ printf "%.3f\n", $1 / $2 }' > "$work/ratio"; median ratio; }

# Prints a row; the bound is ">= N", "< N" or "-" for a figure that is only stated.
row() {
  local verdict=
  if [ "$3" != - ]; then
    verdict=$(awk -v m="$2" -v bound="$3" 'BEGIN { split(bound, b, " "); print (b[1] == "<" ? m < b[2] : m >= b[2]) ? "pass" : "fail" }')
    [ "$verdict" = pass ] || touch "$work/missed"
  fi
  printf '%-62s %10s %10s  %s\n' "$1" "$2" "$3" "$verdict"
}
