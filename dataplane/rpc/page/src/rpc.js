// Calls of the API by Connect: JSON, and for streams JSON in envelopes.

import { token } from "./session.js";

const UNARY_TIMEOUT_MS = 10_000;
// The server sends something every second.
const SILENCE_TIMEOUT_MS = 4_000;
/** Flag of the envelope that ends a stream. */
const END = 2;
const PREFIX_BYTES = 5;

/** The server answered with an error. Any other error means that it could not be reached. */
export class ServerError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.code = code;
  }

  /** Whether the caller lacks credentials or a permission. Repeating the call does not help. */
  get isAccess() {
    return this.code === "unauthenticated" || this.code === "permission_denied";
  }
}

/**
 * @param {string} contentType
 * @param {BodyInit} body
 * @param {string} method
 * @param {AbortSignal} signal
 */
async function post(method, contentType, body, signal) {
  /** @type {Record<string, string>} */
  const headers = { "Content-Type": contentType, "Connect-Protocol-Version": "1" };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  // Relative, so that the page also works behind a proxy with a path prefix.
  const response = await fetch(`ping.v1.${method}`, { method: "POST", headers, body, signal, cache: "no-store" });
  if (!response.ok) throw await failure(response);
  return response;
}

/** @param {Response} response */
async function failure(response) {
  const body = await response.json().catch(() => ({}));
  if (body.code) return new ServerError(body.code, body.message ?? body.code);
  const code = { 401: "unauthenticated", 403: "permission_denied" }[response.status] ?? "unknown";
  return new ServerError(code, `HTTP ${response.status} ${response.statusText}`.trim());
}

/**
 * Calls a unary method such as `PingService/Ping`.
 * @param {string} method
 * @param {object} request
 * @returns {Promise<any>} its response
 */
export async function call(method, request) {
  const signal = AbortSignal.timeout(UNARY_TIMEOUT_MS);
  return (await post(method, "application/json", JSON.stringify(request), signal)).json();
}

/**
 * Reads a stream until it ends, fails, is silent for too long, or `signal`.
 * @param {string} method
 * @param {object} request
 * @param {(message: any) => void} onMessage
 * @param {AbortSignal} signal
 */
export async function stream(method, request, onMessage, signal) {
  const ended = new AbortController();
  let timer = setTimeout(() => ended.abort(), SILENCE_TIMEOUT_MS);
  try {
    const either = AbortSignal.any([signal, ended.signal]);
    const response = await post(method, "application/connect+json", envelope(request), either);
    const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
    let buffer = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => ended.abort(), SILENCE_TIMEOUT_MS);
      buffer = take(joined(buffer, value), onMessage);
    }
  } finally {
    clearTimeout(timer);
    // After an error here, the server must not go on sending.
    ended.abort();
  }
}

/** @param {object} message */
function envelope(message) {
  const json = new TextEncoder().encode(JSON.stringify(message));
  const bytes = new Uint8Array(PREFIX_BYTES + json.length);
  new DataView(bytes.buffer).setUint32(1, json.length);
  bytes.set(json, PREFIX_BYTES);
  return bytes;
}

/**
 * @param {Uint8Array} first
 * @param {Uint8Array} second
 */
function joined(first, second) {
  const bytes = new Uint8Array(first.length + second.length);
  bytes.set(first);
  bytes.set(second, first.length);
  return bytes;
}

/**
 * Passes the complete messages on.
 * @param {Uint8Array} buffer
 * @param {(message: any) => void} onMessage
 * @returns {Uint8Array<ArrayBuffer>} the rest
 */
function take(buffer, onMessage) {
  let start = 0;
  while (buffer.length - start >= PREFIX_BYTES) {
    const view = new DataView(buffer.buffer, buffer.byteOffset + start);
    const end = start + PREFIX_BYTES + view.getUint32(1);
    if (buffer.length < end) break;
    const message = JSON.parse(new TextDecoder().decode(buffer.subarray(start + PREFIX_BYTES, end)));
    if (view.getUint8(0) & END) {
      if (message.error) throw new ServerError(message.error.code, message.error.message ?? message.error.code);
    } else {
      onMessage(message);
    }
    start = end;
  }
  return buffer.slice(start);
}
