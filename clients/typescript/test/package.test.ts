/** The package as others get it: ESM and CommonJS, the client without zustand, a call for each route. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "../src/client.js";

const root = fileURLToPath(new URL("..", import.meta.url));
let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "mai-sessions-package-"));
  const installed = join(directory, "node_modules/mai-sessions-client");
  await cp(join(root, "dist"), join(installed, "dist"), { recursive: true });
  await cp(join(root, "package.json"), join(installed, "package.json"));
});
after(() => rm(directory, { recursive: true }));

async function run(file: string, script: string): Promise<string> {
  await writeFile(join(directory, file), script);
  return execFileSync(process.execPath, [file], { cwd: directory, encoding: "utf8" }).trim();
}

test("the client is there for ESM and CommonJS where zustand is not installed", async () => {
  const use =
    `console.log(typeof createClient({}).getMessage, ` + `new ProblemError(404, "gone") instanceof Error)`;
  assert.equal(
    await run("a.mjs", `import { createClient, ProblemError } from "mai-sessions-client/client"; ${use}`),
    "function true",
  );
  assert.equal(
    await run(
      "a.cjs",
      `const { createClient, ProblemError } = require("mai-sessions-client/client"); ${use}`,
    ),
    "function true",
  );
});

test("calls of the client work without their object", async () => {
  const { sessionPages, listSessions } = createClient({ baseUrl: "http://127.0.0.1:9", retryFor: 0 });
  await assert.rejects(sessionPages().next(), { name: "NetworkError" });
  await assert.rejects(listSessions(), { name: "NetworkError" });
});

test("every route of the API has its call", async () => {
  const { paths } = JSON.parse(await readFile(join(root, "../../docs/openapi.json"), "utf8"));
  const methods = ["get", "post", "patch", "delete", "put"];
  const routes = Object.entries(paths).flatMap(([path, item]) =>
    methods
      .filter((method) => method in (item as object))
      .map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, "x")}`),
  );
  const called = await callAll();
  assert.deepEqual(
    routes.filter((route) => !called.has(route)),
    [],
  );
});

/** Call everything with the id "x", and tell which requests were made. */
async function callAll(): Promise<Set<string>> {
  const made = new Set<string>();
  const original = globalThis.fetch;
  globalThis.fetch = async (url, init) => {
    const { pathname } = new URL(String(url));
    made.add(`${init?.method} ${pathname.replace("0".repeat(64), "x")}`);
    return new Response("{}", { headers: { "Content-Type": "application/json" } });
  };
  try {
    const client = createClient({ baseUrl: "http://service" });
    for (const [name, call] of Object.entries(client) as [keyof Client, unknown][]) {
      if (typeof call !== "function" || name === "url" || name === "path") continue;
      const first =
        name === "getAttachment"
          ? "0".repeat(64)
          : name === "batchSessions"
            ? ["x"]
            : needsId(name)
              ? "x"
              : {};
      const result = call(first, name === "appendMessages" ? [] : needsMessage(name) ? "x" : {}, {});
      await (Symbol.asyncIterator in result ? result.next() : result);
    }
  } finally {
    globalThis.fetch = original;
  }
  return made;
}

const needsId = (name: string) => /Session$|Message|Messages$/.test(name) && name !== "createSession";
const needsMessage = (name: string) => ["getMessage", "patchMessage", "deleteMessage"].includes(name);
