import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type Client, createClient, etagOf, NetworkError, ProblemError } from "../src/index.js";
import { first, Proxy, Service } from "./service.js";

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

const keys = () => new Set(proxy.of("POST").map((request) => request.headers["idempotency-key"]));

test("an append whose answer is lost is repeated with the same key, and makes one row", async () => {
  const { id } = await client.createSession();
  proxy.requests.length = 0;
  proxy.fate = first(2, "POST", "cut");
  const message = await client.appendMessage(id, { role: "user", content: "once" });
  assert.equal(proxy.of("POST").length, 3);
  assert.equal(keys().size, 1);
  assert.deepEqual(await client.listMessages(id), [message]);
});

test("a session whose answer is lost is made once", async () => {
  const { total } = await client.listSessions();
  proxy.fate = first(1, "POST", "cut");
  await client.createSession({ title: "once" });
  assert.equal(proxy.of("POST").length, 2);
  assert.equal((await client.listSessions()).total, total + 1);
});

test("a deletion whose response is lost succeeds", async () => {
  const { id } = await client.createSession();
  proxy.fate = first(1, "DELETE", "cut");
  await client.deleteSession(id);
  assert.equal(proxy.of("DELETE").length, 2);
  await assert.rejects(client.deleteSession(id), { status: 404, detail: "Session not found" });
});

for (const status of [429, 502, 503, 504]) {
  test(`${status} is repeated`, async () => {
    const seen: unknown[] = [];
    proxy.fate = first(1, "GET", status);
    await client.listSessions(
      {},
      { onRetry: (error) => seen.push(error instanceof ProblemError && error.status) },
    );
    assert.deepEqual(seen, [status]);
  });
}

test("repetitions end after retryFor", async () => {
  proxy.fate = () => "cut";
  await assert.rejects(client.createSession({}, { retryFor: 500 }), NetworkError);
  assert.equal(keys().size, 1);
});

test("a signal ends a repeated request at once", async () => {
  proxy.fate = () => "cut";
  const controller = new AbortController();
  const aborted = client.listSessions(
    {},
    { signal: controller.signal, retryFor: 1e9, onRetry: () => controller.abort() },
  );
  await assert.rejects(aborted, { name: "AbortError" });
});

test("a refusal has a detail, and is not repeated", async () => {
  const error: unknown = await client
    .createSession({ title: "x".repeat(256) })
    .catch((error: unknown) => error);
  assert(error instanceof ProblemError);
  assert.equal(error.status, 422);
  assert.deepEqual(error.errors[0]?.loc, ["body", "title"]);
  assert(error.requestId);
  assert.equal(proxy.requests.length, 1);
});

test("a stale change is refused, and one whose outcome is unknown is not repeated", async () => {
  const session = await client.createSession();
  const ifMatch = etagOf(session);
  assert(ifMatch);
  proxy.fate = first(1, "PATCH", "cut");
  await assert.rejects(client.patchSession(session.id, { title: "first" }, { ifMatch }), NetworkError);
  await assert.rejects(client.patchSession(session.id, { title: "second" }, { ifMatch }), { status: 412 });
  assert.equal((await client.getSession(session.id)).title, "first");
});

test("a merge patch clears a field", async () => {
  const { id } = await client.createSession({ model_id: "qwen" });
  assert.equal((await client.patchSession(id, { model_id: null })).model_id, "qwen");
  assert.equal((await client.mergePatchSession(id, { model_id: null })).model_id, null);
});

test("messages are changed, removed and cleared", async () => {
  const { id } = await client.createSession();
  const one = await client.appendMessage(id, { role: "user", content: "1" });
  const two = await client.appendMessage(id, { role: "assistant", content: "2" });
  const three = await client.appendMessage(id, { role: "user", content: "3" });
  assert.equal((await client.patchMessage(id, two.id, { content: "two", is_error: true })).is_error, true);
  await client.deleteMessage(id, one.id);
  assert.deepEqual(await client.listMessages(id, { after_seq: two.seq }), [three]);
  await client.clearMessages(id);
  assert.deepEqual(await client.listMessages(id), []);
});

test("every session is on one page", async () => {
  const prefix = crypto.randomUUID();
  const made = [];
  for (let n = 0; n < 3; n++) made.push((await client.createSession({ title: `${prefix} ${n}` })).id);
  const found = [];
  for await (const sessions of client.sessionPages({ search: prefix, limit: 2 }))
    found.push(...sessions.map(({ id }) => id));
  assert.deepEqual(found, made.reverse());
});

test("the token is requested for every attempt", async () => {
  let number = 0;
  const bearer = createClient({ baseUrl: proxy.origin, token: async () => `token-${++number}` });
  proxy.fate = first(1, "GET", "cut");
  await bearer.listSessions();
  assert.deepEqual(
    proxy.requests.map((request) => request.headers.authorization),
    ["Bearer token-1", "Bearer token-2"],
  );
});

test("a stored message is found", async () => {
  const { id } = await client.createSession();
  const { id: message_id } = await client.appendMessage(id, {
    role: "user",
    content: "the <quick> brown fox",
  });
  const { results } = await client.search({ q: "quick", session_id: id });
  assert.deepEqual(
    results.map((result) => [result.message_id, result.snippet]),
    [[message_id, "the &lt;<mark>quick</mark>&gt; brown fox"]],
  );
});

test("an export gives a session with its messages", async () => {
  const { id } = await client.createSession({ title: "kept" });
  const message = await client.appendMessage(id, { role: "user", content: "hello" });
  const exported = [];
  for await (const session of client.exportSessions({ session_id: id })) exported.push(session);
  assert.deepEqual(
    exported.map(({ title, messages }) => [title, messages.map(({ id }) => id)]),
    [["kept", [message.id]]],
  );
});
