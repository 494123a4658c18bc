"""The cases that every Python client has to pass, and the report."""

import random
import sys
import time
import traceback
import uuid

# A token of a writer that does not exist.
NEVER_COUNTED = "999.0.1"
# Longer than any call should take, even on a busy machine, and shorter than the server waits for a token.
SLOW = 8
# Length of a run's time range.
RANGE_MS = 1000


class Client:
    """One client under test. A program's adapters override what their client can do."""

    name = ""
    # The generated messages.
    messages = None
    # What it can send besides its default.
    compressions = ()
    can_cancel = True
    can_get = False

    def open(self, compression=None):
        """Connects with a compression for requests. The result has a method for each of the API that the cases use."""
        raise NotImplementedError


class Run:
    """One case on one client, with a time range and a source of its own, so that its counts are exact."""

    def __init__(self, client):
        self.client, self.messages, self.api = client, client.messages, client.open()
        # From 2001 on, for 20 years.
        self.start = 978_307_200_000 + random.randrange(20 * 365 * 24 * 3600) * 1000
        self.source = f"python-{uuid.uuid4()}"

    def event(self, offset=0, **fields):
        return self.messages.PingRequest(timestamp_ms=self.start + offset, source=self.source, **fields)

    def time_range(self):
        return self.messages.TimeRange(start=self.start, end=self.start + RANGE_MS)

    def query(self, **fields):
        return self.messages.PingCountRequest(time_range=self.time_range(), **fields)

    def count(self):
        return self.api.ping_count(self.query(strong=True)).ping_count

    def never(self):
        return self.messages.PingCountRequest(after=NEVER_COUNTED)

    def fails(self, code, call, *arguments, **options):
        """Makes a call that must fail with this code; returns the error."""
        try:
            answer = call(*arguments, **options)
        except self.api.errors as error:
            got = self.api.code(error)
            assert got == code, f"got {got} ({error}), want {code}"
            return error
        raise AssertionError(f"no error, want {code}: {answer}")


def want(what, got, expected):
    assert got == expected, f"{what}: got {got!r}, want {expected!r}"


def unary(run):
    receipt = run.api.ping(run.event(receipt=True))
    uuid.UUID(receipt.event_id)
    answer = run.api.ping_count(run.query(after=receipt.token))
    want("count", (answer.ping_count, answer.exact), (1, True))
    silent = run.api.ping(run.event(1))
    assert not silent.event_id and not silent.token, f"a receipt that was not requested: {silent}"
    want("count", run.count(), 2)


def zero(run):
    answer = run.api.ping_count(run.query())
    want("count", answer.ping_count, 0)
    assert answer.as_of_ms > 0, answer


def invalid_input(run):
    error = run.fails("invalid_argument", run.api.ping, run.messages.PingRequest(timestamp_ms=-1))
    want("field in BadRequest", run.api.bad_request(error).field_violations[0].field, "timestamp_ms")
    run.fails("invalid_argument", run.api.ping_count, run.messages.PingCountRequest(after="yesterday"))
    run.fails("resource_exhausted", run.api.ping, run.messages.PingRequest(source=noise(100_000)))
    run.api.ping(run.event())
    want("count", run.count(), 1)


