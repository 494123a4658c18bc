// The cases that every client has to pass.

import assert from "node:assert/strict";
import { randomBytes, randomInt, randomUUID } from "node:crypto";
import { Step } from "../gen/ping/v1/sources_pb.js";
import type { Acknowledged, Api, Batch, Client, Failure, Ping, Query } from "./api.js";

// A token of a writer that does not exist.
const neverCounted = "999.0.1";
// Longer than any call should take, even on a busy machine, and shorter than the server waits for a token.
const slowMs = 8000;
const rangeMs = 1000n;

/** One case on one client, with a time range and a source of its own, so that its counts are exact. */
export class Run {
  api: Api;
  source = `typescript-${randomUUID()}`;
  // From 2001 on, for 20 years.
  start = 978_307_200_000n + BigInt(randomInt(20 * 365 * 24 * 3600)) * 1000n;

  constructor(readonly client: Client) {
    this.api = client.open();
  }

  event(offset = 0n, fields: Partial<Ping> = {}): Ping {
    return { timestampMs: this.start + offset, source: this.source, ...fields } as Ping;
  }

  query(fields: Partial<Query> = {}): Query {
    return { timeRange: { start: this.start, end: this.start + rangeMs }, ...fields } as Query;
  }

  async count(): Promise<number> {
    return Number((await this.api.pingCount(this.query({ strong: true }))).pingCount);
  }

  /** Waits for a call that must fail with this code. */
  async fails(code: string, call: Promise<unknown>): Promise<Failure> {
    const failed = await call.then(
      (answer) => assert.fail(`no error, want ${code}: ${String(answer)}`),
      (error: unknown) => ({ error, ...this.client.failure(error) }),
    );
    assert.equal(failed.code, code, `got ${failed.code} (${String(failed.error)}), want ${code}`);
    return failed;
  }

  async inTime(work: () => Promise<unknown>) {
    const started = Date.now();
    await work();
    assert(Date.now() - started < slowMs, "too late");
  }
}

async function unary(run: Run) {
  const receipt = await run.api.ping(run.event(0n, { receipt: true }));
  assert.match(receipt.eventId ?? "", /^[0-9a-f-]{36}$/);
  const answer = await run.api.pingCount(run.query({ after: receipt.token }));
  assert.deepEqual([Number(answer.pingCount), answer.exact], [1, true]);
  const silent = await run.api.ping(run.event(1n));
  assert(!silent.eventId && !silent.token, "a receipt that was not requested");
  assert.equal(await run.count(), 2);
}

async function zero(run: Run) {
  const answer = await run.api.pingCount(run.query());
  assert.equal(Number(answer.pingCount), 0);
  assert(Number(answer.asOfMs) > 0);
}

async function invalidInput(run: Run) {
  const failed = await run.fails("invalid_argument", run.api.ping({ timestampMs: -1n }));
  assert.equal(failed.field, "timestamp_ms", "field in BadRequest");
  await run.fails("invalid_argument", run.api.pingCount({ after: "yesterday" }));
  await run.fails("resource_exhausted", run.api.ping({ source: noise(100_000) }));
  await run.api.ping(run.event());
  assert.equal(await run.count(), 1);
}

/** Text that stays long when it is compressed. */
function noise(length: number): string {
  return randomBytes(length / 2).toString("hex");
}

/** More than the server decodes of one event. Neither this call nor the next one may see a broken connection. */
async function farTooLarge(run: Run) {
  await run.fails("resource_exhausted", run.api.ping({ source: noise(1_000_000) }));
  await run.api.ping(run.event());
  assert.equal(await run.count(), 1);
}

async function unknownMethod(run: Run) {
  await run.fails("unimplemented", run.api.unknown(run.event()));
}

async function retry(run: Run) {
  const event = run.event(0n, { eventId: randomUUID(), receipt: true });
  for (let attempt = 0; attempt < 2; attempt++) {
    assert.equal((await run.api.ping(event)).eventId, event.eventId);
  }
  assert.equal(await run.count(), 1);
  const failed = await run.fails("already_exists", run.api.ping(run.event(1n, { eventId: event.eventId })));
  assert.equal(failed.reason, "EVENT_ID_CONFLICT", "reason in ErrorInfo");
  assert.equal(await run.count(), 1);
}

async function deadline(run: Run) {
  await run.inTime(() => run.fails("deadline_exceeded", run.api.pingCount({ after: neverCounted }, { timeoutMs: 300 })));
  assert.equal(await run.count(), 0);
}

async function cancellation(run: Run) {
  await run.inTime(() => run.fails("canceled", run.api.pingCount({ after: neverCounted }, { cancelAfterMs: 100 })));
  assert.equal(await run.count(), 0);
}

function events(run: Run, count: number) {
  return Array.from({ length: count }, (_, offset) => run.event(BigInt(offset) % rangeMs));
}

