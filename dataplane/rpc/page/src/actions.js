// What the reader can do: send a test ping, and copy the command that does the same.

import { element, setText } from "./dom.js";
import { duration } from "./format.js";
import { call } from "./rpc.js";
import { token } from "./session.js";

/** The source of test pings. */
const SOURCE = "test";

async function sendTestPing() {
  const button = /** @type {HTMLButtonElement} */ (element("test-ping"));
  button.disabled = true;
  setText("test-note", "Sending…");
  try {
    const started = performance.now();
    const receipt = await call("PingService/Ping", { source: SOURCE, receipt: true });
    const acknowledged = `Acknowledged after ${duration(performance.now() - started)}`;
    setText("test-note", `${acknowledged}.`);
    // Waits until the event is in the count.
    await call("PingService/PingCount", { after: receipt.token });
    setText("test-note", `${acknowledged}, counted after ${duration(performance.now() - started)}.`);
  } catch (error) {
    setText("test-note", `Failed: ${/** @type {Error} */ (error).message}`);
  } finally {
    button.disabled = false;
  }
}

export function showCommand() {
  const url = new URL("ping.v1.PingService/Ping", document.baseURI);
  const authorization = token() ? ` \\\n  -H "Authorization: Bearer $TOKEN"` : "";
  const body = `{"source": "${SOURCE}"}`;
  setText("command", `curl -X POST ${url} \\\n  -H "Content-Type: application/json"${authorization} \\\n  -d '${body}'`);
}

async function copyCommand() {
  const text = element("command").textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    setText("copy-note", "Copied.");
  } catch {
    // Without TLS, browsers refuse the clipboard to a page.
    getSelection()?.selectAllChildren(element("command"));
    setText("copy-note", "Selected; press Ctrl+C to copy.");
  }
}

export function offerActions() {
  element("test-ping").addEventListener("click", () => void sendTestPing());
  element("copy").addEventListener("click", () => void copyCommand());
  showCommand();
}
