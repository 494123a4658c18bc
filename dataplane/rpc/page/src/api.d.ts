// The messages of the API in JSON, as far as the page uses them: proto/ping/v1. 64-bit integers are strings.

export interface Count {
  pingCount: string;
  asOfMs: string;
  lagMs: string;
  exact: boolean;
  store: "STORE_CACHE" | "STORE_DATABASE";
  lastAuditMs?: string;
  viewsDiffer?: boolean;
}

export interface SourceCount {
  source: string;
  count: string;
}

export interface TopSources {
  sources: SourceCount[];
  asOfMs: string;
}

export type ComponentState =
  | "COMPONENT_STATE_UNSPECIFIED"
  | "COMPONENT_STATE_AVAILABLE"
  | "COMPONENT_STATE_UNAVAILABLE"
  | "COMPONENT_STATE_REBUILDING";

/** LiveService.Watch; a server that only answered PingCount sends no more than a count. */
export interface LiveMessage {
  count: Count;
  minutes?: { startMs: string; count: string }[];
  topSources?: TopSources;
  database?: ComponentState;
  cache?: ComponentState;
}

export interface SourceStats {
  count: string;
  firstSeenMs?: string;
  lastSeenMs?: string;
  last24h: string;
  kinds: { kind: string; count: string; lastSeenMs: string }[];
}

export interface SourceStatus {
  status: string;
  verdict: "VERDICT_NEGATIVE" | "VERDICT_POSITIVE" | "VERDICT_UNKNOWN";
  final: boolean;
}

export interface Series {
  points: { startMs: string; count: string }[];
}

/** One bar: its start in milliseconds since the Unix epoch, and its events. */
export interface Bar {
  start: number;
  count: number;
}
