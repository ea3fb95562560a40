/** React hooks. They load what they show, again when it may have changed. */

import { createContext, createElement, type ReactNode, useContext, useEffect, useMemo } from "react";
import { useStore } from "zustand";
import type { StoreApi } from "zustand/vanilla";
import type { LoadState, MessageChange, NewMessage, SessionsState } from "./state.js";
import { messagesOf } from "./store.js";
import type { Message, Session } from "./view.js";

const Context = createContext<StoreApi<SessionsState> | null>(null);

/** Provides the store to the hooks below it. */
export function SessionsProvider({
  store,
  children,
}: {
  store: StoreApi<SessionsState>;
  children?: ReactNode;
}) {
  return createElement(Context.Provider, { value: store }, children);
}

/** The store of the nearest provider. */
export function useSessionsStore(): StoreApi<SessionsState> {
  const store = useContext(Context);
  if (!store) throw new Error("There is no <SessionsProvider> above this component");
  return store;
}

/** A part of the state. The selector must return the same object while that part has not changed. */
export const useSessionsState = <T>(selector: (state: SessionsState) => T): T =>
  useStore(useSessionsStore(), selector);

/** The sessions, newest first, and all actions. The list is loaded when the first component shows it. */
export function useSessions(): SessionsState {
  const store = useSessionsStore();
  useEffect(() => {
    // `listLoad` and `lastError` report a failure.
    if (store.getState().listLoad.status === "idle")
      store
        .getState()
        .loadSessions()
        .catch(() => undefined);
  }, [store]);
  return useStore(store);
}

export interface Messages {
  /** The shown branch. An empty list means an empty session only if `load` is `ready`. */
  messages: Message[];
  load: LoadState;
}

const IDLE: LoadState = { status: "idle" };

/** The messages of a session, loaded when the component shows them. For null: none, and `idle`. */
export function useMessages(id: string | null): Messages {
  const store = useSessionsStore();
  useEffect(() => (id === null ? undefined : store.getState().watchSession(id)), [store, id]);
  const messages = useStore(store, (state) => messagesOf(state, id));
  const load = useStore(store, (state) => (id === null ? IDLE : (state.loads[id] ?? IDLE)));
  return useMemo(() => ({ messages, load }), [messages, load]);
}

/** The result of `useChat`: a session, its messages, and the actions on them. */
export interface Chat extends Messages {
  /** undefined while it is not loaded, and if there is none. */
  session: Session | undefined;
  addMessage(message: NewMessage): string;
  updateMessage(messageId: string, change: string | MessageChange): void;
  deleteMessage(messageId: string): void;
  clearMessages(): void;
  edit(messageId: string, change: string | MessageChange): string;
  regenerate(messageId: string, answer?: MessageChange): string;
  switchBranch(messageId: string): void;
  rename(title: string): void;
  /** Sends the failed writes of a message, or of the whole session, again. */
  retry(messageId?: string): void;
  /** Forgets the failed writes of a message, or of the whole session. */
  discard(messageId?: string): void;
  /** Loads the messages again. */
  reload(): Promise<void>;
}

/** A session with its messages and the actions on them. The actions are always the same functions. */
export function useChat(id: string): Chat {
  const store = useSessionsStore();
  const shown = useMessages(id);
  const session = useStore(store, ({ sessions, archived }) =>
    [...sessions, ...archived].find((session) => session.id === id),
  );
  const actions = useMemo(() => {
    const state = store.getState();
    return {
      addMessage: (message: NewMessage) => state.addMessage(id, message),
      updateMessage: (messageId: string, change: string | MessageChange) =>
        state.updateMessage(id, messageId, change),
      deleteMessage: (messageId: string) => state.deleteMessage(id, messageId),
      clearMessages: () => state.clearMessages(id),
      edit: (messageId: string, change: string | MessageChange) => state.edit(id, messageId, change),
      regenerate: (messageId: string, answer?: MessageChange) => state.regenerate(id, messageId, answer),
      switchBranch: (messageId: string) => state.switchBranch(id, messageId),
      rename: (title: string) => state.renameSession(id, title),
      retry: (messageId = id) => state.retry(messageId),
      discard: (messageId = id) => state.discard(messageId),
      reload: () => state.loadSession(id),
    };
  }, [store, id]);
  return useMemo(() => ({ ...shown, session, ...actions }), [shown, session, actions]);
}
