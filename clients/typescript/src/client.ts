/**
 * Typed calls of mai-sessions, one for each route. A call that fails for a passing reason is repeated; a
 * repeated write has no second effect.
 */

import { isTooLarge } from "./errors.js";
import { uuid } from "./ids.js";
import {
  type ClientOptions,
  createRequester,
  type Outbound,
  type Requester,
  type RequestOptions,
  textOf,
} from "./request.js";
import type { components, operations, paths } from "./schema.js";

export * from "./errors.js";
export { isUuid, uuid, uuidOf } from "./ids.js";
export type { ClientOptions, RequestOptions } from "./request.js";

type Schemas = components["schemas"];
export type StoredMessage = Required<Schemas["Message"]>;
export type MessageCreate = Schemas["MessageCreate"];
export type MessagePatch = Schemas["MessagePatch"];
export type SessionSummary = Required<Schemas["SessionSummary"]>;
export type SessionDetail = SessionSummary & { messages: StoredMessage[] };
export type SessionList = Omit<Schemas["SessionList"], "sessions"> & { sessions: SessionSummary[] };
export type SessionCreate = Partial<Schemas["SessionCreate"]>;
export type SessionPatch = Schemas["SessionPatch"];
export type SessionBatch = Schemas["SessionBatch"];
export type SessionBatchResult = Schemas["SessionBatchResult"];
export type MessageBatchResult = { messages: StoredMessage[]; session: SessionSummary };
export type SearchResults = Schemas["SearchResults"];
type Query<Path extends keyof paths> = paths[Path] extends { get: { parameters: { query?: infer Q } } }
  ? NonNullable<Q>
  : never;
/** `metadata` selects the sessions whose metadata contain it. */
export type SessionListQuery = Omit<Query<"/api/v1/sessions">, "metadata"> & { metadata?: object };
export type MessageListQuery = Query<"/api/v1/sessions/{session_id}/messages">;
export type SessionQuery = Query<"/api/v1/sessions/{session_id}">;
/** The branch to read: the shown one, the one that ends at `head_id`, or all. */
export type BranchQuery = Pick<SessionQuery, "head_id" | "branches">;
export type SearchQuery = Query<"/api/v1/search">;
export type DatesQuery = Query<"/api/v1/analytics/usage">;
type Body<Operation extends keyof operations> = operations[Operation] extends {
  responses: { 200: { content: { "application/json": infer B } } };
}
  ? B
  : never;

export interface ReadOptions<T extends object> extends RequestOptions {
  /** An earlier reply of the same call. It is returned if nothing has changed since. */
  known?: T | undefined;
}

export interface WriteOptions extends RequestOptions {
  /** The same for every attempt of one write, across page loads too. Default: a new key. */
  idempotencyKey?: string;
}

export interface CreateOptions extends WriteOptions {
  /** Reject with ProblemError 412 if the id exists. */
  onlyNew?: boolean;
}

export interface ChangeOptions extends RequestOptions {
  /** Write only if the row still has this ETag. Otherwise the call rejects with ProblemError 412. */
  ifMatch?: string | undefined;
}

export interface AppendOptions extends WriteOptions, ChangeOptions {}

const replyHeaders = new WeakMap<object, Headers>();

/** The headers of a reply: `Link` of a page, `Idempotency-Replayed` of a write, and so on. */
export const headersOf = (reply: object): Headers => replyHeaders.get(reply) ?? new Headers();

/** The ETag of a reply, for `ifMatch`. */
export const etagOf = (reply: object): string | undefined => headersOf(reply).get("ETag") ?? undefined;

export type Client = ReturnType<typeof createClient>;

/** The parts of a client that the calls use. */
interface Connection {
  root: string;
  url: (path: string) => string;
  send: Requester;
  /** Send a request, and parse the JSON of the reply. */
  request<T>(method: string, path: string, outbound: Outbound & { known?: object | undefined }): Promise<T>;
}

const api = "/api/v1";
const session = (id: string) => `${api}/sessions/${encodeURIComponent(id)}`;
const message = (id: string, messageId: string) => `${session(id)}/messages/${encodeURIComponent(messageId)}`;

