"""Counts one event, and sends it again after a failure: it is counted once. `python count.py ADDRESS [EVENT_ID]`"""

import sys
import time

import grpc
from ping.v1 import service_pb2, service_pb2_grpc
from uuid_utils import uuid7  # From Python 3.14 on, also in `uuid`.

RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}

pings = service_pb2_grpc.PingServiceStub(grpc.insecure_channel(sys.argv[1]))
# Without an id of its own, an event that is sent twice is two events.
event_id = sys.argv[2] if len(sys.argv) > 2 else str(uuid7())
event = service_pb2.PingRequest(event_id=event_id, source="shop-7", kind="sale")
for attempt in range(10):
    try:
        pings.Ping(event, timeout=5)
        break
    except grpc.RpcError as error:
        if error.code() not in RETRYABLE or attempt == 9:
            raise
        time.sleep(min(0.1 * 2**attempt, 2))
print(pings.PingCount(service_pb2.PingCountRequest(strong=True)).ping_count)
