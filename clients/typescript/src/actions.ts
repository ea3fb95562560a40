/** The actions of the store. The state shows each at once, before the service confirms it. */

import { newestAfter } from "./branch.js";
import type { Client, SearchQuery } from "./client.js";
import { uuid } from "./ids.js";
import type { Loads } from "./loads.js";
import type { Failure, Found, MessageChange, NewMessage, SessionChange, SessionsState } from "./state.js";
import { headIdOf, type Message } from "./view.js";
import { messageBodyOf, messagePatchOf, named, sessionPatchOf } from "./write.js";
import type { Writes } from "./writes.js";

export interface Context {
  client: Client;
  writes: Writes;
  loads: Loads;
  undoFor: number;
  set: (state: Partial<SessionsState>) => void;
  get: () => SessionsState;
  failed: (action: Failure["action"], sessionId: string | null, error: unknown) => void;
  close: () => void;
}

type Actions<Name extends keyof SessionsState> = Pick<SessionsState, Name>;

export const actionsOf = (context: Context) => ({
  ...sessionActions(context),
  ...messageActions(context),
  ...branchActions(context),
  ...failureActions(context),
  ...loadActions(context),
  ...searchActions(context),
});

/** The present time, or a millisecond after the newest session if the clock of the service is ahead. */
const now = ({ view }: Writes) => Math.max(Date.now(), (view.sessions[0]?.updatedAt.getTime() ?? 0) + 1);

type SessionActions = Actions<
  | "createSession"
  | "deleteSession"
  | "deleteSessions"
  | "undoDelete"
  | "renameSession"
  | "updateSession"
  | "archiveSession"
  | "archiveSessions"
  | "setActiveSession"
>;

function sessionActions({ writes, loads, undoFor, set, get }: Context): SessionActions {
  const changes = (ids: string[], change: SessionChange) => {
    const at = now(writes);
    for (const sessionId of ids) {
      writes.updateSession(named({ action: "updateSession", sessionId, at, body: sessionPatchOf(change) }));
    }
  };

  return {
    createSession({ lazy = false, modelId, ...change } = {}) {
      const sessionId = uuid();
      if (lazy) writes.cancel((write) => writes.isHeld(write.sessionId));
      loads.opened.add(sessionId);
      const body = sessionPatchOf({ ...change, ...(modelId && { modelId }) });
      writes.add(named({ action: "createSession", sessionId, at: now(writes), body, lazy }));
      set({ activeSessionId: sessionId });
      return sessionId;
    },

    deleteSession: (id) => get().deleteSessions([id]),
    deleteSessions(ids) {
      const stored = ids.filter((id) => {
        loads.opened.delete(id);
        const isUnsent = writes.isHeld(id) || writes.isUnmade(id);
        const isRemoved = writes.queue.of(id).some(({ action }) => action === "deleteSession");
        return !isUnsent && !isRemoved;
      });
      const unsent = new Set(ids.filter((id) => writes.isHeld(id)));
      if (unsent.size) writes.cancel(({ sessionId }) => unsent.has(sessionId));
      for (const id of ids) if (writes.isUnmade(id)) writes.discard(id);
      const [at, dueAt] = [now(writes), Date.now() + undoFor];
      writes.add(...stored.map((sessionId) => named({ action: "deleteSession", sessionId, at, dueAt })));
    },
    undoDelete: (id) =>
      writes.cancel(({ action, sessionId }) => action === "deleteSession" && sessionId === id),

    renameSession: (id, title) => changes([id], { title }),
    updateSession: (id, change) => changes([id], change),
    archiveSession: (id, archived = true) => changes([id], { archived }),
    archiveSessions: (ids, archived = true) => changes(ids, { archived }),

    setActiveSession(activeSessionId) {
      set({ activeSessionId });
      if (activeSessionId === null) return;
      loads.gone.delete(activeSessionId);
      loads.ensure(activeSessionId);
    },
  };
}

/** A message of the shown branch, or else of any branch. */
function found({ writes, get }: Context, sessionId: string, id: string): Message | undefined {
  const shown = get().messages[sessionId]?.find((message) => message.id === id);
  return shown ?? writes.view.messages[sessionId]?.find((message) => message.id === id);
}

function add({ writes, loads }: Context, sessionId: string, message: NewMessage): string {
  const { id: messageId = uuid() } = message;
  loads.ensure(sessionId);
  const body = messageBodyOf(message, message.role === "assistant" ? answerer(writes, sessionId) : {});
  writes.add(named({ action: "addMessage", sessionId, at: now(writes), messageId, body }));
  return messageId;
}

