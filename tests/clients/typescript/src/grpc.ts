// grpc-js, with messages that @grpc/proto-loader reads from the proto files.

import { fromBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { BadRequestSchema, ErrorInfoSchema } from "../gen/google/rpc/error_details_pb.js";
import { StatusSchema } from "../gen/google/rpc/status_pb.js";
import type { Acknowledged, Api, Client, Ends, Failure, Stream } from "./api.js";
import { Queue } from "./queue.js";

type Method = (request: unknown, options: object, done: (error: unknown, answer: never) => void) => grpc.ClientUnaryCall;
type Service = grpc.Client & Record<string, Method>;

export function grpcClient([server, admin]: string[], folders: string[]): Client {
  const files = ["service", "events", "sources", "admin"].map((name) => `ping/v1/${name}.proto`);
  const definition = loadSync([...files, "grpc/health/v1/health.proto"], {
    includeDirs: folders,
    longs: String,
    enums: String,
    defaults: true,
    oneofs: true,
  });
  const loaded = grpc.loadPackageDefinition(definition) as unknown as Loaded;
  const services = { ...loaded.ping.v1, ...loaded.grpc.health.v1 };
  return {
    name: "grpc-js",
    compressions: ["gzip"],
    canGet: false,
    failure,
    open({ compression } = {}) {
      const options = compression === undefined ? {} : { "grpc.default_compression_algorithm": grpc.compressionAlgorithms.gzip };
      const connect = (name: string, url: string) =>
        new services[name]!(new URL(url).host, grpc.credentials.createInsecure(), options);
      return api((name) => connect(name, name === "AdminService" ? admin! : server!));
    },
  };
}

interface Loaded {
  ping: { v1: Record<string, Constructor> };
  grpc: { health: { v1: Record<string, Constructor> } };
}

type Constructor = new (address: string, credentials: grpc.ChannelCredentials, options: object) => Service;

function api(connect: (service: string) => Service): Api {
  const pings = connect("PingService");
  const events = connect("EventService");
  const sources = connect("SourceService");
  const verifier = connect("AdminService");
  const health = connect("Health");
  const { requestSerialize, responseDeserialize } = (pings.constructor as unknown as { service: grpc.ServiceDefinition }).service.Ping!;
  return {
    ping: (request) => call(pings, "Ping", request),
    pingCount: (request, ends) => call(pings, "PingCount", request, ends),
    recordBatch: (request) => call(events, "RecordBatch", request),
    series: (request) => call(sources, "Series", request),
    verify: (request) => call(verifier, "Verify", request),
    unknown: (request) =>
      new Promise((resolve, reject) => {
        pings.makeUnaryRequest("/ping.v1.PingService/Pong", requestSerialize, responseDeserialize, plain(request), (error, answer) =>
          error ? reject(error) : resolve(answer),
        );
      }),
    stream: (ends) => grpcStream(pings, ends),
    watch: (service) =>
      new Promise((resolve, reject) => {
        const watch = health.Watch as unknown as (request: unknown) => grpc.ClientReadableStream<{ status: string }>;
        const stream = watch.call(health, { service });
        stream.once("data", ({ status }) => {
          stream.cancel();
          resolve(status);
        });
        stream.on("error", reject);
      }),
    compression: () => undefined,
  };
}

/** The result of a unary call. */
function call<A>(service: Service, method: string, request: unknown, { timeoutMs, cancelAfterMs }: Ends = {}): Promise<A> {
  return new Promise((resolve, reject) => {
    const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
    const call = service[method]!(plain(request), options, (error, answer) => (error ? reject(error) : resolve(answer)));
    if (cancelAfterMs !== undefined) setTimeout(() => call.cancel(), cancelAfterMs);
  });
}

/** The loader takes 64-bit numbers as text. */
function plain(request: unknown): unknown {
  return JSON.parse(JSON.stringify(request, (_, value) => (typeof value === "bigint" ? String(value) : value)));
}

function grpcStream(pings: Service, { timeoutMs }: Ends = {}): Stream {
  const open = pings.StreamPings as unknown as (this: Service, options: object) => grpc.ClientDuplexStream<unknown, Acknowledged>;
  const stream = open.call(pings, timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs });
  const answers = new Queue<Acknowledged | Error>();
  stream.on("data", (answer: Acknowledged) => answers.push(answer));
  stream.on("error", (error: Error) => answers.push(error));
  stream.on("end", () => answers.end());
  const received = answers[Symbol.asyncIterator]();
  return {
    send: (batch) => stream.write(plain(batch)),
    closeSend: () => stream.end(),
    async receive() {
      const { done, value } = await received.next();
      if (value instanceof Error) throw value;
      return done ? undefined : value;
    },
  };
}

function failure(error: unknown): Failure {
  const { code, metadata } = error as grpc.ServiceError;
  const name = grpc.status[code]?.toLowerCase();
  if (name === undefined) throw error;
  const [packed] = metadata?.get("grpc-status-details-bin") ?? [];
  const details = packed instanceof Uint8Array ? fromBinary(StatusSchema, packed).details : [];
  return {
    code: name === "cancelled" ? "canceled" : name,
    field: details.map((any) => anyUnpack(any, BadRequestSchema)).find(Boolean)?.fieldViolations[0]?.field,
    reason: details.map((any) => anyUnpack(any, ErrorInfoSchema)).find(Boolean)?.reason,
  };
}
