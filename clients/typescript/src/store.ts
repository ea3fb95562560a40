/** A zustand store of sessions and messages that shows every change at once and sees to it that the service gets it, once. */

import { createStore, type StoreApi } from "zustand/vanilla";
import { createClient, type MessageCreate, type MessagePatch, type RequestOptions, type StoredMessage } from "./client.js";
import { ProblemError } from "./errors.js";
import type { Failure, MessageChange, SessionsState, SessionsStoreOptions } from "./state.js";
import {
  applied,
  messageFrom,
  newestFirst,
  type Session,
  sessionFrom,
  type View,
  withChangedMessage,
  withMessage,
  withMessages,
  withoutSession,
  withSession,
  type Write,
} from "./view.js";

/** A load waits in the queue of its session, so that what it brings holds all writes before it. */
interface Load {
  action: "loadSession";
  sessionId: string;
  done: (result: Promise<void>) => void;
}
type Task = Write | Load;

const PAGE = 100;

/** Make a store. For React: `useStore(store, selector)`. */
export function createSessionsStore(options: SessionsStoreOptions = {}): StoreApi<SessionsState> {
  const { retryFor = 300_000, updateInterval = 300, outbox = "mai-sessions-outbox" } = options;
  const { client = createClient({ ...options, retryFor: 10_000 }) } = options;

  /** What the service is known to hold. */
  let base: View = { sessions: [], messages: {} };
  /** In the order in which they were asked for. Those of one session run one after the other. */
  let tasks: Task[] = [];
  const workers = new Map<string, Promise<void>>();
  const running = new Set<Task>();
  const retrying = new Set<Task>();
  /** The service's ids of messages that were added here. */
  let serverIds = new Map<string, string>();
  /** When each message was last sent an update, and what ends the wait for the next one in each session. */
  const lastUpdates = new Map<string, number>();
  const wakers = new Map<string, () => void>();
  /** Writes that were confirmed, in all and the last of each session: a list that was asked for before is older. */
  let confirmations = 0;
  const confirmed = new Map<string, number>();
  /** Sessions whose messages may have changed elsewhere since they were loaded. */
  const stale = new Set<string>();
  /** Where the next page of sessions begins: its cursor, and the time of the last session before it. */
  let cursor: string | null = null;
  let listedTo = Infinity;
  let loading = 0;
  let flushing = 0;

  const store = createStore<SessionsState>(() => ({
    sessions: [],
    messages: {},
    activeSessionId: null,
    status: "idle",
    pending: 0,
    lastError: null,
    hasMore: false,

    createSession({ title, agentName, modelId } = {}) {
      const sessionId = crypto.randomUUID();
      const body = { title: title ?? null, agent_name: agentName ?? null, model_id: modelId ?? null };
      enqueue({ action: "createSession", sessionId, at: now(), key: crypto.randomUUID(), body });
      store.setState({ activeSessionId: sessionId });
      return sessionId;
    },

    deleteSession(sessionId) {
      enqueue({ action: "deleteSession", sessionId, at: now() });
      const { activeSessionId, sessions, setActiveSession } = store.getState();
      if (activeSessionId === sessionId) setActiveSession(sessions[0]?.id ?? null);
    },

    renameSession: (sessionId, title) => enqueue({ action: "renameSession", sessionId, at: now(), title }),

    setActiveSession(activeSessionId) {
      store.setState({ activeSessionId });
      if (activeSessionId !== null) loadUnlessLoaded(activeSessionId);
    },

    addMessage(sessionId, { id: messageId = crypto.randomUUID(), role, content, images = [], documents = [], ...metadata }) {
      loadUnlessLoaded(sessionId);
      const body: MessageCreate = { ...patchOf(metadata), role, content, images, documents };
      enqueue({ action: "addMessage", sessionId, at: now(), key: crypto.randomUUID(), messageId, body });
      return messageId;
    },

    updateMessage(sessionId, messageId, change) {
      if (!store.getState().messages[sessionId]?.some(({ id }) => id === messageId)) return;
      const body = patchOf(typeof change === "string" ? { content: change } : change);
      const waiting = tasks.find(
        (task) => task.action === "updateMessage" && task.messageId === messageId && !running.has(task),
      );
      if (waiting?.action === "updateMessage") {
        Object.assign(waiting.body, body);
        render();
      } else {
        enqueue({ action: "updateMessage", sessionId, at: now(), messageId, body });
      }
    },

    clearMessages: (sessionId) => enqueue({ action: "clearMessages", sessionId, at: now() }),

    async loadSessions() {
      await loadPage(null);
      for (const sessionId of Object.keys(base.messages)) stale.add(sessionId);
      const { activeSessionId, loadSession } = store.getState();
      if (activeSessionId !== null && stale.has(activeSessionId)) await loadSession(activeSessionId);
    },
    async loadMoreSessions() {
      if (cursor !== null) await loadPage(cursor);
    },
    loadSession: (sessionId) => new Promise((done) => enqueue({ action: "loadSession", sessionId, done })),

    async flush() {
      flushing++;
      for (const wake of wakers.values()) wake();
      while (workers.size) await Promise.all(workers.values());
      flushing--;
    },

    clearError: () => store.setState({ lastError: null }),
  }));

  const writes = () => tasks.filter((task): task is Write => task.action !== "loadSession");

  function render() {
    const pending = writes();
    store.setState({
      ...pending.reduce(applied, base),
      pending: pending.length,
      status: retrying.size ? "retrying" : pending.length ? "saving" : loading ? "loading" : "idle",
      hasMore: cursor !== null,
    });
  }

  /** Now, but after all that is known of the service, whose clock may be ahead. */
  const now = () => Math.max(Date.now(), (store.getState().sessions[0]?.updatedAt.getTime() ?? 0) + 1);

  function enqueue(task: Task) {
    tasks.push(task);
    wakers.get(task.sessionId)?.();
    if (!workers.has(task.sessionId)) workers.set(task.sessionId, work(task.sessionId));
    render();
  }

  function loadUnlessLoaded(sessionId: string) {
    const isComing = tasks.some(
      (task) => task.sessionId === sessionId && (task.action === "loadSession" || task.action === "createSession"),
    );
    if ((base.messages[sessionId] && !stale.has(sessionId)) || isComing) return;
    // When it fails, `lastError` says so.
    enqueue({ action: "loadSession", sessionId, done: (result) => void result.catch(() => undefined) });
  }

  /** Run the tasks of a session. */
  async function work(sessionId: string) {
    // Not before the action has returned.
    await null;
    for (let task; (task = tasks.find((task) => task.sessionId === sessionId)); ) {
      if (task.action === "updateMessage") await turn(task);
      running.add(task);
      if (task.action === "loadSession") {
        const result = load(sessionId);
        task.done(result);
        await Promise.allSettled([result]);
        remove([task]);
      } else {
        await send(task).then(confirm(task), fail(task));
      }
      render();
    }
    workers.delete(sessionId);
  }

  /** Wait until a message may be updated again, unless something waits behind it. */
  async function turn({ sessionId, messageId }: Write & { action: "updateMessage" }) {
    const wait = (lastUpdates.get(messageId) ?? 0) + updateInterval - Date.now();
    if (wait > 0 && !flushing && tasks.filter((task) => task.sessionId === sessionId).length === 1) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, wait);
        wakers.set(sessionId, () => {
          clearTimeout(timer);
          resolve();
        });
      });
      wakers.delete(sessionId);
    }
    lastUpdates.set(messageId, Date.now());
  }

  /** Send a write, and give what its answer makes of the view. */
  async function send(write: Write): Promise<(view: View) => View> {
    const { sessionId } = write;
    const request: RequestOptions = {
      retryFor,
      onRetry: () => {
        retrying.add(write);
        render();
      },
    };
    switch (write.action) {
      case "createSession": {
        const body = { ...write.body, id: sessionId };
        const session = await client.createSession(body, { ...request, idempotencyKey: write.key });
        return (view) => withMessages(withSession(view, sessionFrom(session)), sessionId, messagesFrom(session.messages));
      }
      case "renameSession": {
        const session = sessionFrom(await client.patchSession(sessionId, { title: write.title }, request));
        return (view) => withSession(view, session);
      }
      case "deleteSession":
        await client.deleteSession(sessionId, request).catch(unlessNotFound);
        return (view) => withoutSession(view, sessionId);
      case "addMessage": {
        const stored = await client.appendMessage(sessionId, write.body, { ...request, idempotencyKey: write.key });
        serverIds.set(write.messageId, stored.id);
        const message = messageFrom(stored, write.messageId, client.url);
        // Of a session that is not loaded a single message would pass for all.
        return (view) => (view.messages[sessionId] ? withMessage(view, sessionId, message) : view);
      }
      case "updateMessage": {
        const { messageId, body } = write;
        const stored = await client.patchMessage(sessionId, serverIds.get(messageId) ?? messageId, body, request);
        return (view) => withChangedMessage(view, sessionId, messageId, () => messageFrom(stored, messageId, client.url));
      }
      case "clearMessages":
        await client.clearMessages(sessionId, request);
        return (view) => applied(view, write);
    }
  }

  const confirm = (write: Write) => (change: (view: View) => View) => {
    base = change(base);
    confirmed.set(write.sessionId, ++confirmations);
    remove([write]);
  };

  const fail = (write: Write) => (error: unknown) => {
    // What was to happen to a row that was never made goes with it.
    const lost = tasks.filter(
      (task) =>
        task === write ||
        (write.action === "createSession" && task.sessionId === write.sessionId && task.action !== "loadSession") ||
        (write.action === "addMessage" && task.action === "updateMessage" && task.messageId === write.messageId),
    );
    const last = lost.findLast((task) => task.action === "addMessage" || task.action === "updateMessage");
    report(write.action, write.sessionId, error, last?.body.content);
    remove(lost);
  };

  function report(action: Failure["action"], sessionId: string | null, error: unknown, content: string | null = null) {
    store.setState({ lastError: { action, sessionId, content, error } });
  }

  function remove(gone: Task[]) {
    tasks = tasks.filter((task) => !gone.includes(task));
    for (const task of gone) {
      running.delete(task);
      retrying.delete(task);
    }
  }

  function messagesFrom(stored: StoredMessage[]) {
    const localIds = new Map([...serverIds].map(([local, server]) => [server, local]));
    return stored.map((message) => messageFrom(message, localIds.get(message.id) ?? message.id, client.url));
  }

  async function counted(action: Failure["action"], sessionId: string | null, loaded: () => Promise<void>) {
    loading++;
    render();
    try {
      await loaded();
    } catch (error) {
      report(action, sessionId, error);
      throw error;
    } finally {
      loading--;
      render();
    }
  }

  const load = (sessionId: string) =>
    counted("loadSession", sessionId, async () => {
      try {
        const session = await client.getSession(sessionId);
        base = withMessages(withSession(base, sessionFrom(session)), sessionId, messagesFrom(session.messages));
        confirmed.set(sessionId, ++confirmations);
        stale.delete(sessionId);
      } catch (error) {
        if (error instanceof ProblemError && error.status === 404) base = withoutSession(base, sessionId);
        throw error;
      }
    });

  const loadPage = (after: string | null) =>
    counted("loadSessions", null, async () => {
      const asked = confirmations;
      const page = await client.listSessions({ limit: PAGE, ...(after && { cursor: after }) });
      const isNewer = ({ id }: Session) => (confirmed.get(id) ?? 0) > asked;
      const listed = page.sessions.map(sessionFrom);
      const ids = new Set(listed.map(({ id }) => id));
      const [from, to] = [after ? listedTo : Infinity, page.next_cursor ? listed.at(-1)!.updatedAt.getTime() : -Infinity];
      const kept = base.sessions.filter((session) => {
        const at = session.updatedAt.getTime();
        // What belongs on this page and is not there has been removed elsewhere.
        return isNewer(session) || (!ids.has(session.id) && (at >= from || at <= to));
      });
      const sessions = newestFirst([...kept, ...listed.filter((session) => !isNewer(session))]);
      const known = new Set(sessions.map(({ id }) => id));
      base = { sessions, messages: Object.fromEntries(Object.entries(base.messages).filter(([id]) => known.has(id))) };
      [cursor, listedTo] = [page.next_cursor, to];
    });

  if (outbox !== null && globalThis.sessionStorage) {
    const saved = sessionStorage.getItem(outbox);
    sessionStorage.removeItem(outbox);
    if (saved) {
      const { ids, unconfirmed } = JSON.parse(saved);
      serverIds = new Map(ids);
      unconfirmed.forEach(enqueue);
    }
    // Nothing of this page runs between the two, so what is saved is never older than what was sent.
    addEventListener("pagehide", () => {
      const unconfirmed = writes();
      if (unconfirmed.length) sessionStorage.setItem(outbox, JSON.stringify({ ids: [...serverIds], unconfirmed }));
    });
    addEventListener("pageshow", () => sessionStorage.removeItem(outbox));
  }

  return store;
}

const patchOf = (change: MessageChange): MessagePatch => ({
  ...(change.content !== undefined && { content: change.content }),
  ...(change.modelId !== undefined && { model_id: change.modelId }),
  ...(change.agentName !== undefined && { agent_name: change.agentName }),
  ...(change.responseTimeMs !== undefined && { response_time_ms: change.responseTimeMs }),
  ...(change.isError !== undefined && { is_error: change.isError }),
  ...(change.tokenCount !== undefined && { token_count: change.tokenCount }),
});

function unlessNotFound(error: unknown) {
  if (!(error instanceof ProblemError && error.status === 404)) throw error;
}
