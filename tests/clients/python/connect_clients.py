"""Checks connectrpc, asynchronous and synchronous, in its three protocols: `connect_clients.py SERVER_URL ADMIN_URL`."""

import asyncio
import queue
import sys
from types import SimpleNamespace

import loop
from cases import Client, run_all
from connectrpc.compression.gzip import GzipCompression
from connectrpc.compression.zstd import ZstdCompression
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.rpc.error_details_pb import BadRequest, ErrorInfo
from ping.v1 import admin_connect, events_connect, service_connect, sources_connect
from ping.v1 import admin_pb, events_pb, service_pb, sources_pb
from pyqwest import Client as HTTPClient
from pyqwest import HTTPTransport, HTTPVersion

SERVER, ADMIN = sys.argv[1:]
MESSAGES = SimpleNamespace(
    **vars(service_pb) | vars(events_pb) | vars(sources_pb) | vars(admin_pb) | {"STEP_MINUTE": sources_pb.Step.MINUTE}
)
COMPRESSIONS = {"gzip": GzipCompression(), "zstd": ZstdCompression()}
UNKNOWN = MethodInfo(
    name="Pong",
    service_name="ping.v1.PingService",
    input=service_pb.PingRequest,
    output=service_pb.PingResponse,
    idempotency_level=IdempotencyLevel.UNKNOWN,
    stream_type=StreamType.UNARY,
)


class Connect(Client):
    messages = MESSAGES
    compressions = tuple(COMPRESSIONS)

    def __init__(self, name, protocol=ProtocolType.CONNECT, http2=False, sync=False):
        self.name, self.sync = f"connectrpc {name}", sync
        self.options = {"protocol": protocol}
        if http2:
            self.options["http_client"] = HTTPClient(HTTPTransport(http_version=HTTPVersion.HTTP2))
        self.can_get = protocol == ProtocolType.CONNECT
        self.can_cancel = not sync

    def open(self, compression=None):
        options = dict(self.options)
        if compression:
            chosen = COMPRESSIONS[compression]
            options |= {"send_compression": chosen, "accept_compression": [chosen]}
        return Api(self.sync, options)


class Api:
    errors = ConnectError

    def __init__(self, sync, options):
        kind = "ClientSync" if sync else "Client"
        self.finish = (lambda answer: answer) if sync else loop.wait
        self.stream_kind = SyncStream if sync else Stream
        self.pings = getattr(service_connect, "PingService" + kind)(SERVER, **options)
        self.events = getattr(events_connect, "EventService" + kind)(SERVER, **options)
        self.sources = getattr(sources_connect, "SourceService" + kind)(SERVER, **options)
        self.admin = getattr(admin_connect, "AdminService" + kind)(ADMIN, **options)

    def ping(self, request):
        return self.finish(self.pings.ping(request))

    def ping_count(self, request, timeout=None):
        return self.finish(self.pings.ping_count(request, timeout_ms=timeout and int(timeout * 1000)))

    def get_count(self, request):
        return self.finish(self.pings.ping_count(request, use_get=True))

    def cancelled_count(self, request, seconds):
        return loop.cancelled(self.pings.ping_count(request), seconds)

    def record_batch(self, request):
        return self.finish(self.events.record_batch(request))

    def series(self, request):
        return self.finish(self.sources.series(request))

    def verify(self, request):
        return self.finish(self.admin.verify(request))

    def unknown(self, request):
        return self.finish(self.pings.execute_unary(request=request, method=UNKNOWN))

    def stream(self, timeout=None):
        return self.stream_kind(self.pings, timeout and int(timeout * 1000))

    @staticmethod
    def code(error):
        return error.code.value

    @staticmethod
    def bad_request(error):
        return detail(error, BadRequest)

    @staticmethod
    def error_info(error):
        return detail(error, ErrorInfo)


def detail(error, message):
    names = [detail.type_name for detail in error.details]
    assert message.desc().type_name in names, f"no {message.desc().type_name} in {names}"
    return error.details[names.index(message.desc().type_name)].value(message)


class Stream:
    """A StreamPings call of the asynchronous client."""

    def __init__(self, pings, timeout_ms):
        self.batches = asyncio.Queue()
        self.answers = pings.stream_pings(self.sent(), timeout_ms=timeout_ms)

    async def sent(self):
        while (batch := await self.batches.get()) is not None:
            yield batch

    def send(self, batch):
        loop.wait(self.batches.put(batch))

    def receive(self):
        return loop.wait(anext(self.answers, None))

    def close_send(self):
        self.send(None)


class SyncStream:
    """A StreamPings call of the synchronous client."""

    def __init__(self, pings, timeout_ms):
        self.batches = queue.Queue()
        self.answers = pings.stream_pings(iter(self.batches.get, None), timeout_ms=timeout_ms)

    def send(self, batch):
        self.batches.put(batch)

    def receive(self):
        return next(self.answers, None)

    def close_send(self):
        self.batches.put(None)


run_all(
    "python",
    [
        Connect("Connect HTTP/1.1"),
        Connect("Connect HTTP/1.1, synchronous", sync=True),
        Connect("Connect h2c", http2=True),
        Connect("gRPC h2c", ProtocolType.GRPC, http2=True),
        Connect("gRPC-Web HTTP/1.1", ProtocolType.GRPC_WEB),
        Connect("gRPC-Web h2c", ProtocolType.GRPC_WEB, http2=True),
    ],
)
