/** The store in a real browser, against the real service on another port. */

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, afterEach, before, beforeEach, test as plainTest } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { createClient } from "../src/index.js";
import { PNG, Service } from "../test/service.js";

const CHROMIUM = "/usr/bin/chromium";
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-gpu",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
];
const HTML = `<!doctype html>
<meta charset="utf-8">
<title>Chats</title>
<ul></ul>
<main></main>
<script type="module" src="/page.js"></script>`;

const skip = existsSync(CHROMIUM) ? false : `skipped: there is no ${CHROMIUM}; apt-get install chromium`;
const test = (name: string, run: () => Promise<void>) => plainTest(name, { skip }, run);

let pages: Server;
let service: Service;
let browser: Browser;
let context: BrowserContext;
let page: Page;
let origin: string;

before(async () => {
  if (skip) return;
  const bundle = await build({
    entryPoints: [fileURLToPath(new URL("page.ts", import.meta.url))],
    bundle: true,
    format: "esm",
    write: false,
  });
  pages = createServer((request, response) => {
    const isScript = request.url === "/page.js";
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? bundle.outputFiles[0]!.contents : HTML);
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  origin = `http://127.0.0.1:${(pages.address() as AddressInfo).port}`;
  service = await Service.start(origin);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
});

after(async () => {
  if (skip) return;
  await browser.close();
  await service.stop();
  pages.close();
});

beforeEach(async () => {
  if (skip) return;
  context = await browser.newContext();
  page = await openTab();
});

afterEach(() => context?.close());

async function openTab(): Promise<Page> {
  const tab = await context.newPage();
  await tab.goto(`${origin}/?service=${service.origin}`);
  await settled(tab);
  return tab;
}

/** Wait until nothing is under way. */
async function settled(tab = page): Promise<void> {
  await tab.waitForFunction(() => window.store.getState().status === "idle", undefined, { timeout: 60_000 });
}

/** What a person reads: the chosen title, and who said what. */
const shown = (tab = page) =>
  tab.evaluate(() => ({
    title: document.querySelector("li[data-active=true]")?.textContent ?? null,
    messages: [...document.querySelectorAll("article")].map((article) => [article.dataset.role, article.textContent]),
  }));

const add = (id: string, content: string) =>
  page.evaluate(([id, content]) => window.store.getState().addMessage(id!, { role: "user", content: content! }), [id, content]);

/** Make a session and put it into the address, as the chat page does. */
const create = (title: string) =>
  page.evaluate((title) => (location.hash = window.store.getState().createSession({ title })), title);

async function stored(id: string): Promise<string[]> {
  const messages = await createClient({ baseUrl: service.origin }).listMessages(id);
  return messages.map(({ content }) => content);
}

async function imageWidth(tab = page): Promise<number> {
  const image = tab.locator("article img");
  await image.evaluate((image: HTMLImageElement) => image.decode());
  return image.evaluate((image: HTMLImageElement) => image.naturalWidth);
}

test("a chat is still there after a reload and in another tab, until it is deleted", async () => {
  const other = await openTab();
  const id = await create("New Chat");
  await page.evaluate(
    async ([id, image]) => {
      const { addMessage, updateMessage, renameSession } = window.store.getState();
      addMessage(id!, { role: "user", content: "What is this?", images: [image!] });
      const answer = addMessage(id!, { role: "assistant", content: "" });
      for (const content of ["A", "A red", "A red pixel"]) {
        updateMessage(id!, answer, content);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      renameSession(id!, "Red");
    },
    [id, PNG],
  );
  await settled();
  const expected = {
    title: "Red",
    messages: [
      ["user", "What is this?"],
      ["assistant", "A red pixel"],
    ],
  };
  assert.deepEqual(await shown(), expected);

  await page.reload();
  await settled();
  assert.deepEqual(await shown(), expected);
  assert.match((await page.locator("article img").getAttribute("src"))!, new RegExp(`^${service.origin}/api/v1/attachments/`));
  assert.equal(await imageWidth(), 1);

  assert.equal(await other.locator(`[id="${id}"]`).count(), 0);
  await other.evaluate(() => window.store.getState().loadSessions());
  assert.equal(await other.locator(`[id="${id}"]`).textContent(), "Red");
  await other.evaluate((id) => void (location.hash = id), id);
  await other.locator("article img").waitFor();
  assert.deepEqual(await shown(other), expected);
  assert.equal(await imageWidth(other), 1);

  await page.evaluate((id) => window.store.getState().deleteSession(id), id);
  await settled();
  await other.evaluate(() => window.store.getState().loadSessions());
  assert.equal(await other.locator(`[id="${id}"]`).count(), 0);
  await page.reload();
  await settled();
  assert.equal(await page.locator(`[id="${id}"]`).count(), 0);
});

test("a write goes through once when the service is killed and started again", async () => {
  const id = await create("Killed");
  await add(id, "before");
  await settled();
  await service.kill();
  await add(id, "meanwhile");
  await page.waitForFunction(() => window.store.getState().status === "retrying");
  await service.restart();
  await add(id, "after");
  await settled();
  assert.deepEqual(await stored(id), ["before", "meanwhile", "after"]);
});

test("a service that is killed under a running request gets it once", async () => {
  const id = await create("Killed");
  await settled();
  await Promise.all([add(id, "once"), service.kill()]);
  await service.restart();
  await settled();
  assert.deepEqual(await stored(id), ["once"]);
});

test("what was written while the service was away outlives a reload", async () => {
  await service.kill();
  const id = await create("Offline");
  await add(id, "kept");
  await page.reload();
  assert.deepEqual(await shown(), { title: "Offline", messages: [["user", "kept"]] });
  await service.restart();
  await settled();
  await page.reload();
  await settled();
  assert.deepEqual(await shown(), { title: "Offline", messages: [["user", "kept"]] });
  assert.deepEqual(await stored(id), ["kept"]);
});

test("a reload in the middle of it all neither loses nor repeats", async () => {
  const id = await create("Hasty");
  const loaded = page.waitForEvent("load");
  await page.evaluate((id) => {
    const { addMessage, updateMessage } = window.store.getState();
    addMessage(id, { role: "user", content: "one" });
    updateMessage(id, addMessage(id, { role: "assistant", content: "" }), "two");
    location.reload();
  }, id);
  await loaded;
  await settled();
  assert.deepEqual(await stored(id), ["one", "two"]);
});
