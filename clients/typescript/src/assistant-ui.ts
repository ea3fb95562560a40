/**
 * Keeps the threads of assistant-ui in mai-sessions: a list of threads, and for each one its messages with
 * all branches.
 */

import {
  type GenericThreadHistoryAdapter,
  type MessageFormatAdapter,
  type MessageFormatItem,
  type RemoteThreadListAdapter,
  type ThreadHistoryAdapter,
  type ThreadMessage,
  useAui,
} from "@assistant-ui/react";
import { useMemo } from "react";
import {
  type Client,
  type ClientOptions,
  createClient,
  isNotFound,
  isUuid,
  type MessageCreate,
  type SessionSummary,
  type StoredMessage,
  uuid,
  uuidOf,
} from "./client.js";
import { absolute, relative } from "./links.js";
import { beginningOf } from "./text.js";

export interface ThreadListOptions extends ClientOptions {
  /** Default: a client made from these options. */
  client?: Client;
  /** Returns the title of a thread, after its first answer. Default: the beginning of the first text. */
  title?: (messages: readonly ThreadMessage[]) => string | Promise<string>;
  /** The agent and the model of new sessions. */
  agentName?: string;
  modelId?: string;
}

/** The thread of a history: an item of assistant-ui's thread list. */
export interface Thread {
  getState(): { remoteId?: string | undefined };
  initialize(): Promise<{ remoteId: string }>;
}

/** The adapter for `useRemoteThreadListRuntime`. Make it once: a new one reloads the list. */
export function createThreadListAdapter(options: ThreadListOptions = {}): RemoteThreadListAdapter {
  const { client = createClient(options), title = firstText, agentName, modelId } = options;
  const defaults = { ...(agentName && { agent_name: agentName }), ...(modelId && { model_id: modelId }) };
  return {
    async list({ after } = {}) {
      const page = await client.listSessions({
        archived: "any",
        limit: 100,
        ...(after && { cursor: after }),
      });
      return {
        threads: page.sessions.map(threadOf),
        ...(page.next_cursor && { nextCursor: page.next_cursor }),
      };
    },
    async initialize(threadId, { custom } = {}) {
      const id = isUuid(threadId) ? threadId : uuid();
      const session = await client.createSession({
        id,
        ...defaults,
        ...(custom && { metadata: { custom } }),
      });
      return { remoteId: session.id };
    },
    fetch: async (threadId) => threadOf(await client.getSession(threadId, { messages_limit: 0 })),
    rename: async (id, title) => void (await client.patchSession(id, { title })),
    updateCustom: async (id, custom) =>
      void (await client.patchSession(id, { metadata: { custom: custom ?? null } })),
    archive: async (id) => void (await client.patchSession(id, { archived: true })),
    unarchive: async (id) => void (await client.patchSession(id, { archived: false })),
    delete: (id) => client.deleteSession(id),
    async generateTitle(id, messages) {
      const text = await title(messages);
      await client.patchSession(id, { title: text });
      return streamOf(text);
    },
    unstable_useAdapters: function useHistory() {
      const aui = useAui();
      return useMemo(() => ({ history: createHistoryAdapter(client, () => aui.threadListItem) }), [aui]);
    },
  };
}

/** The history of the thread that `current` returns at the time of a call. */
export function createHistoryAdapter(client: Client, current: () => Thread): ThreadHistoryAdapter {
  const history = historyIn(client, current, threadMessageFormat);
  return {
    load: () => history.load() as ReturnType<ThreadHistoryAdapter["load"]>,
    append: (item) => history.append(item),
    update: (item) => history.update!(item, item.message.id),
    delete: (items) => history.delete!(items),
    withFormat: (format) => historyIn(client, current, format),
  };
}

