-- Posts forms through wrk. The environment names what is sent:
--   BENCH_AUTHORIZATION   the Authorization header, or nothing
--   BENCH_BODY            the form
--   BENCH_TOKENS          a file with one token a line: each in turn is appended to the form as its last value
-- Prints one line: requests, seconds, failures, milliseconds of the 99th percentile.

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
local authorization = os.getenv("BENCH_AUTHORIZATION") or ""
if authorization ~= "" then wrk.headers["Authorization"] = authorization end

local requests, turn = {}, 0

function init()
  local body, tokens = os.getenv("BENCH_BODY"), os.getenv("BENCH_TOKENS") or ""
  if tokens == "" then
    requests[1] = wrk.format(nil, nil, nil, body)
  else
    for token in io.lines(tokens) do requests[#requests + 1] = wrk.format(nil, nil, nil, body .. token) end
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format("BENCH %d %.3f %d %.2f\n", summary.requests, summary.duration / 1e6, failures, latency:percentile(99) / 1e3))
end
