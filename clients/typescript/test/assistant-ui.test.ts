import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ThreadMessage } from "@assistant-ui/react";
import { createHistoryAdapter } from "../src/assistant-ui.js";
import { type Client, createClient } from "../src/index.js";
import { Proxy, Service } from "./service.js";

let service: Service;
let proxy: Proxy;
let client: Client;

before(async () => {
  service = await Service.start();
});
after(() => service.stop());
beforeEach(async () => {
  proxy = await Proxy.start(service.origin);
  client = createClient({ baseUrl: proxy.origin });
});
afterEach(() => proxy.stop());

const messageOf = (id: string, role: "user" | "assistant", text: string) =>
  ({
    id,
    role,
    content: [{ type: "text", text }],
    createdAt: new Date(),
    metadata: { custom: {} },
  }) as unknown as ThreadMessage;

test("an answer appended while its question is under way is stored after it", async () => {
  const { id } = await client.createSession();
  let late = true;
  proxy.refusal = async ({ method }) => {
    if (method === "POST" && late) {
      late = false;
      await sleep(300);
    }
    return null;
  };
  const history = createHistoryAdapter(client, () => ({
    getState: () => ({ remoteId: id }),
    initialize: async () => ({ remoteId: id }),
  }));
  await Promise.all([
    history.append({ parentId: null, message: messageOf("question", "user", "why?") }),
    history.append({ parentId: "question", message: messageOf("answer", "assistant", "because") }),
  ]);
  const { headId, messages } = await history.load();
  assert.equal(headId, "answer");
  assert.deepEqual(
    messages.map(({ parentId, message }) => [parentId, message.id]),
    [
      [null, "question"],
      ["question", "answer"],
    ],
  );
});

test("messages are stored in the order of the calls, even if a thread is initialized late", async () => {
  const { id } = await client.createSession();
  let initialized = Promise.resolve();
  const history = createHistoryAdapter(client, () => ({
    getState: () => ({ remoteId: id }),
    initialize: () => initialized.then(() => ({ remoteId: id })),
  }));
  await history.append({ parentId: null, message: messageOf("question", "user", "why?") });
  initialized = sleep(100);
  await Promise.all([
    history.append({ parentId: null, message: messageOf("edited", "user", "why not?") }),
    history.append({ parentId: "question", message: messageOf("answer", "assistant", "because") }),
  ]);
  const { headId, messages } = await history.load();
  assert.equal(headId, "answer");
  assert.deepEqual(
    messages.map(({ message }) => message.id),
    ["question", "edited", "answer"],
  );
});

test("a message can be stored after its thread could not be initialized", async () => {
  const { id } = await client.createSession();
  let failures = 1;
  const history = createHistoryAdapter(client, () => ({
    getState: () => ({ remoteId: id }),
    initialize: async () => {
      if (failures-- > 0) throw new Error("offline");
      return { remoteId: id };
    },
  }));
  const item = { parentId: null, message: messageOf("question", "user", "why?") };
  await assert.rejects(history.append(item), { message: "offline" });
  await history.append(item);
  assert.equal((await history.load()).headId, "question");
});

test("an update of a message that is not stored appends it in its place", async () => {
  const { id } = await client.createSession();
  const history = createHistoryAdapter(client, () => ({
    getState: () => ({ remoteId: id }),
    initialize: async () => ({ remoteId: id }),
  }));
  await Promise.all([
    history.update!({ parentId: null, message: messageOf("question", "user", "why?") }),
    history.append({ parentId: "question", message: messageOf("answer", "assistant", "because") }),
  ]);
  await history.delete!([
    { parentId: "question", message: messageOf("answer", "assistant", "because") },
    { parentId: "question", message: messageOf("never stored", "assistant", "") },
  ]);
  const { headId, messages } = await history.load();
  assert.deepEqual([headId, messages.length], ["question", 1]);
});

test("a message that is not stored does not hold back the next", async () => {
  const { id } = await client.createSession();
  const history = createHistoryAdapter(client, () => ({
    getState: () => ({ remoteId: id }),
    initialize: async () => ({ remoteId: id }),
  }));
  const orphan = history.append({ parentId: "nobody", message: messageOf("orphan", "assistant", "?") });
  const next = history.append({ parentId: null, message: messageOf("next", "user", "hello") });
  await assert.rejects(orphan, { status: 422 });
  await next;
  const { messages } = await history.load();
  assert.deepEqual(
    messages.map(({ message }) => message.id),
    ["next"],
  );
});
