"""Streams events. After a disconnect it continues: what was not acknowledged is sent again, with the same ids.

`python stream.py ADDRESS EVENTS`
"""

import queue
import sys
import time
from collections import deque
from itertools import islice

import grpc
from ping.v1 import events_pb2, events_pb2_grpc, service_pb2, service_pb2_grpc
from uuid_utils import uuid7  # From Python 3.14 on, also in `uuid`.

BATCH_EVENTS = 100
# Batches that may be unacknowledged at a time.
WINDOW = 10
# Sending again does not help.
FINAL = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
}


def new_batches(total):
    """Your events. An event keeps its id, however often it is sent."""
    for begin in range(0, total, BATCH_EVENTS):
        size = min(BATCH_EVENTS, total - begin)
        events = [events_pb2.RecordRequest(event_id=str(uuid7()), source="shop-7", kind="sale") for _ in range(size)]
        yield events_pb2.RecordBatchRequest(events=events)


def stream(events, unacknowledged, new):
    """Sends and acknowledges until nothing is left, or the connection breaks."""
    requests = queue.SimpleQueue()
    for batch in unacknowledged:
        requests.put(batch)
    try:
        for answer in events.RecordStream(iter(requests.get, None)):
            if answer.refused:
                raise SystemExit(f"refused: {answer.refused[0].message}")
            unacknowledged.popleft()
            if batch := next(new, None):
                unacknowledged.append(batch)
                requests.put(batch)
            if not unacknowledged:
                return
    finally:
        requests.put(None)


address, total = sys.argv[1], int(sys.argv[2])
new = new_batches(total)
unacknowledged = deque(islice(new, WINDOW))
pause = 0.1
while unacknowledged:
    before = unacknowledged[0]
    with grpc.insecure_channel(address) as channel:
        try:
            stream(events_pb2_grpc.EventServiceStub(channel), unacknowledged, new)
        except grpc.RpcError as error:
            if error.code() in FINAL:
                raise
            print(f"disconnected: {error.code().name}; {len(unacknowledged)} batches are sent again", file=sys.stderr)
    pause = 0.1 if not unacknowledged or unacknowledged[0] is not before else min(2 * pause, 2)
    time.sleep(pause)
with grpc.insecure_channel(address) as channel:
    print(service_pb2_grpc.PingServiceStub(channel).PingCount(service_pb2.PingCountRequest(strong=True)).ping_count)
