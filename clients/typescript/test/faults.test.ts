/** What has lost chats: each test is one way. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import type { StoreApi } from "zustand/vanilla";
import {
  type Client,
  createClient,
  createSessionsStore,
  NetworkError,
  ProblemError,
  type SessionsState,
  type SessionsStoreOptions,
  StorageError,
  uuid,
} from "../src/index.js";
import { Outbox } from "../src/outbox.js";
import { named } from "../src/write.js";
import { type Fate, first, PNG, Proxy, Service } from "./service.js";
import { FakeStorage, withStorage } from "./storage.js";

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
const stored = async (id: string) => (await client.listMessages(id)).map((message) => message.content);
const REFUSED = "data:image/png;base64,AAAA";

test("a write that is confirmed before the list arrives does not hide its session", async () => {
  const { id } = await client.createSession({ title: "streaming" });
  const message = await client.appendMessage(id, { role: "assistant", content: "a" });
  await withStorage(new FakeStorage(), async () => {
    const body = { content: "ab" };
    const write = named({ action: "updateMessage", sessionId: id, at: 0, messageId: message.id, body });
    new Outbox("outbox").save([{ write, followers: [], error: null, after: null }]);
    store = open({ outbox: "outbox" });
    proxy.fate = async (request): Promise<Fate> => {
      if (request.url?.includes("limit=100")) await store.getState().flush();
      return "pass";
    };
    await store.getState().loadSessions();
  });
  assert.deepEqual(await stored(id), ["ab"]);
  assert(store.getState().sessions.some((session) => session.id === id));
});

test("when the selected session is removed elsewhere, the newest is selected", async () => {
  const { createSession, loadSessions, flush } = store.getState();
  const other = createSession();
  const gone = createSession();
  await flush();
  await client.deleteSession(gone);
  await loadSessions();
  assert.equal(store.getState().activeSessionId, other);
  assert.equal(store.getState().loads[other]?.status, "ready");
});

test("when the selected session does not exist, the newest is selected, or none", async () => {
  store.getState().setActiveSession(uuid());
  await store.getState().flush();
  assert.equal(store.getState().activeSessionId, null);
  const made = store.getState().createSession();
  store.getState().setActiveSession(uuid());
  await store.getState().flush();
  assert.equal(store.getState().activeSessionId, made);
});

test("a refused session stays with its messages until it is discarded", async () => {
  const { createSession, addMessage, discard, flush } = store.getState();
  const other = createSession();
  const id = createSession({ title: "x".repeat(256) });
  addMessage(id, { role: "user", content: "kept" });
  await flush();
  const { sessions, messages, activeSessionId, lastError, loads } = store.getState();
  assert.equal(sessions.find((session) => session.id === id)?.failure, lastError);
  assert.deepEqual([lastError?.action, lastError?.content, activeSessionId], ["createSession", "kept", id]);
  assert.deepEqual(
    messages[id]?.map(({ content }) => content),
    ["kept"],
  );
  assert.equal(loads[id]?.status, "ready");
  discard(id);
  assert.deepEqual([store.getState().activeSessionId, store.getState().messages[id]], [other, undefined]);
});

test("a session whose creation is refused is made when its title is mended", async () => {
  const { createSession, addMessage, renameSession, flush } = store.getState();
  const id = createSession({ title: "x".repeat(256) });
  await flush();
  addMessage(id, { role: "user", content: "one" });
  await flush();
  renameSession(id, "short");
  addMessage(id, { role: "user", content: "two" });
  await flush();
  assert.deepEqual([await stored(id), store.getState().failures], [["one", "two"], []]);
  assert.equal((await client.getSession(id)).title, "short");
});

test("a session that is not loaded differs from an empty one", async () => {
  const { id } = await client.createSession();
  for (let n = 0; n < 10; n++) await client.appendMessage(id, { role: "user", content: `${n}` });
  const { setActiveSession, watchSession, loadSessions, flush } = store.getState();
  assert.deepEqual([store.getState().loaded, store.getState().listLoad.status], [false, "idle"]);
  assert.equal(store.getState().messages[id], undefined);
  setActiveSession(id);
  const { messages, loads } = store.getState();
  assert.deepEqual([messages[id], loads[id]], [[], { status: "loading" }]);
  const other = (await client.createSession()).id;
  watchSession(other);
  assert.equal(
    store.getState().messages[other],
    messages[id],
    "the same empty list for all, as selectors need",
  );
  const listed = loadSessions();
  assert.equal(store.getState().listLoad.status, "loading");
  await Promise.all([listed, flush()]);
  assert.deepEqual([store.getState().loaded, store.getState().listLoad.status], [true, "ready"]);
  assert.deepEqual(
    [store.getState().messages[id]?.length, store.getState().loads[id]],
    [10, { status: "ready" }],
  );
  assert.deepEqual(
    [store.getState().messages[other], store.getState().loads[other]],
    [[], { status: "ready" }],
  );
});

test("a load that fails is repeated as long as a write, and can be asked for again", async () => {
  const { id } = await client.createSession();
  await client.appendMessage(id, { role: "user", content: "there" });
  store = open({ retryFor: 600 });
  proxy.fate = () => 503;
  store.getState().setActiveSession(id);
  await store.getState().flush();
  assert(proxy.requests.length > 1);
  const { loads, lastError } = store.getState();
  assert.equal(loads[id]?.status, "error");
  assert.equal(lastError?.action, "loadSession");
  proxy.fate = () => "pass";
  await store.getState().loadSession(id);
  assert.equal(store.getState().loads[id]?.status, "ready");
  assert.equal(store.getState().messages[id]?.length, 1);
});

test("a message with a refused picture stays with its reason, and later ones are stored", async () => {
  const { createSession, addMessage, updateMessage, retry, discard, flush } = store.getState();
  const id = createSession();
  addMessage(id, { role: "user", content: "before" });
  const one = addMessage(id, { role: "user", content: "", images: [REFUSED] });
  updateMessage(id, one, "written meanwhile");
  addMessage(id, { role: "user", content: "after" });
  const two = addMessage(id, { role: "user", content: "second", images: [REFUSED] });
  await flush();
  const shown = () =>
    store.getState().messages[id]!.map(({ content, failure }) => [content, failure?.messageId ?? null]);
  assert.deepEqual(shown(), [
    ["before", null],
    ["written meanwhile", one],
    ["after", null],
    ["second", two],
  ]);
  assert.deepEqual(await stored(id), ["before", "after"]);
  const { failures } = store.getState();
  assert.deepEqual(
    failures.map(({ messageId, content }) => [messageId, content]),
    [
      [one, "written meanwhile"],
      [two, "second"],
    ],
  );
  assert(failures.every(({ error }) => error instanceof ProblemError && error.status === 422));

  retry(one);
  await flush();
  assert.equal(store.getState().failures.length, 2);
  discard(one);
  updateMessage(id, two, "the reason is known");
  assert.deepEqual(shown(), [
    ["before", null],
    ["after", null],
    ["the reason is known", two],
  ]);
  discard(two);
  assert.deepEqual([shown().length, store.getState().failures, store.getState().lastError], [2, [], null]);
});

test("an update that is refused stays with its reason, and goes when it is discarded", async () => {
  const { createSession, addMessage, updateMessage, discard, flush } = store.getState();
  const id = createSession();
  const message = addMessage(id, { role: "assistant", content: "as stored" });
  await flush();
  updateMessage(id, message, { content: "as changed", agentName: "x".repeat(101) });
  await flush();
  const shown = () =>
    store.getState().messages[id]?.map(({ content, failure }) => [content, failure !== null]);
  assert.deepEqual(shown(), [["as changed", true]]);
  discard(message);
  assert.deepEqual(shown(), [["as stored", false]]);
});

test("text that is cut through an emoji is stored without the half", async () => {
  const { createSession, addMessage, flush } = store.getState();
  const id = createSession({ title: "Hello 😀".slice(0, 7) });
  addMessage(id, { role: "user", content: "a\ud83d b\0" });
  await flush();
  assert.equal(store.getState().lastError, null);
  assert.deepEqual([(await client.getSession(id)).title, await stored(id)], ["Hello ", ["a\ufffd b\ufffd"]]);
});

test("a message that does not fit into the storage loses no other write, and fails visibly", async () => {
  const storage = new FakeStorage(20_000);
  await withStorage(storage, async () => {
    const at = Date.now();
    const sessionId = uuid();
    const message = (content: string, images: string[] = []) =>
      named({
        action: "addMessage",
        sessionId,
        at,
        messageId: uuid(),
        body: { role: "user", content, images },
      });
    const writes = [
      named({ action: "createSession", sessionId, at, body: {} }),
      message("one"),
      message("large", [`data:image/png;base64,${"A".repeat(30_000)}`]),
      message("two", [PNG]),
    ];
    assert.equal(
      new Outbox("outbox").save(writes.map((write) => ({ write, followers: [], error: null, after: null }))),
      1,
    );
    store = open({ outbox: "outbox" });
    await store.getState().flush();
    assert.deepEqual(await stored(sessionId), ["one", "two"]);
    const [failure] = store.getState().failures;
    assert(failure?.error instanceof StorageError);
    assert.deepEqual([failure.action, failure.content], ["addMessage", "large"]);
  });
});

test("ids need no secure context", async () => {
  const { randomUUID } = crypto;
  Object.defineProperty(crypto, "randomUUID", { value: undefined, configurable: true });
  try {
    const id = store.getState().createSession();
    store.getState().addMessage(id, { role: "user", content: "over plain HTTP" });
    await store.getState().flush();
    assert.deepEqual(await stored(id), ["over plain HTTP"]);
  } finally {
    Object.defineProperty(crypto, "randomUUID", { value: randomUUID, configurable: true });
  }
});

test("an upload that takes longer than the timeout arrives at the first attempt", async () => {
  const { id } = await client.createSession();
  const impatient = createClient({ baseUrl: proxy.origin, timeout: 2000 });
  proxy.uploadDelay = 200;
  await impatient.appendMessage(id, { role: "user", content: "x".repeat(1_000_000) });
  assert.equal(proxy.of("POST").length, 1);
});

test("a service that is silent is given up after the timeout", async () => {
  const impatient = createClient({ baseUrl: proxy.origin, timeout: 100, retryFor: 0 });
  proxy.fate = () => new Promise(() => undefined);
  await assert.rejects(impatient.listSessions(), NetworkError);
});

test("a new token is requested after a 401, once", async () => {
  const refusals: (string | undefined)[] = [];
  const bearer = createClient({
    baseUrl: proxy.origin,
    token: (refused) => (refusals.push(refused), `token-${refusals.length}`),
  });
  proxy.fate = first(1, "GET", 401);
  await bearer.listSessions();
  assert.deepEqual(refusals, [undefined, "token-1"]);
  proxy.fate = () => 401;
  await assert.rejects(bearer.listSessions(), { status: 401 });
  assert.equal(proxy.requests.length, 4);
});

for (const status of [400, 403, 413, 415, 431, 500]) {
  test(`${status} ends the attempts`, async () => {
    proxy.fate = () => status;
    await assert.rejects(createClient({ baseUrl: proxy.origin }).createSession(), { status });
    assert.equal(proxy.requests.length, 1);
  });
}

test("many removals go out a few at a time, and honour 429", async () => {
  const ids = await Promise.all(Array.from({ length: 60 }, async () => (await client.createSession()).id));
  let [now, most, count] = [0, 0, 0];
  proxy.refusal = async () => {
    most = Math.max(most, ++now);
    await new Promise((resolve) => setTimeout(resolve, 10));
    now--;
    return ++count % 5 ? null : 429;
  };
  const impatient = createClient({ baseUrl: proxy.origin });
  await Promise.all(ids.map((id) => impatient.deleteSession(id)));
  assert(most <= 6, `${most} at once`);
  assert.equal(proxy.requests.length, 74, "60, and every fifth is repeated");
});

test("removals of the store go out together, and can be undone before", async () => {
  const ids = await Promise.all(Array.from({ length: 5 }, async () => (await client.createSession()).id));
  store = open({ undoFor: 60_000 });
  await store.getState().loadSessions();
  const { deleteSessions, undoDelete, flush } = store.getState();
  deleteSessions(ids);
  const { undoable, sessions, status } = store.getState();
  assert.deepEqual(new Set(undoable.map(({ id }) => id)), new Set(ids));
  assert.deepEqual([sessions.filter(({ id }) => ids.includes(id)).length, status], [0, "idle"]);
  undoDelete(ids[0]!);
  await flush();
  assert.deepEqual(store.getState().undoable, []);
  assert.equal((await client.getSession(ids[0]!)).id, ids[0]);
  for (const id of ids.slice(1)) await assert.rejects(client.getSession(id), { status: 404 });
});
