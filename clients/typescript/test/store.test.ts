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
} from "../src/index.js";
import { type Fate, PNG, Proxy, Service } from "./service.js";

let service: Service;
let proxy: Proxy;
/** What the service says itself. */
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
const contents = (id: string, of = store) => of.getState().messages[id]?.map((message) => message.content);
const stored = async (id: string) => (await client.listMessages(id)).map((message) => message.content);

/** Resolves when the state is so. */
const until = (is: (state: SessionsState) => boolean) =>
  new Promise<void>((resolve) => {
    const check = (state: SessionsState) => {
      if (!is(state)) return;
      unsubscribe();
      resolve();
    };
    const unsubscribe = store.subscribe(check);
    check(store.getState());
  });

test("each action is shown before it is sent", async () => {
  const { createSession, addMessage, renameSession, flush } = store.getState();
  const id = createSession({ agentName: "coder", modelId: "qwen" });
  addMessage(id, { role: "user", content: "hello", documents: ["a.pdf"], images: [PNG] });
  renameSession(id, "Greeting");
  assert.equal(proxy.requests.length, 0);
  const { sessions, activeSessionId, messages, pending, status } = store.getState();
  assert.equal(activeSessionId, id);
  assert.equal(pending, 3);
  assert.equal(status, "saving");
  const [session] = sessions;
  assert(session?.createdAt instanceof Date);
  assert.deepEqual(
    [session.title, session.agentName, session.modelId, session.messageCount, session.lastMessagePreview],
    ["Greeting", "coder", "qwen", 1, "hello"],
  );
  const [message] = messages[id]!;
  assert(message?.timestamp instanceof Date);
  assert.deepEqual(
    [message.role, message.images, message.documents, message.seq],
    ["user", [PNG], ["a.pdf"], null],
  );
  await flush();
});

test("a session is still there in another store", async () => {
  const { createSession, addMessage, updateMessage, renameSession, flush } = store.getState();
  const id = createSession({ modelId: "qwen" });
  addMessage(id, { role: "user", content: "hello", documents: ["a.pdf"], images: [PNG] });
  const answer = addMessage(id, { role: "assistant", content: "" });
  updateMessage(id, answer, {
    content: "Good day",
    responseTimeMs: 12.5,
    modelId: "qwen",
    agentName: "chat",
    tokenCount: 7,
  });
  updateMessage(id, answer, { isError: true });
  renameSession(id, "Greeting");
  await flush();
  const mine = store.getState();
  assert.deepEqual([mine.pending, mine.status, mine.lastError], [0, "idle", null]);

  const other = open();
  other.getState().setActiveSession(id);
  await other.getState().loadSessions();
  await other.getState().flush();
  const theirs = other.getState();
  assert.deepEqual(theirs.sessions[0], mine.sessions[0]);
  const withoutIds = (state: SessionsState) => state.messages[id]!.map(({ id, ...message }) => message);
  assert.deepEqual(withoutIds(theirs), withoutIds(mine));
  const [question, reply] = theirs.messages[id]!;
  assert.match(question!.images[0]!, /^http.*\/api\/v1\/attachments\/[0-9a-f]{64}$/);
  assert.equal((await fetch(question!.images[0]!)).headers.get("Content-Type"), "image/png");
  assert.deepEqual(
    [reply!.content, reply!.responseTimeMs, reply!.tokenCount, reply!.isError],
    ["Good day", 12.5, 7, true],
  );
});

test("writes of a session arrive once and in order, whatever answers are lost", async () => {
  const { createSession, addMessage, renameSession, flush } = store.getState();
  let number = 0;
  proxy.fate = () => (++number % 2 ? "cut" : "pass");
  const id = createSession();
  const expected = ["1", "2", "3", "4", "5"];
  for (const content of expected) addMessage(id, { role: "user", content });
  renameSession(id, "in order");
  await flush();
  assert.deepEqual(await stored(id), expected);
  assert.deepEqual(contents(id), expected);
  assert.equal((await client.getSession(id)).title, "in order");
  assert.equal(store.getState().lastError, null);
});

