#!/usr/bin/env bash
# Checks curl: `curl.sh SERVER_URL ADMIN_URL`.
set -euo pipefail
server=$1 admin=$2
. "$(dirname "${BASH_SOURCE[0]}")/report.sh"

json='Content-Type: application/json'
pings=ping.v1.PingService

# call METHOD BODY [CURL_ARGUMENT...]: prints the body and the status.
call() {
  local method=$1 body=$2
  shift 2
  curl -sS -w ' %{http_code}' "$server/$method" -H "$json" --data-binary "$body" "$@"
}
event() { echo "{\"timestampMs\":$((start + ${1:-0})),\"source\":\"$source\"${2:-}}"; }
query() { echo "{\"timeRange\":{\"start\":$start,\"end\":$((start + 1000))}${1:-}}"; }
count() { call $pings/PingCount "$(query ',"strong":true')" | field pingCount; }
want_count() { want "count $(count)." "count $1."; }

unary() {
  local receipt
  receipt=$(call $pings/Ping "$(event 0 ',"receipt":true')")
  want "$(call $pings/PingCount "$(query ",\"after\":\"$(field token <<<"$receipt")\"")")" '"pingCount":"1"' '"exact":true' ' 200'
  want "$(call $pings/Ping "$(event 1)")" '{} 200'
  want_count 2
}

zeros() {
  want "$(call $pings/PingCount "$(query)")" '"pingCount":"0"' ' 200'
  want "$(call ping.v1.EventService/RecordBatch '{"events":[{"timestampMs":-1}]}')" '"accepted":"0"' '"index":0' ' 200'
  want "$(call ping.v1.SourceService/SourceStats "{\"source\":\"$source-unused\"}")" '"count":"0"' ' 200'
}

invalid_input() {
  want "$(call $pings/Ping '{"timestampMs":-1}')" '"code":"invalid_argument"' google.rpc.BadRequest ' 400'
  want "$(call $pings/Ping '{"timestampMs":"yesterday"}')" '"code":"invalid_argument"' timestampMs ' 400'
  want "$(call $pings/Ping '{')" '"code":"invalid_argument"' ' 400'
  want "$(call $pings/Pong '{}')" '"code":"unimplemented"' ' 404'
  want_count 0
}

far_too_large() {
  head -c 1000000 /dev/zero | tr '\0' x >"$work/x"
  echo "{\"source\":\"$(cat "$work/x")\"}" >"$work/large"
  want "$(call $pings/Ping "@$work/large")" '"code":"resource_exhausted"' ' 429'
}

retry() {
  local id
  id=$(cat /proc/sys/kernel/random/uuid)
  for _ in 1 2 3; do want "$(call $pings/Ping "$(event 0 ",\"eventId\":\"$id\"")")" ' 200'; done
  want "$(call $pings/Ping "$(event 1 ",\"eventId\":\"$id\"")")" '"code":"already_exists"' ' 409'
  want_count 1
}

deadline() {
  want "$(call $pings/PingCount "{\"after\":\"$never_counted\"}" -H 'Connect-Timeout-Ms: 300' -m $slow)" '"code":"deadline_exceeded"' ' 504'
}

# The server stops working for a caller that has left.
cancellation() {
  local status=0 tries=50
  call $pings/PingCount "{\"after\":\"$never_counted\"}" -m 0.3 2>/dev/null || status=$?
  want "status $status" 'status 28'
  until curl -sS "$admin/metrics" | grep -qx 'ping_transport_requests 0'; do
    [ $((tries -= 1)) -gt 0 ] || { echo "the server still works for a caller that has left"; return 1; }
    sleep 0.1
  done
}

compressed_requests() {
  event | gzip >"$work/gzip"
  want "$(call $pings/Ping "@$work/gzip" -H 'Content-Encoding: gzip')" '{} 200'
  want_count 1
  want "$(call $pings/Ping "@$work/gzip" -H 'Content-Encoding: br')" '"code":"unimplemented"' ' 501'
  want "$(call $pings/Ping "$(event)" -H 'Content-Encoding: gzip')" '"code":"invalid_argument"' ' 400'
}

compressed_responses() {
  local end series
  end=$(($(date +%s) / 60 * 60000))
  series="{\"timeRange\":{\"start\":$((end - 60000000)),\"end\":$end},\"step\":\"STEP_MINUTE\"}"
  want "$(call ping.v1.SourceService/Series "$series" --compressed -i | tr -d '\0')" 'content-encoding: ' '"points":[' ' 200'
  want "$(call ping.v1.SourceService/Series "$series" -H 'Accept-Encoding: zstd' -D - -o /dev/null)" 'content-encoding: zstd' ' 200'
  call ping.v1.SourceService/Series "$series" -H 'Accept-Encoding: gzip' -o "$work/series" >/dev/null
  want "$(gunzip <"$work/series")" '"points":['
}

