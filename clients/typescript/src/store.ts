/** A zustand store of sessions and messages that shows every change at once and sees to it that the service gets it, once. */

import { createStore, type StateCreator, type StoreApi } from "zustand/vanilla";
import { actionsOf } from "./actions.js";
import { createClient } from "./client.js";
import { NetworkError } from "./errors.js";
import { uuid } from "./ids.js";
import { Loads } from "./loads.js";
import { Outbox } from "./outbox.js";
import { linkPage } from "./page.js";
import { createSend } from "./send.js";
import { Slicer } from "./slices.js";
import type { Failure, SessionsState, SessionsStoreOptions } from "./state.js";
import { type Message, NO_MESSAGES } from "./view.js";
import type { Write } from "./write.js";
import { Writes } from "./writes.js";

/** Make a store. For React: `useStore(store, selector)`, or the hooks of `mai-sessions-client/react`. */
export const createSessionsStore = (options: SessionsStoreOptions = {}): StoreApi<SessionsState> =>
  createStore(sessionsStateCreator(options));

/** The state creator of such a store, for middleware and own fields around it. One is for one store. */
export const sessionsStateCreator =
  (options: SessionsStoreOptions = {}): StateCreator<SessionsState> =>
  (set, get) => {
    const {
      retryFor = 300_000,
      updateInterval = 300,
      undoFor = 10_000,
      outbox: name = "mai-sessions-outbox",
    } = options;
    const { client = createClient({ ...options, retryFor: 10_000 }) } = options;
    /** The state is not there before this function returns. */
    let isReady = false;
    /** The sessions that were shown last: one of them that is missing now has left. */
    let shown = new Set<string>();

    const report = (lastError: Failure) => set({ lastError });
    const failed = (action: Failure["action"], sessionId: string | null, error: unknown) =>
      report({ id: uuid(), action, sessionId, messageId: null, content: null, error });
    const writes: Writes = new Writes({
      send: createSend(client, retryFor),
      load: (load, onRetry) => loads.run(load, onRetry),
      retryFor,
      updateInterval,
      changed: publish,
      confirmed(write) {
        if (write.action === "deleteSession") {
          loads.gone.add(write.sessionId);
          writes.discard(write.sessionId);
        }
        keeper.confirmed(write);
      },
      failed: report,
    });
    const loads: Loads = new Loads({ client, writes, retryFor, changed: publish, failed });
    const slicer = new Slicer(writes, loads);
    const keeper = keep(name, client.baseUrl, writes, loads, () => get());

    function publish() {
      if (!isReady) return;
      const before = get();
      const slices = slicer.slices();
      const changed = Object.entries(slices).filter(
        ([key, value]) => before[key as keyof SessionsState] !== value,
      );
      const now = new Set([...slices.sessions, ...slices.archived].map(({ id }) => id));
      const active = before.activeSessionId;
      const hasLeft = active !== null && !now.has(active) && (shown.has(active) || loads.gone.has(active));
      shown = now;
      if (changed.length) set(Object.fromEntries(changed));
      if (before.lastError && writes.isSettled(before.lastError)) set({ lastError: null });
      if (hasLeft) get().setActiveSession(slices.sessions[0]?.id ?? null);
      keeper.changed();
    }

    const actions = actionsOf({ client, writes, loads, undoFor, set, get, failed, close: keeper.close });
    keeper.restore();
    isReady = true;
    return { ...slicer.slices(), activeSessionId: null, lastError: null, found: null, ...actions };
  };

/** The messages of a session, for a selector: the same empty list for each session that has none. */
export const messagesOf = ({ messages }: SessionsState, id: string | null): Message[] =>
  (id !== null && messages[id]) || NO_MESSAGES;

/** How long after a change what is unconfirmed is saved, and after one in another tab it is fetched, in milliseconds. */
const SAVE_AFTER = 500;
const REFRESH_AFTER = 1000;
/** How old what is shown may be when somebody comes back to the page, in milliseconds. */
const FRESH_FOR = 5000;

/** Keep what is unconfirmed in the outbox, and what is shown in step with other tabs. */
function keep(name: string | null, baseUrl: string, writes: Writes, loads: Loads, get: () => SessionsState) {
  const outbox = name === null ? null : new Outbox(name);
  let saveTimer: ReturnType<typeof setTimeout> | undefined;
  let refreshTimer: ReturnType<typeof setTimeout> | undefined;
  let isSaving = false;
  let refreshedAt = Date.now();
  /** Whether another tab has written something that is not shown yet. */
  let isBehind = false;

  const page = linkPage(`mai-sessions ${baseUrl} ${name}`, {
    hidden: () => save(),
    // The next page cannot go on with an answer that is streaming.
    left: () => save([...writes.unconfirmed, ...writes.interruptions]),
    seen() {
      for (const { failure } of writes.failed)
        if (failure.error instanceof NetworkError) writes.retry(failure.id);
      if (isBehind || Date.now() - refreshedAt > FRESH_FOR) refresh();
    },
    changed(sessionId, isGone) {
      if (isGone) loads.lose(sessionId);
      else loads.expire(sessionId);
      isBehind = true;
      if (!page.isHidden()) refreshTimer ??= setTimeout(refresh, REFRESH_AFTER);
    },
  });

  function save(entries = writes.unconfirmed) {
    clearTimeout(saveTimer);
    [saveTimer, isSaving] = [undefined, false];
    outbox?.save(entries);
  }

  function refresh() {
    clearTimeout(refreshTimer);
    refreshTimer = undefined;
    [refreshedAt, isBehind] = [Date.now(), false];
    const { loadSessions, activeSessionId } = get();
    loads.expireAll();
    // When it fails, `lastError` says so.
    (loads.open.loaded ? loadSessions() : loads.refresh(activeSessionId)).catch(() => undefined);
  }

  return {
    restore() {
      for (const { write, followers, error, after } of outbox?.restore() ?? []) {
        if (error) writes.fail(write, followers, error, after);
        else writes.add(write);
      }
      writes.rebuild();
    },
    changed() {
      if (outbox && (writes.queue.writes.length || writes.failed.length || outbox.isFilled))
        saveTimer ??= setTimeout(() => save(), SAVE_AFTER);
    },
    confirmed({ sessionId, action }: Write) {
      // What is saved must not be older than what the service has, or the next page would write it over that.
      if (outbox?.isFilled && !isSaving) queueMicrotask(() => save());
      isSaving = outbox?.isFilled ?? false;
      page.tell(sessionId, action === "deleteSession");
    },
    close() {
      clearTimeout(saveTimer);
      clearTimeout(refreshTimer);
      page.close();
    },
  };
}
