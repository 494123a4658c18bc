// Checks connect-node, connect-web and grpc-js against a server: `main.js SERVER_URL ADMIN_URL PROTO_FOLDER...`.
// Prints a line per client and case.

import { Run, cases } from "./cases.js";
import { connectClients } from "./connect.js";
import { grpcClient } from "./grpc.js";

const [server, admin, ...folders] = process.argv.slice(2);
if (!server || !admin || folders.length === 0) {
  console.error("usage: main.js SERVER_URL ADMIN_URL PROTO_FOLDER...");
  process.exit(2);
}

let passed = 0;
let failed = 0;
for (const client of [...connectClients([server, admin]), grpcClient([server, admin], folders)]) {
  for (const { name, check, applies } of cases) {
    if (applies && !applies(client)) continue;
    const started = Date.now();
    try {
      await check(new Run(client));
      passed++;
      console.log(`ok     typescript ${client.name}: ${name} (${Date.now() - started} ms)`);
    } catch (error) {
      failed++;
      const [summary, ...details] = (error instanceof Error ? error.stack! : String(error)).split("\n");
      console.log(`FAILED typescript ${client.name}: ${name}: ${summary}`);
      console.error(details.join("\n"));
    }
  }
}
console.log(`typescript: ${passed} passed, ${failed} failed`);
// Open connections keep Node running.
process.exit(failed > 0 || passed === 0 ? 1 : 0);