test("an answer that streams in is sent as a few requests, and its end arrives", async () => {
  store = open({ updateInterval: 1e9 });
  const { createSession, addMessage, updateMessage, flush } = store.getState();
  const id = createSession();
  const message = addMessage(id, { role: "assistant", content: "" });
  let content = "";
  for (let token = 0; token < 200; token++) {
    content += `${token} `;
    updateMessage(id, message, content);
    assert.deepEqual(contents(id), [content]);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await flush();
  assert(proxy.of("PATCH").length <= 2, `${proxy.of("PATCH").length} requests`);
  assert.deepEqual(await stored(id), [content]);
});

test("a write after an update is not delayed by the interval", async () => {
  store = open({ updateInterval: 1e9 });
  const { createSession, addMessage, updateMessage } = store.getState();
  const id = createSession();
  const message = addMessage(id, { role: "assistant", content: "" });
  for (const content of ["a", "ab"]) {
    updateMessage(id, message, content);
    await until((state) => state.pending === (content === "ab" ? 1 : 0));
  }
  addMessage(id, { role: "user", content: "next" });
  await until((state) => state.pending === 0);
  assert.deepEqual(await stored(id), ["ab", "next"]);
});

test("an update while another is under way is not lost", async () => {
  const { createSession, addMessage, updateMessage, flush } = store.getState();
  const id = createSession();
  const message = addMessage(id, { role: "assistant", content: "" });
  await flush();
  proxy.fate = (request) => {
    if (request.method === "PATCH" && proxy.of("PATCH").length === 1) updateMessage(id, message, "last");
    return "pass";
  };
  updateMessage(id, message, "first");
  await until((state) => state.pending === 0);
  assert.deepEqual(contents(id), ["last"]);
  assert.deepEqual(await stored(id), ["last"]);
});

test("a title that is refused is rolled back, alone", async () => {
  const { createSession, addMessage, renameSession, clearError, discard, flush } = store.getState();
  const id = createSession({ title: "kept" });
  renameSession(id, "x".repeat(256));
  addMessage(id, { role: "user", content: "good" });
  assert.equal(store.getState().sessions[0]?.title.length, 256);
  await flush();
  const { lastError, failures, sessions } = store.getState();
  assert.equal(sessions[0]?.title, "kept");
  assert.deepEqual(await stored(id), ["good"]);
  assert(lastError?.error instanceof ProblemError);
  assert.deepEqual(
    [lastError.action, lastError.sessionId, lastError.error.status],
    ["updateSession", id, 422],
  );
  assert.deepEqual(failures, [lastError]);
  clearError();
  assert.deepEqual([store.getState().lastError, store.getState().failures.length], [null, 1]);
  discard(lastError.id);
  assert.deepEqual(store.getState().failures, []);
});

test("while the service is away writes wait, and arrive once when it is back", async () => {
  const { createSession, addMessage, flush } = store.getState();
  await service.kill();
  const id = createSession();
  addMessage(id, { role: "user", content: "patience" });
  await until((state) => state.status === "retrying");
  assert.equal(store.getState().pending, 2);
  await service.restart();
  await flush();
  assert.equal(store.getState().status, "idle");
  assert.deepEqual(await stored(id), ["patience"]);
});

test("a write that does not arrive in time stays visible, and can be retried", async () => {
  store = open({ retryFor: 500 });
  const { createSession, addMessage, flush } = store.getState();
  const id = createSession();
  await flush();
  proxy.fate = () => "cut";
  addMessage(id, { role: "user", content: "late" });
  await flush();
  const { lastError, pending, status } = store.getState();
  assert(lastError?.error instanceof NetworkError);
  assert.deepEqual([pending, status, lastError.content], [0, "idle", "late"]);
  assert.deepEqual(
    store.getState().messages[id]?.map(({ content, failure }) => [content, failure]),
    [["late", lastError]],
  );
  proxy.fate = () => "pass";
  store.getState().retry(id);
  assert.deepEqual(store.getState().failures, []);
  await flush();
  assert.equal(store.getState().messages[id]?.[0]?.failure, null);
  assert.deepEqual(await stored(id), ["late"]);
});

test("deletions and messages of other clients are shown after a load", async () => {
  const { createSession, addMessage, deleteSession, loadSessions, flush } = store.getState();
  const gone = createSession();
  const id = createSession();
  const local = addMessage(id, { role: "user", content: "mine" });
  await flush();
  await client.deleteSession(gone);
  await client.appendMessage(id, { role: "assistant", content: "theirs" });
  await loadSessions();
  assert(!store.getState().sessions.some((session) => session.id === gone));
  assert.deepEqual(contents(id), ["mine", "theirs"]);
  assert.equal(store.getState().messages[id]?.[0]?.id, local, "a message keeps its id");
  deleteSession(gone);
  await flush();
  assert.equal(store.getState().lastError, null);
});

test("a list that was asked for before a write does not undo it", async () => {
  const { createSession, deleteSession, loadSessions, flush } = store.getState();
  const removed = createSession();
  await flush();
  let made = "";
  proxy.fate = async (request): Promise<Fate> => {
    if (!request.url!.includes("limit=100")) return "pass";
    made = createSession();
    deleteSession(removed);
    await flush();
    return "pass";
  };
  await loadSessions();
  const ids = store.getState().sessions.map((session) => session.id);
  assert(ids.includes(made));
  assert(!ids.includes(removed));
});

test("the list is loaded page by page", async () => {
  const known = (await client.listSessions()).total;
  for (let n = known; n < 101; n++) await client.createSession();
  const { loadSessions, loadMoreSessions } = store.getState();
  await loadSessions();
  assert.deepEqual([store.getState().sessions.length, store.getState().hasMore], [100, true]);
  await loadMoreSessions();
  assert.deepEqual([store.getState().sessions.length, store.getState().hasMore], [101, false]);
  await loadSessions();
  assert.equal(store.getState().sessions.length, 101);
});

test("a message to a session that is not loaded joins the others", async () => {
  const { id } = await client.createSession();
  await client.appendMessage(id, { role: "user", content: "before" });
  store.getState().addMessage(id, { role: "user", content: "after" });
  await store.getState().flush();
  assert.deepEqual(contents(id), ["before", "after"]);
});

test("cleared and deleted messages leave the store and the service", async () => {
  const { createSession, addMessage, clearMessages, deleteSession, flush } = store.getState();
  const older = createSession();
  const id = createSession();
  addMessage(id, { role: "user", content: "gone" });
  clearMessages(id);
  addMessage(id, { role: "user", content: "left" });
  await flush();
  assert.deepEqual(contents(id), ["left"]);
  assert.deepEqual(await stored(id), ["left"]);
  assert.equal(store.getState().sessions.find((session) => session.id === id)?.messageCount, 1);
  deleteSession(id);
  assert.equal(store.getState().activeSessionId, older);
  await flush();
  assert.equal(store.getState().messages[id], undefined);
  await assert.rejects(client.getSession(id), { status: 404 });
});

test("loading a session that does not exist fails", async () => {
  const id = crypto.randomUUID();
  await assert.rejects(store.getState().loadSession(id), { status: 404 });
  assert.equal(store.getState().lastError?.action, "loadSession");
});