get() {
  call $pings/Ping "$(event)" >/dev/null
  get_count() { curl -sS -w ' %{http_code}' -G "$server/$pings/PingCount" -d connect=v1 -d encoding=json "$@"; }
  want "$(get_count --data-urlencode "message=$(query ',"strong":true')")" '"pingCount":"1"' ' 200'
  want "$(get_count -d base64=1 --data-urlencode "message=$(query ',"strong":true' | base64 -w0 | tr '+/' '-_')")" '"pingCount":"1"' ' 200'
  want "$(get_count --data-urlencode 'message={"after":"yesterday"}')" '"code":"invalid_argument"' ' 400'
  want "$(curl -sS -w ' %{http_code}' "$server/$pings/Ping")" POST ' 405'
}

versions() {
  want "$(call $pings/PingCount "$(query)" --http2-prior-knowledge -w ' HTTP/%{http_version}')" '"pingCount":"0"' ' HTTP/2'
  # An offer to upgrade may be declined.
  want "$(call $pings/PingCount "$(query)" --http2)" '"pingCount":"0"' ' 200'
}

# An error before the body is read leaves the connection usable.
keep_alive() {
  local answers
  answers=$(curl -sS -o "$work/refused" -w '%{http_code} ' "$server/$pings/Ping" -H 'Content-Type: text/plain' -d hello \
    --next -sS -w ' %{http_code} connections %{num_connects}' "$server/$pings/Ping" -H "$json" -d "$(event)")
  want "$answers" '415 {} 200 connections 0'
  want "$(cat "$work/refused")" application/json
  want_count 1
}

# More than a megabyte: curl waits for `100 Continue`.
large_batch() {
  local long events
  long=$(printf 's%.0s' {1..100})
  events=$(seq -f "{\"timestampMs\":%.0f,\"source\":\"$long\"}" -s , "$start" "$((start + 9999))")
  echo "{\"events\":[$events]}" >"$work/batch"
  want "$(call ping.v1.EventService/RecordBatch "@$work/batch")" '"accepted":"10000"' ' 200'
  want_count 1000
}

# A stream in one direction after the other, as HTTP/1.1 clients can send it.
stream() {
  local batch answer
  batch="{\"pings\":[$(event),{\"timestampMs\":-1}]}"
  for _ in 1 2; do printf "\\0\\0\\0\\0\\x$(printf %02x ${#batch})%s" "$batch"; done >"$work/batches"
  answer=$(curl -sS "$server/$pings/StreamPings" -H 'Content-Type: application/connect+json' --data-binary "@$work/batches" | tr -d '\0')
  want "$answer" '"batches":"1","accepted":"1"' '"batches":"2","accepted":"1"' '"code":"invalid_argument"'
  want_count 2
  want "$(call $pings/StreamPings "$batch")" application/connect+json ' 415'
}

grpc_over_http1() {
  want "$(curl -sS -i "$server/$pings/Ping" -H 'Content-Type: application/grpc' --data-binary x)" 'grpc-status: 12' 'HTTP/2'
}

# What a browser asks before a page of another site may call. By default, none may.
preflight() {
  local answer
  answer=$(curl -sS -i -X OPTIONS "$server/$pings/Ping" -H 'Origin: http://page.example' \
    -H 'Access-Control-Request-Method: POST' -H 'Access-Control-Request-Headers: connect-protocol-version,content-type')
  want "$answer" ' 405'
  [[ $answer != *access-control-allow-* ]] || { echo "a page of another site may call: $answer" >&2; return 1; }
}

health() {
  local service list
  list=$(call grpc.health.v1.Health/List '{}')
  for service in "" ping.v1.PingService ping.v1.EventService ping.v1.SourceService ping.v1.LiveService; do
    want "$(call grpc.health.v1.Health/Check "{\"service\":\"$service\"}")" '{"status":"SERVING"} 200'
    want "$list" "\"$service\":{\"status\":\"SERVING\"}"
  done
  want "$(call grpc.health.v1.Health/Check '{"service":"nothing"}')" '"code":"not_found"' ' 404'
  want "$(curl -sS -w ' %{http_code}' "$admin/readyz")" ' 200'
}

verify() {
  want "$(curl -sS "$admin/ping.v1.AdminService/Verify" -H "$json" -d '{}')" '"exact":true'
}

check curl unary unary
check curl 'counts of 0' zeros
check curl 'invalid input' invalid_input
check curl 'far too large' far_too_large
check curl retry retry
check curl deadline deadline
check curl cancellation cancellation
check curl 'compressed requests' compressed_requests
check curl 'compressed responses' compressed_responses
check curl GET get
check curl 'HTTP/2 and upgrade' versions
check curl 'keep-alive after an error' keep_alive
check curl 'large batch' large_batch
check curl 'half-duplex stream' stream
check curl 'gRPC over HTTP/1.1' grpc_over_http1
check curl 'preflight' preflight
check curl health health
check curl verify verify
finish curl
