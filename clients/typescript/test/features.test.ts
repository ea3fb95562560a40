/** Branches, structured messages, archive, search and batches of the store. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { StoreApi } from "zustand/vanilla";
import {
  type Client,
  createClient,
  createSessionsStore,
  etagOf,
  type SessionsState,
  type SessionsStoreOptions,
} from "../src/index.js";
import { first, PNG, Proxy, Service } from "./service.js";

let service: Service;
let proxy: Proxy;
let client: Client;
let store: StoreApi<SessionsState>;

before(async () => {
  service = await Service.start();
});
after(() => service.stop());
beforeEach(async () => {
  proxy = await Proxy.start(service.origin);
  client = createClient({ baseUrl: service.origin });
  store = open();
});
afterEach(() => proxy.stop());

const open = (options: SessionsStoreOptions = {}) =>
  createSessionsStore({ baseUrl: proxy.origin, undoFor: 0, ...options });
const contents = (id: string, of = store) => of.getState().messages[id]?.map(({ content }) => content);
/** Another store, as after a reload. */
async function reloaded(id: string): Promise<StoreApi<SessionsState>> {
  const other = open();
  other.getState().setActiveSession(id);
  await other.getState().flush();
  return other;
}

test("a message keeps its id, parts, metadata and status, here and elsewhere", async () => {
  const { createSession, addMessage, updateMessage, flush } = store.getState();
  const id = createSession({ metadata: { pinned: true, tags: ["a"] } });
  const parts = [
    { type: "reasoning", text: "thinking" },
    { type: "text", text: "first" },
    { type: "text", text: "second", order: { b: 1, a: [1.5, null] } },
  ];
  const messageId = addMessage(id, {
    role: "assistant",
    parts,
    metadata: { usage: { tokens: 3 } },
    status: "streaming",
  });
  assert.deepEqual(contents(id), ["first\n\nsecond"]);
  updateMessage(id, messageId, { metadata: { feedback: "good" }, status: "complete" });
  await flush();
  const [message] = store.getState().messages[id]!;
  assert.deepEqual((await reloaded(id)).getState().messages[id], [message]);
  assert.deepEqual(
    [message!.id, message!.parts, message!.metadata, message!.status, message!.content],
    [messageId, parts, { usage: { tokens: 3 }, feedback: "good" }, "complete", "first\n\nsecond"],
  );
  assert.deepEqual(store.getState().sessions[0]?.metadata, { pinned: true, tags: ["a"] });
});

test("editing and regenerating make branches, there and back", async () => {
  const { createSession, addMessage, edit, regenerate, updateMessage, switchBranch, flush } =
    store.getState();
  const id = createSession();
  const question = addMessage(id, { role: "user", content: "one", images: [PNG] });
  const answer = addMessage(id, { role: "assistant", content: "answer 1" });
  await flush();
  const second = regenerate(id, answer);
  assert.deepEqual(contents(id), ["one", ""]);
  updateMessage(id, second, { content: "answer 2", status: "complete" });
  const edited = edit(id, question, "two");
  addMessage(id, { role: "assistant", content: "answer 3" });
  assert.deepEqual(contents(id), ["two", "answer 3"]);
  await flush();
  assert.deepEqual([store.getState().lastError, contents(id)], [null, ["two", "answer 3"]]);
  const [head] = store.getState().messages[id]!;
  assert.deepEqual(head!.siblings, [question, edited]);
  assert.equal(head!.images.length, 1, "what is not given is as in the old one");

  switchBranch(id, question);
  assert.deepEqual(contents(id), ["one", "answer 2"]);
  assert.deepEqual(store.getState().messages[id]![1]!.siblings, [answer, second]);
  switchBranch(id, answer);
  assert.deepEqual(contents(id), ["one", "answer 1"]);
  await flush();
  const other = await reloaded(id);
  assert.deepEqual(contents(id, other), ["one", "answer 1"]);
  assert.deepEqual(other.getState().messages[id], store.getState().messages[id]);
  addMessage(id, { role: "user", content: "on" });
  await flush();
  assert.deepEqual(
    (await client.listMessages(id)).map(({ content }) => content),
    ["one", "answer 1", "on"],
  );
  assert.equal(store.getState().sessions[0]?.messageCount, 6);
});

test("a deleted message leaves the messages after it", async () => {
  const { createSession, addMessage, deleteMessage, flush } = store.getState();
  const id = createSession();
  const [one] = ["one", "two", "three"].map((content) => addMessage(id, { role: "user", content }));
  const [, two] = store.getState().messages[id]!;
  deleteMessage(id, two!.id);
  assert.deepEqual(contents(id), ["one", "three"]);
  await flush();
  assert.deepEqual([contents(id), store.getState().messages[id]![1]!.parentId], [["one", "three"], one]);
  assert.deepEqual(contents(id, await reloaded(id)), ["one", "three"]);
  deleteMessage(id, store.getState().messages[id]![1]!.id);
  await flush();
  assert.deepEqual(
    [store.getState().sessions[0]?.lastMessagePreview, store.getState().sessions[0]?.messageCount],
    ["one", 1],
  );
});

