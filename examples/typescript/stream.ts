// Streams events. After a disconnect it continues: what was not acknowledged is sent again, with the same ids.
// `node stream.js URL EVENTS`

import { PassThrough } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { v7 as uuidv7 } from "uuid";

import { EventService, type RecordBatchRequest, RecordBatchRequestSchema } from "../gen/ping/v1/events_pb.js";
import { PingService } from "../gen/ping/v1/service_pb.js";

const BATCH_EVENTS = 100;
// Batches that may be unacknowledged at a time.
const WINDOW = 10;
// Sending again does not help.
const FINAL = [Code.InvalidArgument, Code.Unauthenticated, Code.PermissionDenied, Code.FailedPrecondition, Code.Unimplemented];

// Your events. An event keeps its id, however often it is sent.
function* newBatches(total: number): Generator<RecordBatchRequest> {
  for (let sent = 0; sent < total; sent += BATCH_EVENTS) {
    const length = Math.min(BATCH_EVENTS, total - sent);
    const events = Array.from({ length }, () => ({ eventId: uuidv7(), source: "shop-7", kind: "sale" }));
    yield create(RecordBatchRequestSchema, { events });
  }
}

const [url, total] = process.argv.slice(2);
const transport = createGrpcTransport({ baseUrl: url! });
const batches = newBatches(Number(total));
const unacknowledged: RecordBatchRequest[] = [];

function next(): RecordBatchRequest | undefined {
  const batch = batches.next();
  if (batch.done) return undefined;
  unacknowledged.push(batch.value);
  return batch.value;
}

// Sends and acknowledges until nothing is left, or the connection breaks.
async function stream(): Promise<void> {
  const requests = new PassThrough({ objectMode: true });
  for (const batch of unacknowledged) requests.write(batch);
  for await (const answer of createClient(EventService, transport).recordStream(requests)) {
    if (answer.refused.length > 0) throw new Error(`refused: ${answer.refused[0]!.message}`);
    unacknowledged.shift();
    const batch = next();
    if (batch) requests.write(batch);
    else if (unacknowledged.length === 0) requests.end();
  }
}

while (unacknowledged.length < WINDOW && next());
for (let pause = 100; unacknowledged.length > 0; pause = Math.min(2 * pause, 2_000)) {
  const before = unacknowledged[0];
  try {
    await stream();
  } catch (error) {
    if (!(error instanceof ConnectError) || FINAL.includes(error.code)) throw error;
    console.error(`disconnected: ${error.message}; ${unacknowledged.length} batches are sent again`);
    if (unacknowledged[0] !== before) pause = 100;
    await sleep(pause);
  }
}
console.log(String((await createClient(PingService, transport).pingCount({ strong: true })).pingCount));
