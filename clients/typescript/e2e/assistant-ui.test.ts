/**
 * assistant-ui's own runtime with a stub model: a turn with everything, edit, regenerate, branches, archive,
 * reload.
 */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach } from "node:test";
import type { AssistantRuntime } from "@assistant-ui/react";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { type Client, createClient } from "../src/index.js";
import { Service } from "../test/service.js";
import { launch, newContext, Nginx, Pages, skip, test, until } from "./harness.js";
import { PDF, PNG } from "./media.js";

declare global {
  interface Window {
    runtime: AssistantRuntime;
  }
}

let pages: Pages;
let service: Service;
let nginx: Nginx;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let client: Client;

before(async () => {
  if (skip) return;
  pages = await Pages.start("assistant-ui-page.tsx");
  service = await Service.start();
  client = createClient({ baseUrl: service.origin });
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
  await page.goto(nginx.origin);
  await page.waitForFunction(() => window.runtime?.threads.getState().isLoading === false);
});

afterEach(() => context?.close());

const texts = () =>
  page.evaluate(() => {
    const { messages } = window.runtime.thread.getState();
    return messages.map(({ content }) =>
      content.map((part) => (part.type === "text" ? part.text : "")).join(""),
    );
  });
/** Wait for the text of the last message that is shown. */
async function said(text: string): Promise<void> {
  const shown = page.waitForFunction((text) => {
    const { messages, isRunning } = window.runtime.thread.getState();
    const part = messages.at(-1)?.content.at(-1);
    return !isRunning && part?.type === "text" && part.text === text;
  }, text);
  await shown.catch(async (error) => {
    const [thread, list] = await page.evaluate(() => [
      JSON.stringify(window.runtime.thread.getState().messages.map(({ content }) => content.at(-1))),
      JSON.stringify(window.runtime.threads.getState()),
    ]);
    throw new Error(`"${text}" is not shown, but ${thread} in ${list}`, { cause: error });
  });
}
const remoteId = () => page.evaluate(() => window.runtime.threads.mainItem.getState().remoteId!);
/** The thread with all branches; links in place of what they lead to. */
const exported = async () => {
  const repository = await page.evaluate(() => JSON.stringify(window.runtime.thread.export()));
  return JSON.parse(repository.replace(/"(data:[^"]*|[^"]*\/api\/v1\/attachments\/[^"]*)"/g, '"a link"'));
};
/** Wait until the service has stored `count` messages. */
const stored = (id: string, count: number) =>
  until(
    async () => (await client.listMessages(id, { branches: "all" })).length === count,
    `${count} stored messages`,
  );

async function ask(text: string): Promise<void> {
  await page.evaluate(
    ([text, PNG, PDF]) =>
      window.runtime.thread.append({
        role: "user",
        content: [{ type: "text", text: text! }],
        attachments: [
          {
            id: "picture",
            type: "image",
            name: "red.png",
            contentType: "image/png",
            status: { type: "complete" },
            content: [{ type: "image", image: PNG! }],
          },
          {
            id: "report",
            type: "document",
            name: "report.pdf",
            contentType: "application/pdf",
            status: { type: "complete" },
            content: [{ type: "file", data: PDF!, mimeType: "application/pdf", filename: "report.pdf" }],
          },
        ],
      }),
    [text, PNG, PDF],
  );
}

test("a thread with branches is the same after a reload, but for links, and can be archived", async () => {
  await ask("one");
  await said("answer 1 to one");
  const id = await remoteId();
  await stored(id, 2);
  await page.evaluate(() => window.runtime.thread.getMessageByIndex(1).reload());
  await said("answer 2 to one");
  await page.evaluate(() =>
    window.runtime.thread.append({ role: "user", parentId: null, content: [{ type: "text", text: "two" }] }),
  );
  await said("answer 3 to two");
  await stored(id, 5);
  await until(async () => (await client.getSession(id)).title === "one", "the title");
  const before = await exported();
  assert.equal(before.messages.length, 5);

  await page.reload();
  await page.waitForFunction((id) => window.runtime?.threads.getState().threadIds.includes(id), id);
  await page.evaluate((id) => window.runtime.threads.switchToThread(id), id);
  await said("answer 3 to two");
  assert.deepEqual(await exported(), before);

  await page.evaluate(() =>
    window.runtime.thread.getMessageByIndex(0).switchToBranch({ position: "previous" }),
  );
  assert.deepEqual(await texts(), ["one", "answer 1 to one"]);
  await page.evaluate(() => window.runtime.thread.getMessageByIndex(1).switchToBranch({ position: "next" }));
  assert.deepEqual(await texts(), ["one", "answer 2 to one"]);

  const picture = (await client.listMessages(id, { branches: "all" }))[0]!.parts!.find(
    ({ type }) => type === "attachment",
  );
  assert.match(JSON.stringify(picture), /\/api\/v1\/attachments\/[0-9a-f]{64}/);

  await page.evaluate((id) => window.runtime.threads.getItemById(id).rename("Renamed"), id);
  await page.evaluate((id) => window.runtime.threads.getItemById(id).archive(), id);
  const session = await client.getSession(id);
  assert.deepEqual([session.title, session.archived], ["Renamed", true]);
  await page.reload();
  await page.waitForFunction((id) => window.runtime?.threads.getState().archivedThreadIds.includes(id), id);
  await page.evaluate((id) => window.runtime.threads.getItemById(id).unarchive(), id);
  await page.evaluate((id) => window.runtime.threads.getItemById(id).delete(), id);
  await assert.rejects(client.getSession(id), { status: 404 });
});
