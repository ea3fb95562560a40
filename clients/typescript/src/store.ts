/**
 * A zustand store of sessions and messages. It shows every change at once, and sends it until the service has
 * stored it once.
 */

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

/** The state creator, for middleware and own fields. Each is for one store. */
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
    /** Before this function returns, `get` has no state. */
    let isReady = false;
    /** The ids of the sessions in the last published state. */
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

/** The messages of a session, for a selector: without messages always the same empty list. */
export const messagesOf = ({ messages }: SessionsState, id: string | null): Message[] =>
  (id !== null && messages[id]) || NO_MESSAGES;

/** Milliseconds from a change to its save in the outbox. */
const SAVE_AFTER = 500;
/** Milliseconds from a write of another tab to a refresh. */
const REFRESH_AFTER = 1000;
/** The age in milliseconds from which a page that is visible again is refreshed. */
const FRESH_FOR = 5000;

/** Save unconfirmed writes in the outbox, and refresh after writes of other tabs. */
function keep(name: string | null, baseUrl: string, writes: Writes, loads: Loads, get: () => SessionsState) {
  const outbox = name === null ? null : new Outbox(name);
  const refresher = refresherOf(loads, get);
  let saveTimer: ReturnType<typeof setTimeout> | undefined;
  let isSaving = false;

  const page = linkPage(`mai-sessions ${baseUrl} ${name}`, {
    hidden: () => save(),
    // The next page cannot continue an answer that is streaming.
    left: () => save([...writes.unconfirmed, ...writes.interruptions]),
    seen() {
      for (const { failure } of writes.failed)
        if (failure.error instanceof NetworkError) writes.retry(failure.id);
      refresher.refreshIfOld();
    },
    changed(sessionId, isGone) {
      if (isGone) loads.lose(sessionId);
      else loads.expire(sessionId);
      refresher.refreshLater(!page.isHidden());
    },
  });

  function save(entries = writes.unconfirmed) {
    clearTimeout(saveTimer);
    [saveTimer, isSaving] = [undefined, false];
    outbox?.save(entries);
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
      // The next page would overwrite what the service has stored with older content of the outbox.
      if (outbox?.isFilled && !isSaving) queueMicrotask(() => save());
      isSaving = outbox?.isFilled ?? false;
      page.tell(sessionId, action === "deleteSession");
    },
    close() {
      clearTimeout(saveTimer);
      refresher.close();
      page.close();
    },
  };
}

/** Loads what is shown again, after a write of another tab or after some time. */
function refresherOf(loads: Loads, get: () => SessionsState) {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let refreshedAt = Date.now();
  /** Whether another tab has written since the last refresh. */
  let isBehind = false;

  function refresh() {
    clearTimeout(timer);
    timer = undefined;
    [refreshedAt, isBehind] = [Date.now(), false];
    const { loadSessions, activeSessionId } = get();
    loads.expireAll();
    // `lastError` reports a failure.
    (loads.open.loaded ? loadSessions() : loads.refresh(activeSessionId)).catch(() => undefined);
  }

  return {
    refreshIfOld() {
      if (isBehind || Date.now() - refreshedAt > FRESH_FOR) refresh();
    },
    /** Refresh after a moment if the page is visible, otherwise when it is visible again. */
    refreshLater(isVisible: boolean) {
      isBehind = true;
      if (isVisible) timer ??= setTimeout(refresh, REFRESH_AFTER);
    },
    close: () => clearTimeout(timer),
  };
}
