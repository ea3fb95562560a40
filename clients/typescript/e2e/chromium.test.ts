/** The store in a real browser, against the real service on another port. */

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { createClient } from "../src/index.js";
import { PNG, Service } from "../test/service.js";
import { LAN_NAME, launch, newContext, Pages, skip, test } from "./harness.js";

let pages: Pages;
let service: Service;
let browser: Browser;
let context: BrowserContext;
let page: Page;
/** The same page under a name that makes no secure context. */
let lanOrigin: string;

before(async () => {
  if (skip) return;
  pages = await Pages.start("page.ts");
  lanOrigin = pages.origin.replace("127.0.0.1", LAN_NAME);
  service = await Service.start({
    MAI_SESSIONS_CORS_ORIGINS: `${pages.origin},${lanOrigin}`,
    MAI_SESSIONS_MAX_BODY: "1000000",
  });
  browser = await launch();
});

after(async () => {
  if (skip) return;
  await browser.close();
  await service.stop();
  pages.stop();
});

beforeEach(async () => {
  if (skip) return;
  context = await newContext(browser);
  page = await openTab();
});

afterEach(() => context?.close());

async function openTab(origin = pages.origin, query = ""): Promise<Page> {
  const tab = await context.newPage();
  await tab.goto(`${origin}/?service=${service.origin}${query}`);
  await settled(tab);
  return tab;
}

/** Wait until nothing is under way. */
async function settled(tab = page): Promise<void> {
  await tab.waitForFunction(() => window.store.getState().status === "idle");
}

/** What a person reads: the chosen title, and who said what. */
const shown = (tab = page) =>
  tab.evaluate(() => ({
    title: document.querySelector("li[data-active=true]")?.textContent ?? null,
    messages: [...document.querySelectorAll("article")].map((article) => [
      article.dataset.role,
      article.textContent,
    ]),
  }));

const add = (id: string, content: string) =>
  page.evaluate(
    ([id, content]) => window.store.getState().addMessage(id!, { role: "user", content: content! }),
    [id, content],
  );

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
  assert.match(
    (await page.locator("article img").getAttribute("src"))!,
    new RegExp(`^${service.origin}/api/v1/attachments/`),
  );
  assert.equal(await imageWidth(), 1);

  // The other tab hears of it.
  await other.locator(`[id="${id}"]`, { hasText: "Red" }).waitFor();
  await other.evaluate((id) => void (location.hash = id), id);
  await other.locator("article img").waitFor();
  assert.deepEqual(await shown(other), expected);
  assert.equal(await imageWidth(other), 1);

  await page.evaluate((id) => window.store.getState().deleteSession(id), id);
  await page.evaluate(() => window.store.getState().flush());
  await other.locator(`[id="${id}"]`).waitFor({ state: "detached" });
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

test("a request during which the service is killed is stored once", async () => {
  const id = await create("Killed");
  await settled();
  await Promise.all([add(id, "once"), service.kill()]);
  await service.restart();
  await settled();
  assert.deepEqual(await stored(id), ["once"]);
});

test("writes during an outage survive a reload", async () => {
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

test("a reload during writes loses and repeats none", async () => {
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

test("a chat is in the list after each reload in the middle of its answer", async () => {
  const id = await create("Streaming");
  await settled();
  for (let reload = 0; reload < 6; reload++) {
    await page.evaluate(async (id) => {
      const { addMessage, updateMessage } = window.store.getState();
      const answer = addMessage(id, { role: "assistant", content: "" });
      for (let n = 0; n < 5 + Math.random() * 10; n++) {
        updateMessage(id, answer, `${n}`);
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    }, id);
    await page.reload();
    await settled();
    assert.equal(await page.locator(`[id="${id}"]`).count(), 1);
    assert.equal(await page.locator("article").count(), reload + 1);
  }
});

test("the store works over plain HTTP, without a secure context", async () => {
  page = await openTab(lanOrigin);
  assert.deepEqual(await page.evaluate(() => [isSecureContext, typeof crypto.randomUUID]), [
    false,
    "undefined",
  ]);
  const id = await create("Plain");
  await add(id, "over HTTP");
  await settled();
  assert.deepEqual(await stored(id), ["over HTTP"]);
});

test("an upload that takes longer than the timeout arrives at the first attempt", async () => {
  page = await openTab(pages.origin, "&timeout=5000");
  const id = await create("Slow");
  await settled();
  const posts: string[] = [];
  page.on("request", (request) => request.method() === "POST" && posts.push(request.url()));
  const devtools = await context.newCDPSession(page);
  const conditions = { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: 75_000 };
  await devtools.send("Network.enable");
  await devtools.send("Network.emulateNetworkConditions", conditions);
  const begun = Date.now();
  await add(id, "x".repeat(600_000));
  await settled();
  assert(Date.now() - begun > 5000, "it was slower than the timeout");
  assert.deepEqual([posts.length, (await stored(id)).length], [1, 1]);
});

test("a body that is too large for the service is refused once, and says so, across origins", async () => {
  const id = await create("Large");
  await settled();
  await add(id, "x".repeat(1_200_000));
  await page.waitForFunction(() => window.store.getState().failures.length === 1);
  assert.equal(
    await page.evaluate(() => (window.store.getState().lastError!.error as { status?: number }).status),
    413,
  );
});

test("unconfirmed writes are saved while the page is shown, as it may crash", async () => {
  await service.kill();
  const id = await create("Crash");
  await add(id, "kept");
  await page.waitForFunction(() => sessionStorage.getItem("mai-sessions-outbox")?.includes("kept"));
  await page.evaluate(() => sessionStorage.removeItem("mai-sessions-outbox"));
  await page.evaluate(() => {
    Object.defineProperty(document, "hidden", { value: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  assert(await page.evaluate(() => sessionStorage.getItem("mai-sessions-outbox")?.includes("kept")));
  await service.restart();
  await settled();
  assert.equal(await page.evaluate(() => sessionStorage.getItem("mai-sessions-outbox")), null);
  assert.deepEqual(await stored(id), ["kept"]);
});

test("a tab that is visible again shows writes of another device", async () => {
  const id = await create("Shared");
  await settled();
  const client = createClient({ baseUrl: service.origin });
  await client.appendMessage(id, { role: "assistant", content: "from elsewhere" });
  await page.clock.install();
  await page.clock.fastForward(10_000);
  await page.evaluate(() => void dispatchEvent(new Event("focus")));
  await page.locator("article", { hasText: "from elsewhere" }).waitFor();
});

test("a selected session that is removed in another tab is left", async () => {
  const other = await openTab();
  const kept = await create("Kept");
  const gone = await create("Gone");
  await settled();
  await other.locator(`[id="${gone}"]`).waitFor();
  await other.evaluate((id) => window.store.getState().deleteSession(id), gone);
  await other.evaluate(() => window.store.getState().flush());
  await page.waitForFunction((id) => window.store.getState().activeSessionId === id, kept);
});
