/** Requests that are repeated after a failure that may pass. */

import { NetworkError, ProblemError } from "./errors.js";
import { jsonOf } from "./text.js";
import { attempt, type Outgoing, type Reply } from "./transport.js";

export interface ClientOptions {
  /**
   * The service's origin, such as `http://localhost:8000`, and the path below which it is mounted, if there
   * is one. Default: the page's own origin.
   */
  baseUrl?: string;
  /**
   * Returns the bearer token. Called before every attempt, and once more after a 401, with the refused token.
   */
  token?: (refused?: string) => string | null | Promise<string | null>;
  /** How long a request is repeated after it first failed, in milliseconds. Default 10 s. */
  retryFor?: number;
  /** The longest silence of an attempt, in milliseconds; progress of a body ends it. Default 60 s. */
  timeout?: number;
  /** How many requests run at once; the others wait. Default 6. */
  concurrency?: number;
}

export interface RequestOptions {
  signal?: AbortSignal;
  retryFor?: number;
  /** Further headers, such as `traceparent`. */
  headers?: Record<string, string>;
  /** Called before each repetition, with the error. */
  onRetry?: (error: ProblemError | NetworkError) => void;
}

export interface Outbound extends Omit<RequestOptions, "headers"> {
  query?: object;
  body?: unknown;
  headers?: Record<string, string | undefined>;
  /**
   * Whether a repetition has no further effect if an earlier attempt arrived. Default: true without
   * `If-Match`.
   */
  repeatable?: boolean;
}

const MAX_BACKOFF = 10_000;

export type Requester = (method: string, url: string, outbound: Outbound) => Promise<Reply>;

/** Make the function that sends all requests of a client. It resolves to a reply with a 2xx or a 304. */
export function createRequester({
  token,
  retryFor = 10_000,
  timeout = 60_000,
  concurrency = 6,
}: ClientOptions): Requester {
  const slots = new Slots(concurrency);
  /** After a 429, no request is sent before this time. */
  let resumeAt = 0;

  return async (method, url, { query = {}, body, signal, onRetry, ...options }) => {
    const json = body === undefined ? null : jsonOf(body);
    const headers = headersOf(json, options.headers);
    const { repeatable = !headers.has("If-Match") } = options;
    const outgoing: Outgoing = { method, headers, body: json, signal, timeout };

    let deadline: number | undefined;
    let refused: string | undefined;
    let isRenewed = false;
    let mayHaveArrived = false;
    let failure: ProblemError | NetworkError;
    for (let failures = 0; ;) {
      const release = await slots.acquire(signal);
      let wait = Math.min(MAX_BACKOFF, 250 * 2 ** failures) * (0.5 + Math.random() / 2);
      try {
        while (Date.now() < resumeAt) await sleep(resumeAt - Date.now(), signal);
        const bearer = await token?.(refused);
        if (bearer) headers.set("Authorization", `Bearer ${bearer}`);
        const reply = await attempt(url + queryString(query), outgoing).catch((error: unknown) => {
          signal?.throwIfAborted();
          throw new NetworkError("No response from the service", { cause: error });
        });
        if ((reply.status >= 200 && reply.status < 300) || reply.status === 304) return reply;
        // An earlier attempt deleted it.
        if (method === "DELETE" && reply.status === 404 && mayHaveArrived) return withoutBody(reply);
        failure = problem(reply);
        if (reply.status === 401 && token && !isRenewed) {
          [isRenewed, refused] = [true, bearer ?? undefined];
          continue;
        }
        if (!isTemporary(reply.status, headers, repeatable)) throw failure;
        wait += retryAfter(reply);
        if (reply.status === 429) resumeAt = Math.max(resumeAt, Date.now() + wait);
      } catch (error) {
        // The first attempt may have arrived and made the condition untrue.
        if (!(error instanceof NetworkError) || !repeatable) throw error;
        failure = error;
      } finally {
        release();
      }
      mayHaveArrived ||= !(failure instanceof ProblemError && failure.status === 429);
      deadline ??= Date.now() + (options.retryFor ?? retryFor);
      if (Date.now() + wait > deadline) throw failure;
      failures++;
      onRetry?.(failure);
      await sleep(wait, signal);
    }
  };
}

const withoutBody = (reply: Reply): Reply => ({ ...reply, bytes: new Uint8Array() });

export const textOf = (reply: Reply): string => new TextDecoder().decode(reply.bytes);

function headersOf(json: string | null, given: Outbound["headers"] = {}): Headers {
  const headers = new Headers({ Accept: "application/json" });
  if (json) headers.set("Content-Type", "application/json");
  for (const [name, value] of Object.entries(given)) if (value !== undefined) headers.set(name, value);
  return headers;
}

/** The milliseconds of `Retry-After`, which is a number of seconds or a date. */
function retryAfter({ headers }: Reply): number {
  const value = headers.get("Retry-After") ?? "";
  const milliseconds = /^\d+$/.test(value) ? 1000 * Number(value) : Date.parse(value) - Date.now();
  return Math.max(0, milliseconds) || 0;
}

function queryString(query: object): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  const texts = given.map(([name, value]) => [
    name,
    typeof value === "object" ? jsonOf(value) : String(value),
  ]);
  return given.length ? `?${new URLSearchParams(texts)}` : "";
}

function problem(reply: Reply): ProblemError {
  if (!reply.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    return new ProblemError(reply.status, reply.statusText || `HTTP ${reply.status}`);
  }
  const { detail, errors, request_id } = JSON.parse(textOf(reply));
  return new ProblemError(reply.status, detail, errors, request_id);
}

/** Whether the same request may succeed later. */
function isTemporary(status: number, headers: Headers, repeatable: boolean): boolean {
  // 409: an earlier attempt with this key is still under way.
  if (status === 409) return headers.has("Idempotency-Key");
  // 408, 429: the request had no effect. 502, 503, 504: unknown.
  return [408, 429].includes(status) || ([502, 503, 504].includes(status) && repeatable);
}

/** Limits the concurrent requests, in order of arrival. The timeout does not run while a request waits. */
class Slots {
  readonly #waiting: (() => void)[] = [];

  constructor(private free: number) {}

  /** Resolves to the function that gives the slot back. */
  async acquire(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.free > 0) this.free--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    const release = () => {
      const next = this.#waiting.shift();
      if (next) next();
      else this.free++;
    };
    if (signal?.aborted) release();
    signal?.throwIfAborted();
    return release;
  }
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", abort);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