/** A history of messages in any format. `parts` of a message are stored as `parts`, for the search. */
function historyIn<M, F extends Record<string, unknown>>(
  client: Client,
  current: () => Thread,
  format: MessageFormatAdapter<M, F>,
): GenericThreadHistoryAdapter<M> {
  const { know, write } = writerOf(current, format.getId);
  return {
    async load() {
      const sessionId = current().getState().remoteId;
      if (!sessionId) return { messages: [] };
      const session = await client.readSession(sessionId, { branches: "all" });
      const ids = new Map(session.messages.map((stored) => [stored.id, externalId(stored)]));
      know(ids.values(), sessionId);
      const messages = session.messages.map((stored) => itemOf(client, format, stored, ids));
      return { headId: session.head_id === null ? null : ids.get(session.head_id)!, messages };
    },
    append: (item) =>
      write(item, (sessionId) => client.appendMessage(sessionId, bodyOf(client, format, sessionId, item))),
    update: (item) =>
      write(item, async (sessionId, storedId) => {
        const body = bodyOf(client, format, sessionId, item);
        const { parts, metadata } = body;
        try {
          await client.patchMessage(sessionId, storedId, { parts, metadata });
        } catch (error) {
          if (!isNotFound(error)) throw error;
          await client.appendMessage(sessionId, body);
        }
      }),
    async delete(items) {
      const remove = async (sessionId: string, storedId: string) => {
        try {
          await client.deleteMessage(sessionId, storedId);
        } catch (error) {
          if (!isNotFound(error)) throw error;
        }
      };
      await Promise.all(items.map((item) => write(item, remove)));
    },
  };
}

/** Send the writes of a history in the order of the calls, each to the session of its message. */
function writerOf<M>(current: () => Thread, getId: (message: M) => string) {
  /** The session of each message, because a run may end while another thread is shown. */
  const sessions = new Map<string, Promise<string>>();
  // assistant-ui appends the child of a message without waiting for the message.
  const inOrder = sequential();

  /** The session of a message or of its parent; if neither is known, that of the current thread. */
  function sessionOf(id: string, parentId: string | null): Promise<string> {
    const known = sessions.get(id) ?? (parentId === null ? undefined : sessions.get(parentId));
    if (known) return known;
    const initialized = current()
      .initialize()
      .then(({ remoteId }) => remoteId);
    initialized.catch(() => sessions.delete(id));
    return initialized;
  }

  return {
    /** Note the session of messages. */
    know(ids: Iterable<string>, sessionId: string): void {
      for (const id of ids) sessions.set(id, Promise.resolve(sessionId));
    },
    /** Send a write after those of all earlier calls, even if its thread is initialized later. */
    write(
      { message, parentId }: MessageFormatItem<M>,
      send: (sessionId: string, storedId: string) => Promise<unknown>,
    ): Promise<void> {
      const id = getId(message);
      const session = sessionOf(id, parentId);
      sessions.set(id, session);
      return inOrder(async () => {
        const sessionId = await session;
        await send(sessionId, storedIdOf(sessionId, id));
      });
    },
  };
}

/** Make a function that runs each write after the earlier ones. */
function sequential() {
  let last: Promise<unknown> = Promise.resolve();
  return <T>(write: () => Promise<T>): Promise<T> => {
    const written = last.then(write);
    last = written.catch(() => {});
    return written;
  };
}

function bodyOf<M, F extends Record<string, unknown>>(
  client: Client,
  format: MessageFormatAdapter<M, F>,
  sessionId: string,
  item: MessageFormatItem<M>,
): MessageCreate & { parts: object[]; metadata: object } {
  const { parts, ...rest } = relative(JSON.parse(JSON.stringify(format.encode(item))), client);
  const role = ["system", "user", "assistant", "tool"].includes(rest.role) ? rest.role : "assistant";
  const external_id = format.getId(item.message);
  return {
    id: storedIdOf(sessionId, external_id),
    parent_id: item.parentId === null ? null : storedIdOf(sessionId, item.parentId),
    role,
    ...(Array.isArray(parts) ? { parts } : { parts: [{ parts, ...rest }] }),
    metadata: { external_id, format: format.format, ...(Array.isArray(parts) && { fields: rest }) },
  };
}

