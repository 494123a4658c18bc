// connect-node and connect-web.

import { type DescMessage, type DescMethodUnary } from "@bufbuild/protobuf";
import { type CallOptions, Code, ConnectError, type Transport, createClient } from "@connectrpc/connect";
import {
  compressionGzip,
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { Health, HealthCheckResponse_ServingStatus } from "../gen/grpc/health/v1/health_pb.js";
import { AdminService } from "../gen/ping/v1/admin_pb.js";
import { EventService } from "../gen/ping/v1/events_pb.js";
import { PingService } from "../gen/ping/v1/service_pb.js";
import { SourceService } from "../gen/ping/v1/sources_pb.js";
import type { Acknowledged, Api, Batch, Client, Ends, Failure, Ping, Stream } from "./api.js";
import { Queue } from "./queue.js";

interface Options {
  sendCompression?: typeof compressionGzip;
  useHttpGet?: boolean;
}

function connectClient(
  name: string,
  open: (baseUrl: string, options: Options) => Transport,
  [server, admin]: string[],
  more: Partial<Client> = {},
): Client {
  return {
    name,
    // Not Brotli, which connect-node also has and the server has not.
    compressions: ["gzip"],
    response: "gzip",
    canGet: false,
    failure,
    open({ compression, get } = {}) {
      const options: Options = {};
      if (compression !== undefined) options.sendCompression = compressionGzip;
      if (get) options.useHttpGet = true;
      return connectApi(open(server!, options), open(admin!, options));
    },
    ...more,
  };
}

function connectApi(transport: Transport, admin: Transport): Api {
  let compression: string | undefined;
  const pings = createClient(PingService, transport);
  const events = createClient(EventService, transport);
  const sources = createClient(SourceService, transport);
  const verifier = createClient(AdminService, admin);
  const health = createClient(Health, transport);
  const options = ({ timeoutMs, cancelAfterMs }: Ends = {}): CallOptions => ({
    timeoutMs,
    signal: cancelAfterMs === undefined ? undefined : cancelledAfter(cancelAfterMs),
    onHeader(headers) {
      compression = headers.get("content-encoding") ?? headers.get("grpc-encoding") ?? "";
    },
  });
  const pong = { ...PingService.method.ping, name: "Pong" } as DescMethodUnary<DescMessage, DescMessage>;
  return {
    ping: (request) => pings.ping(request, options()),
    pingCount: (request, ends) => pings.pingCount(request, options(ends)),
    recordBatch: (request) => events.recordBatch(request, options()),
    series: (request) => sources.series(request, options()),
    verify: (request) => verifier.verify(request, options()),
    unknown: (request: Ping) => transport.unary(pong, undefined, undefined, undefined, request as Record<string, unknown>),
    stream: (ends) => connectStream((batches) => pings.streamPings(batches, options(ends))),
    async watch(service) {
      for await (const { status } of health.watch({ service })) return HealthCheckResponse_ServingStatus[status];
      return undefined;
    },
    compression: () => compression,
  };
}

function cancelledAfter(ms: number): AbortSignal {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), ms);
  return controller.signal;
}

function connectStream(open: (batches: AsyncIterable<Batch>) => AsyncIterable<Acknowledged>): Stream {
  const batches = new Queue<Batch>();
  const answers = open(batches)[Symbol.asyncIterator]();
  return {
    send: (batch) => batches.push(batch),
    closeSend: () => batches.end(),
    async receive() {
      const { done, value } = await answers.next();
      return done ? undefined : value;
    },
  };
}

function failure(error: unknown): Failure {
  if (!(error instanceof ConnectError)) throw error;
  return {
    // As in the protocol: AlreadyExists is already_exists.
    code: Code[error.code]!.replace(/(?<!^)[A-Z]/g, "_$&").toLowerCase(),
    field: error.findDetails(BadRequestSchema)[0]?.fieldViolations[0]?.field,
    reason: error.findDetails(ErrorInfoSchema)[0]?.reason,
  };
}

export function connectClients(urls: string[]): Client[] {
  const node = (name: string, httpVersion: "1.1" | "2", open: (options: Options & NodeOptions) => Transport, more?: Partial<Client>) =>
    connectClient(
      `connect-node ${name} ${httpVersion === "2" ? "h2c" : "HTTP/1.1"}`,
      (baseUrl, options) => open({ baseUrl, httpVersion, ...options }),
      urls,
      more,
    );
  // As in a browser. connect-web itself refuses streams in both directions, which fetch cannot send.
  const browser = { compressions: [], refusesStreams: "unknown" };
  return [
    node("Connect", "1.1", createConnectTransport, { canGet: true }),
    node("Connect", "2", createConnectTransport, { canGet: true }),
    node("gRPC", "2", createGrpcTransport),
    node("gRPC-Web", "1.1", createGrpcWebTransport),
    node("gRPC-Web", "2", createGrpcWebTransport),
    connectClient("connect-web Connect", (baseUrl, options) => web.createConnectTransport({ baseUrl, ...options }), urls, {
      ...browser,
      canGet: true,
    }),
    connectClient("connect-web gRPC-Web", (baseUrl, options) => web.createGrpcWebTransport({ baseUrl, ...options }), urls, {
      ...browser,
      response: "",
    }),
  ];
}

interface NodeOptions {
  baseUrl: string;
  httpVersion: "1.1" | "2";
}