def noise(length):
    """Text that stays long when it is compressed."""
    return random.randbytes(length // 2).hex()


def far_too_large(run):
    """More than the server decodes of one event. Neither this call nor the next one may see a broken connection."""
    run.fails("resource_exhausted", run.api.ping, run.messages.PingRequest(source=noise(1_000_000)))
    run.api.ping(run.event())
    want("count", run.count(), 1)


def unknown_method(run):
    run.fails("unimplemented", run.api.unknown, run.event())


def retry(run):
    event = run.event(event_id=str(uuid.uuid4()), receipt=True)
    for _ in range(2):
        want("event_id", run.api.ping(event).event_id, event.event_id)
    want("count", run.count(), 1)
    other = run.event(1, event_id=event.event_id)
    error = run.fails("already_exists", run.api.ping, other)
    want("reason in ErrorInfo", run.api.error_info(error).reason, "EVENT_ID_CONFLICT")
    want("count", run.count(), 1)


def deadline(run):
    started = time.monotonic()
    run.fails("deadline_exceeded", run.api.ping_count, run.never(), timeout=0.3)
    assert time.monotonic() - started < SLOW, "too late"
    want("count", run.count(), 0)


def cancellation(run):
    started = time.monotonic()
    run.fails("canceled", run.api.cancelled_count, run.never(), 0.1)
    assert time.monotonic() - started < SLOW, "too late"
    want("count", run.count(), 0)


def batch_of(run, events):
    event = run.messages.RecordRequest
    events = [event(timestamp_ms=run.start + offset % RANGE_MS, source=run.source) for offset in range(events)]
    return run.messages.RecordBatchRequest(events=events)


def batch(run):
    request = batch_of(run, 3)
    request.events[1].timestamp_ms = -1
    answer = run.api.record_batch(request)
    want("accepted", (answer.accepted, len(answer.refused)), (2, 1))
    want("refused", (answer.refused[0].index, answer.refused[0].code), (1, "invalid_argument"))
    want("count", run.count(), 2)


def compressed_responses(run):
    """A response that is large enough to be compressed. The clients decompress it and do not say so."""
    now = int(time.time()) // 60 * 60_000
    time_range = run.messages.TimeRange(start=now - 1000 * 60_000, end=now)
    answer = run.api.series(run.messages.SeriesRequest(time_range=time_range, step=run.messages.STEP_MINUTE))
    want("points", len(answer.points), 1000)


def compressed_requests(run):
    expected = 0
    for compression in run.client.compressions:
        run.api = run.client.open(compression)
        want("accepted", run.api.record_batch(batch_of(run, 500)).accepted, 500)
        expected += 500
        want("count", run.count(), expected)
        # An error is as readable as without compression.
        run.fails("invalid_argument", run.api.ping, run.messages.PingRequest(timestamp_ms=-1))


def get(run):
    run.api.ping(run.event())
    want("count", run.api.get_count(run.query(strong=True)).ping_count, 1)
    run.fails("invalid_argument", run.api.get_count, run.messages.PingCountRequest(after="yesterday"))


def stream_batch(run):
    """Three new events and one that is refused."""
    refused = run.messages.PingRequest(timestamp_ms=-1)
    return run.messages.StreamPingsRequest(pings=[run.event(), run.event(1), refused, run.event(2)])


def want_acknowledged(answer, batches):
    want("acknowledged", (answer.batches, answer.accepted, len(answer.refused)), (batches, 3, 1))
    want("index", answer.refused[0].index, 2)


def stream(run):
    compressions = (None, *run.client.compressions)
    for compression in compressions:
        run.api = run.client.open(compression)
        pings = run.api.stream()
        # Each batch is acknowledged while the stream is open.
        for number in range(1, 4):
            pings.send(stream_batch(run))
            want_acknowledged(pings.receive(), number)
        # And many may be sent without waiting.
        for _ in range(20):
            pings.send(stream_batch(run))
        pings.close_send()
        for number in range(4, 24):
            want_acknowledged(pings.receive(), number)
        want("the end of the stream", pings.receive(), None)
    want("count", run.count(), 23 * 3 * len(compressions))


def stream_deadline(run):
    """A stream runs into its deadline; what it acknowledged is recorded. A slow machine acknowledges nothing in time."""
    started = time.monotonic()
    pings = run.api.stream(timeout=0.7)
    pings.send(stream_batch(run))
    acknowledged = 0

    def receive_all():
        nonlocal acknowledged
        while answer := pings.receive():
            want_acknowledged(answer, 1)
            acknowledged += answer.accepted

    run.fails("deadline_exceeded", receive_all)
    assert time.monotonic() - started < SLOW, "too late"
    assert run.count() >= acknowledged, "an acknowledged batch is missing"


def verify(run):
    answer = run.api.verify(run.messages.VerifyRequest())
    assert answer.exact and answer.rows > 0, answer


CASES = [
    ("unary", unary),
    ("a count of 0", zero),
    ("invalid input", invalid_input),
    ("far too large", far_too_large),
    ("unknown method", unknown_method),
    ("retry", retry),
    ("deadline", deadline),
    ("cancellation", cancellation),
    ("batch", batch),
    ("compressed responses", compressed_responses),
    ("compressed requests", compressed_requests),
    ("GET", get),
    ("stream", stream),
    ("stream under a deadline", stream_deadline),
    ("verify", verify),
]


def applies(client, check):
    return {cancellation: client.can_cancel, get: client.can_get}.get(check, True)


def run_all(language, clients):
    """Runs every case on every client, prints a line for each, and exits."""
    passed = failed = 0
    for client in clients:
        for name, check in CASES:
            if not applies(client, check):
                continue
            started = time.monotonic()
            try:
                check(Run(client))
                passed += 1
                print(f"ok     {language} {client.name}: {name} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)
            except Exception as error:
                failed += 1
                print(f"FAILED {language} {client.name}: {name}: {str(error) or type(error).__name__}", flush=True)
                if not isinstance(error, AssertionError):
                    traceback.print_exc()
    print(f"{language}: {passed} passed, {failed} failed")
    sys.exit(failed > 0 or passed == 0)
