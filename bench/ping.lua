-- Load for wrk: JSON requests like those of curl in a closed loop. Prints a JSON object as its last line, which the benchmark reads.
wrk.method = "POST"
wrk.path = "/ping.v1.PingService/Ping"
wrk.headers["Content-Type"] = "application/json"

local now = os.time() * 1000
local sent = 0

function request()
  sent = sent + 1
  return wrk.format(nil, nil, nil, string.format('{"timestamp_ms":%d}', now + sent % 60000))
end

function done(summary, latency)
  local failed = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format(
    '{"rate":%.1f,"latency_ms":{"p50":%.3f,"p95":%.3f,"p99":%.3f},"refused":%d,"failed":%d}\n',
    (summary.requests - summary.errors.status) / (summary.duration / 1e6), latency:percentile(50) / 1e3, latency:percentile(95) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status, failed))
end
