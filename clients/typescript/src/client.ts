/** Typed calls of mai-sessions over `fetch`. A write is safe to repeat, and is repeated until it is known to have arrived. */

import { NetworkError, ProblemError } from "./errors.js";
import type { components, paths } from "./schema.js";

type Schemas = components["schemas"];
export type SessionSummary = Schemas["SessionSummary"];
export type SessionDetail = Schemas["SessionDetail"];
export type SessionList = Schemas["SessionList"];
export type SessionCreate = Partial<Schemas["SessionCreate"]>;
export type SessionPatch = Schemas["SessionPatch"];
export type StoredMessage = Schemas["Message"];
export type MessageCreate = Omit<Schemas["MessageCreate"], "images"> & { images?: string[] | null };
export type MessagePatch = Schemas["MessagePatch"];
export type SearchResults = Schemas["SearchResults"];
type Query<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Q } } } ? NonNullable<Q> : never;
export type SessionListQuery = Query<"/api/v1/sessions">;
export type MessageListQuery = Query<"/api/v1/sessions/{session_id}/messages">;
export type MessagesLimitQuery = Query<"/api/v1/sessions/{session_id}">;
export type SearchQuery = Query<"/api/v1/search">;

export interface ClientOptions {
  /** The service's origin, such as `http://localhost:8000`. Default: the page's own. */
  baseUrl?: string;
  /** Gives the bearer token, asked for before every attempt. */
  token?: () => string | null | Promise<string | null>;
  /** How long a request is repeated while the service cannot be reached or is busy, in milliseconds. Default 10 s. */
  retryFor?: number;
  /** How long one attempt may take, in milliseconds. Default 60 s. */
  timeout?: number;
}

export interface RequestOptions {
  signal?: AbortSignal;
  retryFor?: number;
  /** Called before each repetition with what was wrong. */
  onRetry?: (error: ProblemError | NetworkError) => void;
}

export interface CreateOptions extends RequestOptions {
  /** Names the write, also across page loads; the same at every attempt. Default: a new one. */
  idempotencyKey?: string;
}

export interface ChangeOptions extends RequestOptions {
  /** Only when the row is still in the version that carried this ETag; ProblemError 412 otherwise. */
  ifMatch?: string | undefined;
}

interface Sent {
  query: object;
  body: unknown;
  headers: Record<string, string | undefined>;
}

const MAX_BACKOFF = 10_000;
const etags = new WeakMap<object, string>();

/** The ETag of a reply, for `ifMatch`. */
export const etagOf = (reply: object): string | undefined => etags.get(reply);

export type Client = ReturnType<typeof createClient>;

