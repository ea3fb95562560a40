/** `useChat` with a stub model: a turn with everything, edit, regenerate, branches there and back, reload. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach } from "node:test";
import type { UIMessage } from "ai";
import type { useChat } from "@ai-sdk/react";
import type { Browser, BrowserContext, Page } from "playwright-core";
import type { ChatHistory } from "../src/ai-sdk.js";
import { createClient } from "../src/index.js";
import { Service } from "../test/service.js";
import { launch, newContext, Nginx, Pages, skip, test } from "./harness.js";
import { PDF, PNG } from "./media.js";

declare global {
  interface Window {
    chat: ReturnType<typeof useChat>;
    kept: ChatHistory<UIMessage>;
  }
}

let pages: Pages;
let service: Service;
let nginx: Nginx;
let browser: Browser;
let context: BrowserContext;
let page: Page;

before(async () => {
  if (skip) return;
  pages = await Pages.start("ai-sdk-page.tsx");
  service = await Service.start();
  nginx = await Nginx.start(service.origin, pages.origin);
  browser = await launch();
});

after(async () => {
  if (skip) return;
  await browser.close();
  await nginx.stop();
  await service.stop();
  pages.stop();
});

beforeEach(async () => {
  if (skip) return;
  context = await newContext(browser);
  page = await context.newPage();
});

afterEach(() => context?.close());

const open = async (chatId: string) => {
  await page.goto(`${nginx.origin}/?chat=${chatId}`);
  await page.locator("main[data-status=ready]").waitFor();
};
const shown = () => page.evaluate(() => window.chat.messages);
const texts = (messages: UIMessage[]) =>
  messages.map(({ parts }) => parts.map((part) => (part.type === "text" ? part.text : "")).join(""));
/** Links in place of what they lead to. */
const withoutLinks = (messages: UIMessage[]) =>
  JSON.parse(
    JSON.stringify(messages).replace(/"(data:[^"]*|[^"]*\/api\/v1\/attachments\/[^"]*)"/g, '"a link"'),
  );
/** Wait until an answer is shown completely. */
const said = (text: string) =>
  page.waitForFunction((text) => {
    const { messages, status } = window.chat;
    return status === "ready" && messages.at(-1)?.parts.some((part) => "text" in part && part.text === text);
  }, text);
/** Wait until all is stored. */
const settled = (chatId: string) =>
  page.evaluate(async (chatId) => window.kept.save(chatId, window.chat.messages), chatId);

test("a turn with reasoning, tools, a source and files is the same after a reload", async () => {
  const chatId = "chat-one";
  await open(chatId);
  await page.evaluate(
    ([PNG, PDF]) =>
      window.chat.sendMessage({
        text: "What is the weather?",
        files: [
          { type: "file", mediaType: "image/png", url: PNG! },
          { type: "file", mediaType: "application/pdf", filename: "report.pdf", url: PDF! },
        ],
      }),
    [PNG, PDF],
  );
  await said("answer 1 to What is the weather?");
  await settled(chatId);
  const before = await shown();
  assert.equal(before.length, 2);
  await page.reload();
  await page.locator("main[data-status=ready]").waitFor();
  const after = await shown();
  assert.deepEqual(withoutLinks(after), withoutLinks(before));
  const [picture, pdf] = after[0]!.parts.flatMap((part) => (part.type === "file" ? [part.url] : []));
  for (const [url, type] of [
    [picture!, "image/png"],
    [pdf!, "application/pdf"],
  ] as const) {
    const response = await fetch(new URL(url, nginx.origin));
    assert.deepEqual([response.status, response.headers.get("Content-Type")], [200, type]);
  }
  const { sessions } = await createClient({ baseUrl: service.origin }).listSessions({ search: "weather" });
  assert.equal(sessions[0]?.title, "What is the weather?");
});

test("editing and regenerating make branches, there and back, also after a reload", async () => {
  const chatId = crypto.randomUUID();
  await open(chatId);
  await page.evaluate(() => window.chat.sendMessage({ text: "one" }));
  await said("answer 1 to one");
  await page.evaluate(() => window.chat.regenerate());
  await said("answer 2 to one");
  const { id: question } = (await shown())[0]!;
  await page.evaluate((messageId) => window.chat.sendMessage({ text: "two", messageId }), question);
  await said("answer 3 to two");
  await settled(chatId);
  assert.deepEqual(texts(await shown()), ["two", "answer 3 to two"]);

  const siblings = (messageId: string) =>
    page.evaluate(([chatId, messageId]) => window.kept.siblings(chatId!, messageId!), [chatId, messageId]);
  const switchTo = (storedId: string) =>
    page.evaluate(
      async ([chatId, storedId]) =>
        window.chat.setMessages(await window.kept.switchBranch(chatId!, storedId!)),
      [chatId, storedId],
    );
  const questions = await siblings(question);
  assert.equal(questions.length, 2);
  await switchTo(questions[0]!);
  assert.deepEqual(texts(await shown()), ["one", "answer 2 to one"]);
  const answers = await siblings((await shown())[1]!.id);
  assert.equal(answers.length, 2);
  await switchTo(answers[0]!);
  assert.deepEqual(texts(await shown()), ["one", "answer 1 to one"]);
  await page.reload();
  await page.locator("main[data-status=ready]").waitFor();
  assert.deepEqual(texts(await shown()), ["one", "answer 1 to one"]);
  await switchTo(questions[1]!);
  assert.deepEqual(texts(await shown()), ["two", "answer 3 to two"]);
  const stored = await createClient({ baseUrl: service.origin }).listMessages(chatId, { branches: "all" });
  assert.equal(stored.length, 5);
});
