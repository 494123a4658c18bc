"""Checks grpcio, synchronous and asynchronous: `grpc_clients.py SERVER_URL ADMIN_URL`."""

import queue
import sys
import threading
from types import SimpleNamespace

import grpc
import loop
from cases import Client, run_all
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from ping.v1 import admin_pb2, admin_pb2_grpc, events_pb2, events_pb2_grpc
from ping.v1 import service_pb2, service_pb2_grpc, sources_pb2, sources_pb2_grpc

SERVER, ADMIN = (url.removeprefix("http://") for url in sys.argv[1:])
MESSAGES = SimpleNamespace(**vars(service_pb2) | vars(events_pb2) | vars(sources_pb2) | vars(admin_pb2))
COMPRESSIONS = {"gzip": grpc.Compression.Gzip}


class Grpcio(Client):
    messages = MESSAGES
    compressions = tuple(COMPRESSIONS)

    def __init__(self, name, asynchronous):
        self.name, self.asynchronous = name, asynchronous

    def open(self, compression=None):
        compression = COMPRESSIONS.get(compression)
        if self.asynchronous:
            return AsyncApi(lambda address: loop.wait(opened(address, compression)))
        return Api(lambda address: grpc.insecure_channel(address, compression=compression))


async def opened(address, compression):
    # A channel belongs to the event loop that it is created in.
    return grpc.aio.insecure_channel(address, compression=compression)


class Api:
    errors = grpc.RpcError

    def __init__(self, connect):
        channel = connect(SERVER)
        self.pings = service_pb2_grpc.PingServiceStub(channel)
        self.events = events_pb2_grpc.EventServiceStub(channel)
        self.sources = sources_pb2_grpc.SourceServiceStub(channel)
        self.admin = admin_pb2_grpc.AdminServiceStub(connect(ADMIN))
        self.pong = channel.unary_unary(
            "/ping.v1.PingService/Pong",
            request_serializer=service_pb2.PingRequest.SerializeToString,
            response_deserializer=service_pb2.PingResponse.FromString,
        )

    def finish(self, answer):
        return answer

    def ping(self, request):
        return self.finish(self.pings.Ping(request))

    def ping_count(self, request, timeout=None):
        return self.finish(self.pings.PingCount(request, timeout=timeout))

    def cancelled_count(self, request, seconds):
        call = self.pings.PingCount.future(request)
        threading.Timer(seconds, call.cancel).start()
        try:
            return call.result()
        except grpc.FutureCancelledError as error:
            raise Cancelled(call.code()) from error

    def record_batch(self, request):
        return self.finish(self.events.RecordBatch(request))

    def series(self, request):
        return self.finish(self.sources.Series(request))

    def verify(self, request):
        return self.finish(self.admin.Verify(request))

    def unknown(self, request):
        return self.finish(self.pong(request))

    def stream(self, timeout=None):
        return Stream(self.pings, timeout)

    @staticmethod
    def code(error):
        name = error.code().name.lower()
        return "canceled" if name == "cancelled" else name

    @staticmethod
    def bad_request(error):
        return detail(error, BadRequest())

    @staticmethod
    def error_info(error):
        return detail(error, ErrorInfo())


class Cancelled(grpc.RpcError):
    """A call that its caller cancelled."""

    def __init__(self, code):
        self.code = lambda: code


def detail(error, message):
    status = rpc_status.from_call(error)
    assert status is not None, f"no details in {error}"
    assert any(packed.Unpack(message) for packed in status.details), f"no {message.DESCRIPTOR.full_name} in {status}"
    return message


class Stream:
    """A StreamPings call of the synchronous client."""

    def __init__(self, pings, timeout):
        self.batches = queue.Queue()
        self.answers = pings.StreamPings(iter(self.batches.get, None), timeout=timeout)

    def send(self, batch):
        self.batches.put(batch)

    def receive(self):
        return next(self.answers, None)

    def close_send(self):
        self.batches.put(None)


class AsyncApi(Api):
    def finish(self, answer):
        return loop.wait(answer)

    def cancelled_count(self, request, seconds):
        async def count():
            call = self.pings.PingCount(request)
            loop.LOOP.call_later(seconds, call.cancel)
            code = await call.code()
            if code is grpc.StatusCode.CANCELLED:
                raise Cancelled(code)
            return await call

        return loop.wait(count())

    def stream(self, timeout=None):
        return AsyncStream(self.pings, timeout)


class AsyncStream:
    """A StreamPings call of the asynchronous client."""

    def __init__(self, pings, timeout):
        self.call = pings.StreamPings(timeout=timeout)

    def send(self, batch):
        loop.wait(self.call.write(batch))

    def receive(self):
        answer = loop.wait(self.call.read())
        return None if answer is grpc.aio.EOF else answer

    def close_send(self):
        loop.wait(self.call.done_writing())


run_all("python", [Grpcio("grpcio", asynchronous=False), Grpcio("grpcio, asynchronous", asynchronous=True)])
