// Keeps the page up to date: one stream while it is visible, a call every ten seconds while it is not.

import { ServerError, call, stream } from "./rpc.js";

/** @import { LiveMessage } from "./api.js" */

// Hidden pages hold no connection: over HTTP/1.1, a browser has six for all its pages of one server.
const HIDDEN_INTERVAL_MS = 10_000;
const RETRY_MS = 1_000;
const MAX_RETRY_MS = 4_000;

/**
 * @typedef {object} Listener
 * @property {(message: LiveMessage) => void} onMessage
 * @property {(error: Error) => void} onFailure the server cannot be reached, or answers with an error
 * @property {(error: ServerError) => Promise<void>} onRefusal resolves once there is another token
 */

export class Connection {
  /**
   * @param {object} request of LiveService.Watch
   * @param {Listener} listener
   */
  constructor(request, listener) {
    this.request = request;
    this.listener = listener;
    this.retryMs = RETRY_MS;
  }

  /** Never ends. */
  async run() {
    for (;;) {
      try {
        if (document.hidden) await this.poll();
        else await this.follow();
        this.retryMs = RETRY_MS;
        await pause(document.hidden ? HIDDEN_INTERVAL_MS : RETRY_MS);
      } catch (error) {
        await this.recover(/** @type {Error} */ (error));
      }
    }
  }

  /** One call. It also tells a server that has gone from a proxy that passes no streams on. */
  async poll() {
    this.listener.onMessage({ count: await call("PingService/PingCount", {}) });
  }

  /** Reads a stream while the page is visible. */
  async follow() {
    const hidden = new AbortController();
    const stop = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", stop);
    try {
      await stream("LiveService/Watch", this.request, this.listener.onMessage, hidden.signal);
      // A server that shuts down ends its streams; another one may answer.
      await this.poll();
    } catch (error) {
      if (hidden.signal.aborted) return;
      if (error instanceof ServerError && error.isAccess) throw error;
      // A proxy may pass no streams on, and a server has so many watchers at most: a call still shows the count.
      await this.poll();
    } finally {
      document.removeEventListener("visibilitychange", stop);
    }
  }

  /** @param {Error} error */
  async recover(error) {
    if (error instanceof ServerError && error.isAccess) {
      await this.listener.onRefusal(error);
      return;
    }
    this.listener.onFailure(error);
    await pause(this.retryMs);
    this.retryMs = Math.min(this.retryMs * 2, MAX_RETRY_MS);
  }
}

/**
 * Waits, but not once the page has become visible.
 * @param {number} ms
 * @returns {Promise<void>}
 */
function pause(ms) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", shown);
      resolve();
    };
    const shown = () => !document.hidden && end();
    const timer = setTimeout(end, ms);
    document.addEventListener("visibilitychange", shown);
  });
}