test("archived sessions leave the list, and come back", async () => {
  const { createSession, archiveSessions, archiveSession, loadSessions, flush } = store.getState();
  const ids = [createSession({ title: "a" }), createSession({ title: "b" }), createSession({ title: "c" })];
  await flush();
  proxy.requests.length = 0;
  archiveSessions(ids.slice(0, 2));
  assert.deepEqual(new Set(store.getState().archived.map(({ title }) => title)), new Set(["a", "b"]));
  await flush();
  assert.equal(proxy.requests.length, 1);
  const other = open();
  await Promise.all([other.getState().loadSessions(), other.getState().loadArchived()]);
  const shown = other.getState();
  assert(shown.sessions.every(({ archived }) => !archived) && shown.sessions.some(({ id }) => id === ids[2]));
  assert.deepEqual(new Set(shown.archived.map(({ id }) => id)), new Set(ids.slice(0, 2)));
  archiveSession(ids[0]!, false);
  await flush();
  await loadSessions();
  assert(store.getState().sessions.some(({ id }) => id === ids[0]));
});

test("many removals are one request", async () => {
  const { createSession, deleteSessions, flush } = store.getState();
  const ids = Array.from({ length: 20 }, () => createSession());
  await flush();
  proxy.requests.length = 0;
  proxy.fate = first(1, "POST", "cut");
  deleteSessions(ids);
  await flush();
  assert.deepEqual(
    proxy.requests.map(({ method, url }) => `${method} ${url}`),
    Array(2).fill("POST /api/v1/sessions/batch"),
  );
  for (const id of ids) await assert.rejects(client.getSession(id), { status: 404 });
});

test("a lazy session is stored with its first message, and only one is empty", async () => {
  const { createSession, addMessage, deleteSession, flush } = store.getState();
  createSession({ lazy: true });
  const id = createSession({ lazy: true });
  await flush();
  const { sessions, pending, status, loads, messages } = store.getState();
  assert.deepEqual([sessions.length, pending, status, proxy.requests.length], [1, 0, "idle", 0]);
  assert.deepEqual([loads[id]?.status, messages[id]], ["ready", []]);
  addMessage(id, { role: "user", content: "now" });
  await flush();
  assert.equal((await client.getSession(id)).message_count, 1);
  const unwanted = createSession({ lazy: true });
  deleteSession(unwanted);
  await flush();
  assert.deepEqual(
    store.getState().sessions.map((session) => session.id),
    [id],
  );
  await assert.rejects(client.getSession(unwanted), { status: 404 });
});

test("an answer takes the agent and the model of its session", async () => {
  const { createSession, addMessage, flush } = store.getState();
  const id = createSession({ agentName: "coder", modelId: "qwen" });
  addMessage(id, { role: "user", content: "question" });
  addMessage(id, { role: "assistant", content: "answer" });
  addMessage(id, { role: "assistant", content: "other", modelId: "llama" });
  await flush();
  const stored = await client.listMessages(id);
  assert.deepEqual(
    stored.map(({ agent_name, model_id }) => [agent_name, model_id]),
    [
      [null, null],
      ["coder", "qwen"],
      ["coder", "llama"],
    ],
  );
});

test("a search shows what was found for the last query", async () => {
  const { createSession, addMessage, search, flush } = store.getState();
  const id = createSession({ title: "zebra" });
  addMessage(id, { role: "user", content: "the quick okapi" });
  await flush();
  await Promise.all([search("zebra"), search("okapi")]);
  const { found } = store.getState();
  assert.deepEqual([found?.query, found?.load.status, found?.hasMore], ["okapi", "ready", false]);
  assert.deepEqual(
    found?.results.map(({ session }) => session.id),
    [id],
  );
  await search(" ");
  assert.equal(store.getState().found, null);
});

test("messages that are appended together are there together, once, also under a condition", async () => {
  const session = await client.createSession();
  const cut = createClient({ baseUrl: proxy.origin });
  proxy.fate = first(1, "POST", "cut");
  const messages = [
    { role: "user" as const, content: "one" },
    { role: "assistant" as const, content: "two" },
  ];
  const ifMatch = etagOf(session);
  const reply = await cut.appendMessages(session.id, messages, { title: "Together" }, { ifMatch });
  assert.equal(proxy.of("POST").length, 2);
  assert.deepEqual(
    [reply.messages.length, reply.session.title, reply.session.message_count],
    [2, "Together", 2],
  );
  await assert.rejects(cut.appendMessages(session.id, messages, {}, { ifMatch }), { status: 412 });
  assert.equal((await client.listMessages(session.id)).length, 2);
});
