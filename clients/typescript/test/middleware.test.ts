/** The state creator inside zustand's middleware, beside own fields. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { devtools, persist, subscribeWithSelector } from "zustand/middleware";
import { createStore } from "zustand/vanilla";
import { createClient, type SessionsState, sessionsStateCreator } from "../src/index.js";

interface Own extends SessionsState {
  draft: string;
}

test("persist, devtools and own fields go around the state creator", async () => {
  const items = new Map<string, string>();
  const storage = {
    getItem: (name: string) => JSON.parse(items.get(name) ?? "null"),
    setItem: (name: string, value: unknown) => void items.set(name, JSON.stringify(value)),
    removeItem: (name: string) => void items.delete(name),
  };
  const open = () =>
    createStore<Own>()(
      devtools(
        subscribeWithSelector(
          persist(
            (set, get, api) => ({
              ...sessionsStateCreator({
                client: createClient({ baseUrl: "http://127.0.0.1:9" }),
                retryFor: 0,
              })(set, get, api),
              draft: "",
            }),
            {
              name: "own",
              storage,
              partialize: ({ activeSessionId, draft }) => ({ activeSessionId, draft }),
            },
          ),
        ),
        { enabled: false },
      ),
    );
  const store = open();
  const seen: (string | null)[] = [];
  store.subscribe(
    ({ activeSessionId }) => activeSessionId,
    (id) => seen.push(id),
  );
  const id = store.getState().createSession({ lazy: true });
  store.setState({ draft: "half a sentence" });
  assert.deepEqual(seen, [id]);
  const { activeSessionId, draft } = open().getState();
  assert.deepEqual([activeSessionId, draft], [id, "half a sentence"]);
});
