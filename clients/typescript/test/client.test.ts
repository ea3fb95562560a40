import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { type Client, createClient, etagOf, headersOf, NetworkError, ProblemError } from "../src/index.js";
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
  const session = await client.createSession();
  proxy.fate = first(1, "DELETE", "cut");
  await client.deleteSession(session.id, { ifMatch: etagOf(session) });
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
  proxy.fate = first(1, "PATCH", 503);
  const current = etagOf(await client.getSession(session.id));
  await assert.rejects(client.patchSession(session.id, { title: "third" }, { ifMatch: current }), {
    status: 503,
  });
  assert.equal((await client.getSession(session.id)).title, "third");
});

test("an earlier reply is returned if nothing has changed since", async () => {
  const { id } = await client.createSession();
  const { id: messageId } = await client.appendMessage(id, { role: "user", content: "1" });
  const reads = [
    (known?: object) => client.listSessions({}, { known: known as never }),
    (known?: object) => client.getSession(id, {}, { known: known as never }),
    (known?: object) => client.listMessages(id, {}, { known: known as never }),
    (known?: object) => client.getMessage(id, messageId, { known: known as never }),
  ];
  const earlier = await Promise.all(reads.map((read) => read()));
  for (const [n, read] of reads.entries()) assert.equal(await read(earlier[n]), earlier[n]);
  await client.patchMessage(id, messageId, { content: "2" });
  for (const [n, read] of reads.entries()) assert.notEqual(await read(earlier[n]), earlier[n]);
});

test("the headers of a reply can be read, and further ones sent", async () => {
  const { id } = await client.createSession();
  const idempotencyKey = crypto.randomUUID();
  const message = { role: "user", content: "1" } as const;
  const stored = await client.appendMessage(id, message, { idempotencyKey });
  const again = await client.appendMessage(id, message, { idempotencyKey });
  assert.deepEqual(again, stored);
  assert.equal(headersOf(again).get("Idempotency-Replayed"), "true");
  await client.appendMessage(id, { role: "user", content: "2" }, { headers: { "X-Request-ID": "mine" } });
  assert.equal(proxy.requests.at(-1)!.headers["x-request-id"], "mine");
  assert(proxy.requests.at(-1)!.headers["idempotency-key"]);
  assert.match(headersOf(await client.listMessages(id, { limit: 1 })).get("Link")!, /rel="next"/);
});

test("an existing session is refused if it must be new, but not to a repetition", async () => {
  const id = crypto.randomUUID();
  proxy.fate = first(1, "POST", "cut");
  assert.equal((await client.createSession({ id }, { onlyNew: true })).id, id);
  await assert.rejects(client.createSession({ id }, { onlyNew: true }), { status: 412 });
  assert.equal((await client.createSession({ id })).id, id);
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

test("a search goes on after its first page", async () => {
  const { id } = await client.createSession();
  const word = `word${crypto.randomUUID().slice(0, 8)}`;
  for (let n = 0; n < 3; n++) await client.appendMessage(id, { role: "user", content: `${word} ${n}` });
  const pages = [];
  for await (const results of client.searchPages({ q: word, limit: 2 })) pages.push(results.length);
  assert.deepEqual(pages, [2, 1]);
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
