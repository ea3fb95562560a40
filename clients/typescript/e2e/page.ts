/**
 * The smallest chat page: it shows the store's state. What a person would do to it, the test does to the
 * store.
 */

import type { StoreApi } from "zustand/vanilla";
import { createSessionsStore, type SessionsState } from "../src/index.js";

declare global {
  interface Window {
    store: StoreApi<SessionsState>;
  }
}

const query = new URLSearchParams(location.search);
const store = createSessionsStore({
  baseUrl: query.get("service")!,
  timeout: Number(query.get("timeout") ?? 60_000),
});
window.store = store;

function element(
  name: string,
  attributes: Record<string, string>,
  ...children: (Node | string)[]
): HTMLElement {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function show({ sessions, messages, activeSessionId }: SessionsState) {
  const list = sessions.map(({ id, title }) =>
    element("li", { id, "data-active": String(id === activeSessionId) }, title),
  );
  const active = (activeSessionId && messages[activeSessionId]) || [];
  const articles = active.map(({ role, content, images }) =>
    element("article", { "data-role": role }, content, ...images.map((src) => element("img", { src }))),
  );
  document.querySelector("ul")!.replaceChildren(...list);
  document.querySelector("main")!.replaceChildren(...articles);
}

store.subscribe(show);
show(store.getState());
addEventListener("hashchange", () => store.getState().setActiveSession(location.hash.slice(1) || null));
store.getState().setActiveSession(location.hash.slice(1) || null);
// What fails is in `lastError`.
store
  .getState()
  .loadSessions()
  .catch(() => undefined);