const write = ({ idempotencyKey = uuid(), headers, ...rest }: WriteOptions) => ({
  headers: { ...headers, "Idempotency-Key": idempotencyKey },
  ...rest,
});
const create = ({ onlyNew, ...options }: CreateOptions) => {
  const { headers, ...rest } = write(options);
  return { headers: { ...headers, "If-None-Match": onlyNew ? "*" : undefined }, ...rest };
};
const append = ({ ifMatch, ...options }: AppendOptions) => {
  const { headers, ...rest } = write(options);
  // The service returns what it has stored before it checks the condition, so a repetition is safe.
  return { headers: { ...headers, "If-Match": ifMatch }, repeatable: true, ...rest };
};
/** With an id, a repetition stores a message once. With a given key it would be another body each time. */
const identified = (message: MessageCreate, { idempotencyKey }: WriteOptions): MessageCreate =>
  idempotencyKey === undefined ? { id: uuid(), ...message } : message;
const change = ({ ifMatch, headers, ...rest }: ChangeOptions) => ({
  headers: { ...headers, "If-Match": ifMatch },
  ...rest,
});
const read = <T extends object>({ known, headers, ...rest }: ReadOptions<T>) => ({
  headers: { ...headers, "If-None-Match": known && etagOf(known) },
  known,
  ...rest,
});

/** Make a client. Every call rejects with ProblemError, NetworkError, or the reason of its `signal`. */
export function createClient(options: ClientOptions = {}) {
  const { baseUrl = "" } = options;
  const root = baseUrl.replace(/\/$/, "");
  const origin = /^[^/]+:\/\/[^/]+/.exec(root)?.[0] ?? "";
  const mount = root.slice(origin.length);
  // What the links of replies are relative to. They carry the path below which the service is mounted,
  // unless a proxy strips it from the requests.
  let base = root;
  const url = (path: string) => {
    if (mount && path.startsWith(`${mount}${api}/`)) base = origin;
    return root && path.startsWith("/") ? base + path : path;
  };
  const send = createRequester(options);

  async function request<T>(
    method: string,
    path: string,
    { known, ...outbound }: Outbound & { known?: object | undefined },
  ): Promise<T> {
    const reply = await send(method, root + path, outbound);
    if (reply.status === 304) return known as T;
    const text = textOf(reply);
    const value = text ? JSON.parse(text) : undefined;
    if (value) replyHeaders.set(value, reply.headers);
    return value;
  }

  const connection: Connection = { root, url, send, request };
  return {
    /** As it was given, without a slash at its end. */
    baseUrl: root,
    /** A URL of a reply, such as that of an image, made absolute. */
    url,
    /** The reverse: an absolute URL as replies give it, to send it again. */
    path: (url: string) => (root && url.startsWith(`${root}/`) ? url.slice(base.length) : url),
    ...sessionCalls(connection),
    ...messageCalls(connection),
    ...pagedCalls(connection),
    ...queryCalls(connection),
    ...healthCalls(connection),
  };
}

function sessionCalls({ request }: Connection) {
  return {
    listSessions: (query: SessionListQuery = {}, options: ReadOptions<SessionList> = {}) =>
      request<SessionList>("GET", `${api}/sessions`, { query, ...read(options) }),
    createSession: (body: SessionCreate = {}, options: CreateOptions = {}) =>
      request<SessionDetail>("POST", `${api}/sessions`, { body, ...create(options) }),
    /** A session with its messages. If they exceed the limit of a response, use `readSession`. */
    getSession: (id: string, query: SessionQuery = {}, options: ReadOptions<SessionDetail> = {}) =>
      request<SessionDetail>("GET", session(id), { query, ...read(options) }),
    /** Change the given fields. null means "not given". The reply has no messages. */
    patchSession: (id: string, body: SessionPatch, options: ChangeOptions = {}) =>
      request<SessionDetail>("PATCH", session(id), {
        query: { messages_limit: 0 },
        body,
        ...change(options),
      }),
    /** Like `patchSession`, as a merge patch (RFC 7396): null clears a field. */
    mergePatchSession: (id: string, body: SessionPatch, options: ChangeOptions = {}) => {
      const { headers, ...rest } = change(options);
      const merge = { ...headers, "Content-Type": "application/merge-patch+json" };
      return request<SessionDetail>("PATCH", session(id), {
        query: { messages_limit: 0 },
        body,
        headers: merge,
        ...rest,
      });
    },
    deleteSession: (id: string, options: ChangeOptions = {}) =>
      request<void>("DELETE", session(id), { repeatable: true, ...change(options) }),
    /** Delete, archive or unarchive up to 500 sessions, all or none. */
    batchSessions: (ids: string[], action: SessionBatch["action"], options: WriteOptions = {}) =>
      request<SessionBatchResult>("POST", `${api}/sessions/batch`, {
        body: { ids, action },
        ...write(options),
      }),
  };
}