/** The item of a stored message. `ids` maps the ids of stored messages to those of assistant-ui. */
function itemOf<M, F extends Record<string, unknown>>(
  client: Client,
  format: MessageFormatAdapter<M, F>,
  stored: StoredMessage,
  ids: Map<string, string>,
): MessageFormatItem<M> {
  const { fields } = stored.metadata as { fields?: object };
  const content = (fields ? { ...fields, parts: stored.parts } : stored.parts?.[0]) ?? plain(stored);
  return format.decode({
    id: externalId(stored),
    parent_id: stored.parent_id === null ? null : ids.get(stored.parent_id)!,
    format: (stored.metadata as { format?: string }).format ?? format.format,
    content: absolute(content, client) as F,
  });
}

/** assistant-ui's own messages: the parts of the content, and after them the attachments. */
const threadMessageFormat: MessageFormatAdapter<ThreadMessage, Record<string, unknown>> = {
  format: "assistant-ui",
  getId: ({ id }) => id,
  encode({ message }) {
    const {
      id: _,
      content,
      attachments = [],
      ...fields
    } = message as ThreadMessage & { attachments?: { file?: File }[] };
    const attached = attachments.map(({ file: _, ...attachment }) => ({ type: "attachment", attachment }));
    return { ...fields, parts: [...content, ...attached] };
  },
  decode({ id, parent_id: parentId, content: { parts, createdAt, ...fields } }) {
    const all = parts as { type: string; attachment?: object }[];
    const content = all.filter(({ type }) => type !== "attachment");
    const attachments = all.flatMap(({ type, attachment }) => (type === "attachment" ? [attachment] : []));
    const message = {
      id,
      ...fields,
      createdAt: new Date(createdAt as string),
      content,
      ...(fields.role === "user" && { attachments }),
    };
    return { parentId, message: message as unknown as ThreadMessage };
  },
};

const storedIdOf = (sessionId: string, id: string): string =>
  isUuid(id) ? id.toLowerCase() : uuidOf(`${sessionId}/${id}`);

const externalId = ({ id, metadata }: StoredMessage): string =>
  (metadata as { external_id?: string }).external_id ?? id;

/** A message that another client has stored. */
const plain = ({ role, content, parts, created_at }: StoredMessage): object => ({
  role,
  parts: parts ?? [{ type: "text", text: content }],
  createdAt: created_at,
  metadata: {
    custom: {},
    ...(role === "assistant" && {
      unstable_state: null,
      unstable_annotations: [],
      unstable_data: [],
      steps: [],
    }),
  },
  ...(role === "assistant" && { status: { type: "complete", reason: "unknown" } }),
});

const threadOf = (session: SessionSummary) => ({
  remoteId: session.id,
  status: session.archived ? ("archived" as const) : ("regular" as const),
  ...(session.title !== "New Chat" && { title: session.title }),
  lastMessageAt: new Date(session.updated_at),
  ...(session.metadata.custom !== undefined && {
    custom: session.metadata.custom as Record<string, unknown>,
  }),
});

function firstText(messages: readonly ThreadMessage[]): string {
  const part = messages
    .flatMap(({ content }): readonly { type: string; text?: string }[] => content)
    .find(({ type }) => type === "text");
  return beginningOf(part?.text ?? "");
}

type TitleStream = Awaited<ReturnType<RemoteThreadListAdapter["generateTitle"]>>;

/** A stream of one text. */
function streamOf(text: string): TitleStream {
  const chunks = [
    { type: "part-start", path: [], part: { type: "text" } },
    { type: "text-delta", path: [0], textDelta: text },
    { type: "part-finish", path: [0] },
  ] as const;
  return new ReadableStream({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  }) as TitleStream;
}