/** Make a client. Every call rejects with ProblemError, NetworkError, or the reason of its `signal`. */
export function createClient({ baseUrl = "", token, retryFor = 10_000, timeout = 60_000 }: ClientOptions = {}) {
  const api = `${baseUrl.replace(/\/$/, "")}/api/v1`;

  async function request<T>(
    method: string,
    path: string,
    { query = {}, body, headers = {}, ...options }: RequestOptions & Partial<Sent>,
  ): Promise<T> {
    const url = `${api}${path}${queryString(query)}`;
    const deadline = Date.now() + (options.retryFor ?? retryFor);
    const sent = new Headers({ Accept: "application/json" });
    const json = body === undefined ? null : JSON.stringify(body);
    if (json) sent.set("Content-Type", "application/json");
    for (const [name, value] of Object.entries(headers)) if (value !== undefined) sent.set(name, value);

    for (let attempt = 0; ; attempt++) {
      const bearer = await token?.();
      if (bearer) sent.set("Authorization", `Bearer ${bearer}`);
      let failure: ProblemError | NetworkError;
      let wait = Math.min(MAX_BACKOFF, 250 * 2 ** attempt) * (0.5 + Math.random() / 2);
      try {
        const limit = AbortSignal.timeout(timeout);
        const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
        const response = await fetch(url, { method, headers: sent, signal, body: json });
        // The body is read here, because an answer that breaks off is no answer either.
        const text = await response.text();
        if (response.ok) return parse<T>(response, text);
        // Of a removal that is repeated: an earlier attempt arrived.
        if (method === "DELETE" && response.status === 404 && attempt > 0) return undefined as T;
        failure = problem(response, text);
        if (!isPassing(failure.status, sent)) throw failure;
        wait += 1000 * Number(response.headers.get("Retry-After")) || 0;
      } catch (error) {
        options.signal?.throwIfAborted();
        if (error instanceof ProblemError) throw error;
        failure = new NetworkError("No answer from the service", { cause: error });
        // The first attempt may have arrived and made the condition untrue.
        if (sent.has("If-Match")) throw failure;
      }
      if (Date.now() + wait > deadline) throw failure;
      options.onRetry?.(failure);
      await sleep(wait, options.signal);
    }
  }

  const create = ({ idempotencyKey = crypto.randomUUID(), ...options }: CreateOptions) => ({
    headers: { "Idempotency-Key": idempotencyKey },
    ...options,
  });
  const change = ({ ifMatch, ...options }: ChangeOptions) => ({ headers: { "If-Match": ifMatch }, ...options });
  const session = (id: string) => `/sessions/${encodeURIComponent(id)}`;
  const message = (id: string, messageId: string) => `${session(id)}/messages/${encodeURIComponent(messageId)}`;

  return {
    /** A URL as replies give it, such as that of an image, made absolute. */
    url: (path: string) => (baseUrl ? new URL(path, baseUrl).href : path),

    listSessions: (query: SessionListQuery = {}, options: RequestOptions = {}) =>
      request<SessionList>("GET", "/sessions", { query, ...options }),
    /** All pages, none skipped or repeated while others write. */
    async *sessionPages(query: Omit<SessionListQuery, "offset" | "cursor"> = {}, options: RequestOptions = {}) {
      let cursor: string | null = null;
      do {
        const page: SessionList = await this.listSessions({ ...query, ...(cursor && { cursor }) }, options);
        yield page.sessions;
        cursor = page.next_cursor;
      } while (cursor);
    },
    createSession: (body: SessionCreate = {}, options: CreateOptions = {}) =>
      request<SessionDetail>("POST", "/sessions", { body, ...create(options) }),
    getSession: (id: string, query: MessagesLimitQuery = {}, options: RequestOptions = {}) =>
      request<SessionDetail>("GET", session(id), { query, ...options }),
    /** Change the fields that are given; null is "not given". The reply carries no messages. */
    patchSession: (id: string, body: SessionPatch, options: ChangeOptions = {}) =>
      request<SessionDetail>("PATCH", session(id), { query: { messages_limit: 0 }, body, ...change(options) }),
    /** The same as a merge patch (RFC 7396), in which null clears a field. */
    mergePatchSession: (id: string, body: SessionPatch, options: ChangeOptions = {}) => {
      const { headers, ...rest } = change(options);
      const merge = { ...headers, "Content-Type": "application/merge-patch+json" };
      return request<SessionDetail>("PATCH", session(id), { query: { messages_limit: 0 }, body, headers: merge, ...rest });
    },
    deleteSession: (id: string, options: ChangeOptions = {}) => request<void>("DELETE", session(id), change(options)),

    listMessages: (id: string, query: MessageListQuery = {}, options: RequestOptions = {}) =>
      request<StoredMessage[]>("GET", `${session(id)}/messages`, { query, ...options }),
    appendMessage: (id: string, body: MessageCreate, options: CreateOptions = {}) =>
      request<StoredMessage>("POST", `${session(id)}/messages`, { body, ...create(options) }),
    patchMessage: (id: string, messageId: string, body: MessagePatch, options: ChangeOptions = {}) =>
      request<StoredMessage>("PATCH", message(id, messageId), { body, ...change(options) }),
    deleteMessage: (id: string, messageId: string, options: ChangeOptions = {}) =>
      request<void>("DELETE", message(id, messageId), change(options)),
    clearMessages: (id: string, options: ChangeOptions = {}) => request<void>("DELETE", `${session(id)}/messages`, change(options)),

    /** A `snippet` of the results is HTML: escaped text, with the hits in `<mark>`. */
    search: (query: SearchQuery, options: RequestOptions = {}) => request<SearchResults>("GET", "/search", { query, ...options }),
  };
}

function queryString(query: object): string {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

function parse<T>(response: Response, text: string): T {
  const reply = text ? JSON.parse(text) : undefined;
  const etag = response.headers.get("ETag");
  if (etag && reply) etags.set(reply, etag);
  return reply;
}

function problem(response: Response, text: string): ProblemError {
  if (!response.headers.get("Content-Type")?.startsWith("application/problem+json")) {
    return new ProblemError(response.status, response.statusText || `HTTP ${response.status}`);
  }
  const { detail, errors, request_id } = JSON.parse(text);
  return new ProblemError(response.status, detail, errors, request_id);
}

/** Whether the same request may succeed in a moment, and may be sent again: a condition only when nothing was done. */
function isPassing(status: number, headers: Headers): boolean {
  // 409: an earlier attempt with this key is still under way.
  if (status === 409) return headers.has("Idempotency-Key");
  return [429, 503].includes(status) || ([502, 504].includes(status) && !headers.has("If-Match"));
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const abort = () => {
      clearTimeout(timer);
      reject(signal!.reason);
    };
    signal?.addEventListener("abort", abort, { once: true });
  });
}