function messageCalls({ request }: Connection) {
  return {
    /** A page of messages, oldest first. If it exceeds the limit of a response, ask for fewer. */
    listMessages: (id: string, query: MessageListQuery = {}, options: ReadOptions<StoredMessage[]> = {}) =>
      request<StoredMessage[]>("GET", `${session(id)}/messages`, { query, ...read(options) }),
    getMessage: (id: string, messageId: string, options: ReadOptions<StoredMessage> = {}) =>
      request<StoredMessage>("GET", message(id, messageId), read(options)),
    /** Append a message. Without an `id` and an `idempotencyKey`, it gets a new id. */
    appendMessage: (id: string, body: MessageCreate, options: AppendOptions = {}) =>
      request<StoredMessage>("POST", `${session(id)}/messages`, {
        body: identified(body, options),
        ...append(options),
      }),
    /** Append up to 100 messages, all or none, and change the session with them. */
    appendMessages: (
      id: string,
      messages: MessageCreate[],
      changes?: SessionPatch,
      options: AppendOptions = {},
    ) => {
      const body = {
        messages: messages.map((message) => identified(message, options)),
        ...(changes && { session: changes }),
      };
      return request<MessageBatchResult>("POST", `${session(id)}/messages`, { body, ...append(options) });
    },
    patchMessage: (id: string, messageId: string, body: MessagePatch, options: ChangeOptions = {}) =>
      request<StoredMessage>("PATCH", message(id, messageId), { body, ...change(options) }),
    deleteMessage: (id: string, messageId: string, options: ChangeOptions = {}) =>
      request<void>("DELETE", message(id, messageId), { repeatable: true, ...change(options) }),
    clearMessages: (id: string, options: ChangeOptions = {}) =>
      request<void>("DELETE", `${session(id)}/messages`, change(options)),
  };
}

/** All pages that `read` returns, each from the cursor of the one before. */
async function* pagesOf<P extends { next_cursor: string | null }>(read: (query: object) => Promise<P>) {
  let cursor: string | null = null;
  do {
    const page: P = await read(cursor ? { cursor } : {});
    yield page;
    cursor = page.next_cursor;
  } while (cursor);
}

/** Reads of several pages. */
function pagedCalls(connection: Connection) {
  const { listSessions, getSession } = sessionCalls(connection);
  const { listMessages } = messageCalls(connection);
  const { search } = queryCalls(connection);

  /** All messages of a branch, oldest first, in pages that become smaller where they are too large. */
  async function* messagePages(id: string, query: BranchQuery = {}, options: RequestOptions = {}) {
    let [after_seq, limit] = [0, 500];
    for (;;) {
      const page = await listMessages(id, { ...query, after_seq, limit }, options).catch((error) => {
        if (!isTooLarge(error) || limit === 1) throw error;
      });
      if (page) {
        yield page;
        if (page.length < limit) return;
        after_seq = page.at(-1)!.seq;
      } else limit >>= 1;
    }
  }

  return {
    /** All pages of the list. Writes in between cause no skipped or repeated session. */
    async *sessionPages(
      query: Omit<SessionListQuery, "offset" | "cursor"> = {},
      options: RequestOptions = {},
    ) {
      const read = (cursor: object) => listSessions({ ...query, ...cursor }, options);
      for await (const page of pagesOf(read)) yield page.sessions;
    },
    messagePages,
    /** All pages of the results of a search, best match first. */
    async *searchPages(query: Omit<SearchQuery, "cursor">, options: RequestOptions = {}) {
      const read = (cursor: object) => search({ ...query, ...cursor }, options);
      for await (const page of pagesOf(read)) yield page.results;
    },
    /** A session with all its messages: in one response, or in pages if they exceed its limit. */
    async readSession(id: string, query: BranchQuery = {}, options: RequestOptions = {}) {
      try {
        return await getSession(id, query, options);
      } catch (error) {
        if (!isTooLarge(error)) throw error;
      }
      const session = await getSession(id, { ...query, messages_limit: 0 }, options);
      // Messages that are appended meanwhile do not move the branch.
      const head_id = query.branches ? undefined : (query.head_id ?? session.head_id ?? undefined);
      for await (const page of messagePages(id, { ...query, ...(head_id && { head_id }) }, options))
        session.messages.push(...page);
      return session;
    },
  };
}

