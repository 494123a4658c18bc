// Counts one event, and sends it again after a failure: it is counted once. `node count.js URL [EVENT_ID]`

import { setTimeout as sleep } from "node:timers/promises";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { v7 as uuidv7 } from "uuid";

import { PingService } from "../gen/ping/v1/service_pb.js";

const RETRYABLE = [Code.Unavailable, Code.DeadlineExceeded, Code.ResourceExhausted];

// Without an id of its own, an event that is sent twice is two events.
const [url, eventId = uuidv7()] = process.argv.slice(2);
const pings = createClient(PingService, createGrpcTransport({ baseUrl: url! }));
for (let attempt = 0; ; attempt++) {
  try {
    await pings.ping({ eventId, source: "shop-7", kind: "sale" }, { timeoutMs: 5_000 });
    break;
  } catch (error) {
    if (!RETRYABLE.includes(ConnectError.from(error).code) || attempt === 9) throw error;
    await sleep(Math.min(100 * 2 ** attempt, 2_000));
  }
}
console.log(String((await pings.pingCount({ strong: true })).pingCount));
