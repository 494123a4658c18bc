// The part of the API that the cases use, in the form that all clients can have.

import type { MessageInitShape } from "@bufbuild/protobuf";
import type { VerifyRequestSchema } from "../gen/ping/v1/admin_pb.js";
import type { RecordBatchRequestSchema } from "../gen/ping/v1/events_pb.js";
import type {
  PingCountRequestSchema,
  PingRequestSchema,
  StreamPingsRequestSchema,
} from "../gen/ping/v1/service_pb.js";
import type { SeriesRequestSchema } from "../gen/ping/v1/sources_pb.js";

export type Ping = MessageInitShape<typeof PingRequestSchema>;
export type Query = MessageInitShape<typeof PingCountRequestSchema>;
export type Events = MessageInitShape<typeof RecordBatchRequestSchema>;
export type Batch = MessageInitShape<typeof StreamPingsRequestSchema>;
export type SeriesQuery = MessageInitShape<typeof SeriesRequestSchema>;
export type VerifyQuery = MessageInitShape<typeof VerifyRequestSchema>;

/** How a call ends early. */
export interface Ends {
  timeoutMs?: number;
  cancelAfterMs?: number;
}

// Clients differ in the type of 64-bit numbers.
type Int64 = bigint | string;

export interface Refused {
  index: number;
  code: string;
}

export interface Acknowledged {
  batches: Int64;
  accepted: Int64;
  refused: Refused[];
}

export interface Api {
  ping(request: Ping): Promise<{ eventId?: string; token?: string }>;
  pingCount(request: Query, ends?: Ends): Promise<{ pingCount: Int64; asOfMs: Int64; exact: boolean }>;
  recordBatch(request: Events): Promise<{ accepted: Int64; refused: Refused[] }>;
  series(request: SeriesQuery): Promise<{ points: unknown[] }>;
  verify(request: VerifyQuery): Promise<{ exact: boolean; rows: Int64 }>;
  unknown(request: Ping): Promise<unknown>;
  stream(ends?: Ends): Stream;
  /** The first answer of the health service's stream. */
  watch(service: string): Promise<unknown>;
  /** How the last response was compressed; undefined if the client hides that. */
  compression(): string | undefined;
}

/** A StreamPings call. */
export interface Stream {
  send(batch: Batch): void;
  closeSend(): void;
  /** The next acknowledgement, undefined at the end. */
  receive(): Promise<Acknowledged | undefined>;
}

/** What an error says, with Connect's names of codes. */
export interface Failure {
  code: string;
  /** The first field in BadRequest. */
  field?: string;
  /** The reason in ErrorInfo. */
  reason?: string;
}

/** One client under test. */
export interface Client {
  name: string;
  /** Connects, sending with a compression or by GET if the client can. */
  open(options?: { compression?: string; get?: boolean }): Api;
  failure(error: unknown): Failure;
  compressions: string[];
  /** What its large responses are compressed with by default. */
  response?: string;
  canGet: boolean;
  /** How it refuses streams in both directions, if it does. */
  refusesStreams?: string;
}