function queryCalls({ root, url, send, request }: Connection) {
  return {
    /** The bytes of an attachment, or a `Range` of them, by its link in a message or by its SHA-256. */
    async getAttachment(link: string, { headers, ...options }: RequestOptions = {}): Promise<Blob> {
      const target = /^[0-9a-f]{64}$/.test(link) ? `${root}${api}/attachments/${link}` : url(link);
      const reply = await send("GET", target, { ...options, headers: { Accept: "*/*", ...headers } });
      return new Blob([reply.bytes], { type: reply.headers.get("Content-Type") ?? "" });
    },

    /** A `snippet` of the results is HTML: escaped text, with the hits in `<mark>`. */
    search: (query: SearchQuery, options: RequestOptions = {}) =>
      request<SearchResults>("GET", `${api}/search`, { query, ...options }),

    /**
     * Yield each session with the messages of all branches, oldest first. The whole export is in memory
     * before the first session.
     */
    async *exportSessions(query: { session_id?: string } = {}, options: RequestOptions = {}) {
      const headers = { ...options.headers, Accept: "*/*" };
      const reply = await send("GET", `${root}${api}/export`, { query, ...options, headers });
      for (const line of textOf(reply).split("\n")) if (line) yield JSON.parse(line) as SessionDetail;
    },

    getUsage: (query: DatesQuery = {}, options: RequestOptions = {}) =>
      request<Body<"get_usage">>("GET", `${api}/analytics/usage`, { query, ...options }),
    getAgents: (query: DatesQuery = {}, options: RequestOptions = {}) =>
      request<Body<"get_agents">>("GET", `${api}/analytics/agents`, { query, ...options }),
    getModels: (query: DatesQuery = {}, options: RequestOptions = {}) =>
      request<Body<"get_models">>("GET", `${api}/analytics/models`, { query, ...options }),
    /** The last 30 days. */
    getSummary: (options: RequestOptions = {}) =>
      request<Body<"get_summary">>("GET", `${api}/analytics/summary`, options),
  };
}

function healthCalls({ root, send, request }: Connection) {
  return {
    getService: (options: RequestOptions = {}) => request<Body<"get_service">>("GET", "/", options),
    getHealth: (options: RequestOptions = {}) => request<Body<"get_health">>("GET", "/health", options),
    getLive: (options: RequestOptions = {}) => request<Body<"get_live">>("GET", "/health/live", options),
    /** Rejects with ProblemError 503 if the service is not ready, without a repetition. */
    getReady: (options: RequestOptions = {}) =>
      request<Body<"get_ready">>("GET", "/health/ready", { retryFor: 0, ...options }),
    getDetailed: (options: RequestOptions = {}) =>
      request<Body<"get_detailed">>("GET", "/health/detailed", options),
    /** The metrics in the text format of Prometheus. */
    getMetrics: async (options: RequestOptions = {}) =>
      textOf(
        await send("GET", `${root}/metrics`, { ...options, headers: { ...options.headers, Accept: "*/*" } }),
      ),
  };
}