async function batch(run: Run) {
  const request = events(run, 3);
  request[1]!.timestampMs = -1n;
  const { accepted, refused } = await run.api.recordBatch({ events: request as object[] });
  assert.deepEqual([Number(accepted), refused.length], [2, 1]);
  assert.deepEqual([refused[0]!.index, refused[0]!.code], [1, "invalid_argument"]);
  assert.equal(await run.count(), 2);
}

async function compressedResponses(run: Run) {
  const end = BigInt(Math.floor(Date.now() / 60_000) * 60_000);
  const { points } = await run.api.series({ timeRange: { start: end - 60_000_000n, end }, step: Step.MINUTE });
  assert.equal(points.length, 1000);
  assert.equal(run.api.compression(), run.client.response, "compression");
}

async function compressedRequests(run: Run) {
  for (const [index, compression] of run.client.compressions.entries()) {
    run.api = run.client.open({ compression });
    assert.equal(Number((await run.api.recordBatch({ events: events(run, 500) as object[] })).accepted), 500);
    assert.equal(await run.count(), 500 * (index + 1));
    // An error is as readable as without compression.
    await run.fails("invalid_argument", run.api.ping({ timestampMs: -1n }));
  }
}

async function get(run: Run) {
  run.api = run.client.open({ get: true });
  await run.api.ping(run.event());
  assert.equal(await run.count(), 1);
  await run.fails("invalid_argument", run.api.pingCount({ after: "yesterday" }));
}

/** Three new events and one that is refused. */
function streamBatch(run: Run): Batch {
  return { pings: [run.event(), run.event(1n), { timestampMs: -1n }, run.event(2n)] as object[] };
}

function assertAcknowledged(answer: Acknowledged | undefined, batches: number) {
  assert(answer, "the stream ended");
  assert.deepEqual([Number(answer.batches), Number(answer.accepted)], [batches, 3]);
  assert.deepEqual(answer.refused.map(({ index, code }) => [index, code]), [[2, "invalid_argument"]]);
}

async function stream(run: Run) {
  const compressions = [undefined, ...run.client.compressions];
  for (const compression of compressions) {
    run.api = run.client.open({ compression });
    const pings = run.api.stream();
    // Each batch is acknowledged while the stream is open.
    for (let batches = 1; batches <= 3; batches++) {
      pings.send(streamBatch(run));
      assertAcknowledged(await pings.receive(), batches);
    }
    // And many may be sent without waiting.
    for (let batches = 4; batches <= 23; batches++) pings.send(streamBatch(run));
    pings.closeSend();
    for (let batches = 4; batches <= 23; batches++) assertAcknowledged(await pings.receive(), batches);
    assert.equal(await pings.receive(), undefined, "the end of the stream");
  }
  assert.equal(await run.count(), 23 * 3 * compressions.length);
}

/** A stream runs into its deadline; what it acknowledged is recorded. A slow machine acknowledges nothing in time. */
async function streamDeadline(run: Run) {
  let acknowledged = 0;
  await run.inTime(async () => {
    const pings = run.api.stream({ timeoutMs: 700 });
    pings.send(streamBatch(run));
    const receiveAll = async () => {
      for (let answer = await pings.receive(); answer; answer = await pings.receive()) {
        assertAcknowledged(answer, 1);
        acknowledged += Number(answer.accepted);
      }
    };
    await run.fails("deadline_exceeded", receiveAll());
  });
  assert((await run.count()) >= acknowledged, "an acknowledged batch is missing");
}

/** There is a readable error where a client cannot stream in both directions. */
async function refusedStream(run: Run) {
  await run.inTime(async () => {
    const pings = run.api.stream({ timeoutMs: slowMs });
    pings.send(streamBatch(run));
    pings.closeSend();
    await run.fails(run.client.refusesStreams!, pings.receive());
  });
}

async function serverStream(run: Run) {
  assert.equal(await run.api.watch("ping.v1.PingService"), "SERVING");
}

async function verify(run: Run) {
  const { exact, rows } = await run.api.verify({});
  assert(exact && Number(rows) > 0);
}

const streams = (client: Client) => client.refusesStreams === undefined;

interface Case {
  name: string;
  check: (run: Run) => Promise<void>;
  applies?: (client: Client) => boolean;
}

export const cases: Case[] = [
  { name: "unary", check: unary },
  { name: "a count of 0", check: zero },
  { name: "invalid input", check: invalidInput },
  { name: "far too large", check: farTooLarge },
  { name: "unknown method", check: unknownMethod },
  { name: "retry", check: retry },
  { name: "deadline", check: deadline },
  { name: "cancellation", check: cancellation },
  { name: "batch", check: batch },
  { name: "compressed responses", check: compressedResponses },
  { name: "compressed requests", check: compressedRequests, applies: (client) => client.compressions.length > 0 },
  { name: "GET", check: get, applies: (client) => client.canGet },
  { name: "stream", check: stream, applies: streams },
  { name: "stream under a deadline", check: streamDeadline, applies: streams },
  { name: "refused stream", check: refusedStream, applies: (client) => !streams(client) },
  { name: "server stream", check: serverStream },
  { name: "verify", check: verify },
];
