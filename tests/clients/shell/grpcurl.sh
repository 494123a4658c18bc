#!/usr/bin/env bash
# Checks grpcurl, which learns the API by reflection: `grpcurl.sh GRPCURL SERVER_URL ADMIN_URL PROTOS`.
set -euo pipefail
grpcurl=$1 server=${2#http://} admin=${3#http://} protos=$4
. "$(dirname "${BASH_SOURCE[0]}")/report.sh"

pings=ping.v1.PingService

# call METHOD MESSAGES [OPTION...]: prints the answers or the error.
call() {
  local method=$1 messages=$2
  shift 2
  "$grpcurl" -plaintext "$@" -d "$messages" "$server" "$method" 2>&1
}
# refused METHOD MESSAGES [OPTION...]: prints the error of a call that must fail.
refused() {
  local answer
  ! answer=$(call "$@") || { echo "no error: $answer"; return 1; }
  echo "$answer"
}
query() { echo "{\"time_range\":{\"start\":$start,\"end\":$((start + 1000))}${1:-}}"; }
event() { echo "{\"timestamp_ms\":$((start + ${1:-0})),\"source\":\"$source\"${2:-}}"; }
want_count() { want "$(call $pings/PingCount "$(query ',"strong":true')" -emit-defaults)" "\"pingCount\": \"$1\""; }

list() {
  want "$("$grpcurl" -plaintext "$server" list)" ping.v1.PingService ping.v1.EventService ping.v1.SourceService ping.v1.LiveService grpc.health.v1.Health
  want "$("$grpcurl" -plaintext "$server" list $pings)" Ping PingCount StreamPings
}

describe() {
  want "$("$grpcurl" -plaintext "$server" describe $pings)" 'rpc PingCount' NO_SIDE_EFFECTS 'Counts events'
  want "$("$grpcurl" -plaintext "$server" describe ping.v1.PingRequest)" 'int64 timestamp_ms = 1' 'bool receipt = 5'
}

old_reflection() {
  want "$(call grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo '{"list_services":""}')" "$pings"
}

unary() {
  local receipt
  receipt=$(call $pings/Ping "$(event 0 ',"receipt":true')")
  want "$(call $pings/PingCount "$(query ",\"after\":\"$(field token <<<"$receipt")\"")")" '"pingCount": "1"'
  want_count 1
}

zero() { want_count 0; }

invalid_input() {
  want "$(refused $pings/Ping '{"timestamp_ms":-1}')" 'Code: InvalidArgument' google.rpc.BadRequest '"field": "timestamp_ms"'
}

deadline() {
  want "$(refused $pings/PingCount "{\"after\":\"$never_counted\"}" -max-time 1)" 'Code: DeadlineExceeded'
}

stream() {
  want "$(call $pings/StreamPings "{\"pings\":[$(event)]}{\"pings\":[$(event 1),{\"timestamp_ms\":-1}]}")" \
    '"batches": "1"' '"batches": "2"' '"code": "invalid_argument"'
  want_count 2
}

health() {
  local service list
  list=$(call grpc.health.v1.Health/List '{}')
  for service in "" ping.v1.PingService ping.v1.EventService ping.v1.SourceService ping.v1.LiveService; do
    want "$(call grpc.health.v1.Health/Check "{\"service\":\"$service\"}")" '"status": "SERVING"'
    want "$list" "\"$service\": {"
  done
  want "$(refused grpc.health.v1.Health/Watch '{"service":"ping.v1.PingService"}' -max-time 1)" '"status": "SERVING"' DeadlineExceeded
}

# The admin port has no reflection.
verify() {
  want "$("$grpcurl" -plaintext -import-path "$protos" -proto ping/v1/admin.proto "$admin" ping.v1.AdminService/Verify)" '"exact": true'
}

check grpcurl list list
check grpcurl describe describe
check grpcurl 'reflection v1alpha' old_reflection
check grpcurl unary unary
check grpcurl 'a count of 0' zero
check grpcurl 'invalid input' invalid_input
check grpcurl deadline deadline
check grpcurl stream stream
check grpcurl health health
check grpcurl verify verify
finish grpcurl
