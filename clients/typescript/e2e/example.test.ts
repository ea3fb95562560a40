/** The example page, built with Vite and served by nginx beside the service. */

import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { after, afterEach, before, beforeEach } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { createClient } from "../src/index.js";
import { PNG, Service } from "../test/service.js";
import { launch, newContext, Nginx, skip, test, viteBuild } from "./harness.js";

let files: string;
let service: Service;
let nginx: Nginx;
let browser: Browser;
let context: BrowserContext;
let page: Page;

before(async () => {
  if (skip) return;
  files = await viteBuild("../examples/react");
  service = await Service.start();
  nginx = await Nginx.start(service.origin, files);
  browser = await launch();
});

after(async () => {
  if (skip) return;
  await browser.close();
  await nginx.stop();
  await service.stop();
  await rm(files, { recursive: true });
});

beforeEach(async () => {
  if (skip) return;
  context = await newContext(browser);
  page = await context.newPage();
  await page.goto(nginx.origin);
});

afterEach(() => context?.close());

const saved = () => page.getByRole("status").filter({ hasText: "all saved" }).waitFor();
const click = (name: string) => page.getByRole("button", { name, exact: true }).first().click();
const answered = (times = 1) =>
  page.waitForFunction(
    (n) => document.querySelectorAll("[data-role=assistant][data-status=complete]").length === n,
    times,
  );
const texts = () => page.locator("article > p:first-child").allTextContents();

async function send(
  text: string,
  picture?: { name: string; mimeType: string; buffer: Buffer },
): Promise<void> {
  await page.getByPlaceholder("Message").fill(text);
  if (picture) await page.getByLabel("Pictures").setInputFiles(picture);
  await click("Send");
}

const pixel = { name: "red.png", mimeType: "image/png", buffer: Buffer.from(PNG.split(",")[1]!, "base64") };

test("a chat with a picture streams, is found, and is there after a reload", async () => {
  await click("New chat");
  await send("What a lovely pixel", pixel);
  await answered();
  await saved();
  const before = await texts();
  assert.match(before[1]!, /^You said: What a lovely pixel\. That was answer \d+\.$/);
  await page.reload();
  await page.locator("article img").waitFor();
  assert.deepEqual(await texts(), before);
  assert.equal(
    await page
      .locator("article img")
      .evaluate((image: HTMLImageElement) => image.decode().then(() => image.naturalWidth)),
    1,
  );
  await page.getByPlaceholder("Search").fill("lovely");
  await page.locator("search mark", { hasText: "lovely" }).first().waitFor();
});

test("a chat that is made lazily is stored with its first message, and not before", async () => {
  await click("New chat");
  await click("New chat");
  const { total } = await createClient({ baseUrl: service.origin }).listSessions();
  assert.equal(await page.locator("nav > ul > li[aria-current=true]").count(), 1);
  await send("first");
  await answered();
  await saved();
  assert.equal((await createClient({ baseUrl: service.origin }).listSessions()).total, total + 1);
});

test("editing and regenerating make branches, there and back, also after a reload", async () => {
  await click("New chat");
  await send("one");
  await answered();
  const [, first] = await texts();
  await click("Regenerate");
  await answered();
  await page.getByText("2/2").waitFor();
  const [, second] = await texts();
  await click("Previous");
  await page.getByText("1/2").waitFor();
  assert.deepEqual(await texts(), ["one", first]);

  page.once("dialog", (dialog) => dialog.accept("two"));
  await click("Edit");
  await answered();
  assert.match((await texts())[1]!, /two/);
  await saved();
  await page.reload();
  await page.locator("article", { hasText: "two" }).first().waitFor();
  await click("Previous");
  await page.locator("article", { hasText: "one" }).first().waitFor();
  assert.deepEqual(await texts(), ["one", second]);
  await saved();
  await page.reload();
  await page.locator("article", { hasText: "one" }).first().waitFor();
  assert.deepEqual(await texts(), ["one", second]);
});

test("a refused picture stays with its reason until it is discarded, and the answer is stored", async () => {
  await click("New chat");
  await send("Not a picture", { name: "no.png", mimeType: "image/png", buffer: Buffer.from("text") });
  await answered();
  await page.getByRole("alert").filter({ hasText: "Not stored" }).waitFor();
  assert.equal((await texts())[0], "Not a picture");
  await click("Retry");
  await page.getByRole("alert").filter({ hasText: "Not stored" }).waitFor();
  await click("Discard");
  await page.getByRole("alert").waitFor({ state: "detached" });
  assert.equal((await texts()).length, 1);
});

test("a chat that is deleted can be brought back", async () => {
  await click("New chat");
  await send("precious");
  await answered();
  await saved();
  await page.locator("li[aria-current=true]").getByRole("button", { name: "Delete" }).click();
  await page.getByText("precious is deleted").waitFor();
  await click("Undo");
  await page.getByRole("link", { name: "precious" }).waitFor();
});