function messageActions(
  context: Context,
): Actions<"addMessage" | "updateMessage" | "deleteMessage" | "clearMessages"> {
  const { writes } = context;
  return {
    addMessage: (sessionId, message) => add(context, sessionId, message),

    updateMessage(sessionId, messageId, change) {
      if (!found(context, sessionId, messageId)) return;
      const body = messagePatchOf(changeOf(change));
      writes.update(named({ action: "updateMessage", sessionId, at: now(writes), messageId, body }));
    },

    deleteMessage(sessionId, messageId) {
      const message = found(context, sessionId, messageId);
      if (message?.failure && message.seq === null) writes.discard(messageId);
      else if (message) writes.add(named({ action: "deleteMessage", sessionId, at: now(writes), messageId }));
    },

    clearMessages(sessionId) {
      for (const { id } of writes.failedMessages(sessionId)) writes.discard(id);
      writes.add(named({ action: "clearMessages", sessionId, at: now(writes) }));
    },
  };
}

function branchActions(context: Context): Actions<"edit" | "regenerate" | "switchBranch"> {
  const { client, writes, get } = context;
  /** Add a sibling of a message. It replaces a message that could not be stored. */
  const beside = (
    sessionId: string,
    { id, parentId, failure, seq }: Message,
    message: NewMessage,
  ): string => {
    if (failure && seq === null) writes.discard(id);
    return add(context, sessionId, { ...message, parentId });
  };

  return {
    edit(sessionId, messageId, change) {
      const old = found(context, sessionId, messageId);
      if (!old) throw new RangeError(`There is no message ${messageId}`);
      const { role, content, images, documents, metadata } = old;
      const given = changeOf(change);
      // New text replaces the parts that carry the old one.
      const parts = given.content === undefined && old.parts ? { parts: old.parts } : {};
      return beside(sessionId, old, {
        role,
        content,
        images: images.map(client.path),
        documents,
        metadata,
        ...parts,
        ...given,
      });
    },

    regenerate(sessionId, messageId, answer = {}) {
      const old = found(context, sessionId, messageId);
      if (!old) throw new RangeError(`There is no message ${messageId}`);
      return beside(sessionId, old, { role: old.role, content: "", status: "streaming", ...answer });
    },

    switchBranch(sessionId, messageId) {
      const headId = newestAfter(writes.view.messages[sessionId] ?? [], messageId);
      if (headId !== headIdOf(writes.view, sessionId)) get().updateSession(sessionId, { headId });
    },
  };
}

function failureActions({ writes, loads, set }: Context): Actions<"retry" | "discard" | "clearError"> {
  return {
    retry: (id) => writes.retry(id),
    discard(id) {
      if (writes.isUnmade(id)) loads.opened.delete(id);
      writes.discard(id);
    },
    clearError: () => set({ lastError: null }),
  };
}

function loadActions({
  writes,
  loads,
  get,
  close,
}: Context): Actions<
  | "loadSessions"
  | "loadMoreSessions"
  | "loadArchived"
  | "loadMoreArchived"
  | "loadSession"
  | "watchSession"
  | "flush"
  | "close"
> {
  return {
    async loadSessions() {
      await loads.page(loads.open, true);
      loads.expireAll();
      await loads.refresh(get().activeSessionId);
    },
    async loadMoreSessions() {
      if (loads.open.hasMore) await loads.page(loads.open, false);
    },
    loadArchived: () => loads.page(loads.archived, true),
    async loadMoreArchived() {
      if (loads.archived.hasMore) await loads.page(loads.archived, false);
    },
    loadSession: (id) => loads.again(id),
    watchSession: (id) => loads.watch(id),
    flush: () => writes.queue.flush(),
    close,
  };
}

function searchActions({ client, set, get, failed }: Context): Actions<"search" | "searchMore"> {
  let current = new AbortController();
  let cursor: string | null = null;
  let filter: Omit<SearchQuery, "q" | "cursor"> = {};

  async function page(found: Found) {
    const { signal } = current;
    set({ found: { ...found, load: { status: "loading" } } });
    try {
      const page = await client.search({ ...filter, q: found.query, ...(cursor && { cursor }) }, { signal });
      cursor = page.next_cursor;
      const results = [...found.results, ...page.results];
      set({ found: { ...found, results, load: { status: "ready" }, hasMore: cursor !== null } });
    } catch (error) {
      // A newer search has replaced this one.
      if (signal.aborted) return;
      set({ found: { ...found, load: { status: "error", error } } });
      failed("search", null, error);
      throw error;
    }
  }

  return {
    async search(query, wanted = {}) {
      current.abort();
      current = new AbortController();
      [cursor, filter] = [null, wanted];
      if (query.trim()) await page({ query, results: [], load: { status: "idle" }, hasMore: false });
      else set({ found: null });
    },
    async searchMore() {
      const { found } = get();
      if (found?.hasMore) await page(found);
    },
  };
}

const changeOf = (change: string | MessageChange): MessageChange =>
  typeof change === "string" ? { content: change } : change;

/** The agent and the model of a session: the defaults of its answers. */
function answerer({ view }: Writes, sessionId: string): MessageChange {
  const { agentName, modelId } = view.sessions.find(({ id }) => id === sessionId) ?? {};
  return { ...(agentName && { agentName }), ...(modelId && { modelId }) };
}
