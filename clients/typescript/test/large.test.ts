/** Sessions whose messages exceed the limit of a response. */

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createChatHistory } from "../src/ai-sdk.js";
import { createHistoryAdapter } from "../src/assistant-ui.js";
import { isTooLarge } from "../src/errors.js";
import { type Client, createClient, createSessionsStore } from "../src/index.js";
import { Service } from "./service.js";

let service: Service;
let client: Client;
/** A session of twelve messages and one that exceeds the limit by itself, and its other branch. */
let id: string;
const texts = [...Array.from({ length: 12 }, (_, n) => `${n} ${"x".repeat(600)}`), "y".repeat(20_000)];
const other = "another answer";

before(async () => {
  service = await Service.start({ MAI_SESSIONS_MAX_RESPONSE: "6000" });
  client = createClient({ baseUrl: service.origin });
  ({ id } = await client.createSession());
  let parent_id: string | null = null;
  for (const content of texts)
    ({ id: parent_id } = await client.appendMessage(id, { role: "user", content }));
  const { parent_id: before } = await client.getMessage(id, parent_id!);
  await client.appendMessage(id, { role: "assistant", content: other, parent_id: before });
});
after(() => service.stop());

const contents = (messages: { content: string }[]) => messages.map(({ content }) => content);

test("messages are read in pages that fit", async () => {
  await assert.rejects(client.getSession(id), isTooLarge);
  const pages: number[] = [];
  const read: string[] = [];
  for await (const page of client.messagePages(id, { branches: "all" })) {
    pages.push(page.length);
    read.push(...contents(page));
  }
  assert.deepEqual(read, [...texts, other]);
  assert(Math.max(...pages) > 1);
});

test("a session is read with the messages of its branch, or of all", async () => {
  const shown = await client.readSession(id);
  assert.deepEqual(contents(shown.messages), [...texts.slice(0, -1), other]);
  const all = await client.readSession(id, { branches: "all" });
  assert.deepEqual([all.head_id, contents(all.messages)], [shown.head_id, [...texts, other]]);
  const [first] = shown.messages;
  assert.deepEqual(
    contents((await client.readSession(id, { head_id: first!.id })).messages),
    texts.slice(0, 1),
  );
  const { id: empty } = await client.createSession();
  assert.deepEqual((await client.readSession(empty)).messages, []);
});

test("another error of a page does not make the pages smaller", async () => {
  const pages = client.messagePages(id, { head_id: crypto.randomUUID() });
  await assert.rejects(pages.next(), { status: 422 });
  await assert.rejects(client.messagePages(crypto.randomUUID()).next(), { status: 404 });
});

test("the store and the histories read a large session", async () => {
  const store = createSessionsStore({ baseUrl: service.origin });
  await store.getState().loadSession(id);
  assert.equal(store.getState().messages[id]?.length, texts.length);
  store.getState().close();

  const thread = { getState: () => ({ remoteId: id }), initialize: async () => ({ remoteId: id }) };
  const { messages } = await createHistoryAdapter(client, () => thread).load();
  assert.equal(messages.length, texts.length + 1);

  assert.equal((await createChatHistory({ client }).load(id)).length, texts.length);
});
