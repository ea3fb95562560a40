/** What needs no service: ids, text, branches. */

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { branchOf, newestAfter, type Node, withFailed } from "../src/branch.js";
import { createClient, isUuid, uuid, uuidOf } from "../src/index.js";
import { beginningOf, jsonOf, wellFormed } from "../src/text.js";
import type { Message } from "../src/view.js";

test("new ids are UUIDs of version 7, in the order in which they are made", async () => {
  const before = Date.now();
  const first = uuid();
  const after = Date.now();
  await new Promise((resolve) => setTimeout(resolve, 2));
  const second = uuid();
  assert.match(first, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert(first < second);
  const time = parseInt(first.replaceAll("-", "").slice(0, 12), 16);
  assert(before <= time && time <= after);
});

for (const [name, baseUrl, link, absolute] of [
  ["at the root", "http://host", "/api/v1/", "http://host/api/v1/"],
  ["below a path that its links carry", "http://host/chat/", "/chat/api/v1/", "http://host/chat/api/v1/"],
  ["below a path that a proxy strips", "http://host/chat", "/api/v1/", "http://host/chat/api/v1/"],
  ["below a path of the page's own origin", "/chat", "/chat/api/v1/", "/chat/api/v1/"],
  ["below a path that is called api", "http://host/api", "/api/v1/", "http://host/api/api/v1/"],
] as const)
  test(`links of a service ${name} are made absolute, and back`, () => {
    const { url, path } = createClient({ baseUrl });
    const image = `attachments/${"0".repeat(64)}`;
    assert.equal(url(link + image), absolute + image);
    assert.equal(path(absolute + image), link + image);
    assert.equal(url("data:image/png;base64,"), "data:image/png;base64,");
    assert.equal(path("http://other/image.png"), "http://other/image.png");
  });

test("the id of a name is the UUID of version 5 that RFC 9562 gives", () => {
  const dns = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
  assert.equal(uuidOf("www.example.com", dns), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
  for (const length of [0, 39, 40, 47, 48, 1000]) {
    const name = "x".repeat(length);
    const hash = createHash("sha1")
      .update(Buffer.from(dns.replaceAll("-", ""), "hex"))
      .update(name)
      .digest("hex");
    assert.equal(uuidOf(name, dns).replaceAll("-", "").slice(0, 12), hash.slice(0, 12));
    assert(isUuid(uuidOf(name)));
  }
});

for (const [name, text, expected] of [
  ["ordinary text", "Grüße 😀 你好", "Grüße 😀 你好"],
  ["the first half of an emoji at the end", "Hello 😀".slice(0, 7), "Hello "],
  ["the second half of an emoji", "😀".slice(1) + "!", "\ufffd!"],
  ["a lone half in the middle", "a\ud83d b", "a\ufffd b"],
  ["U+0000", "a\0b", "a\ufffdb"],
] as const) {
  test(`${name} is sent well-formed`, () => {
    assert.equal(wellFormed(text), expected);
    assert.deepEqual(JSON.parse(jsonOf({ deep: [{ text }] })), { deep: [{ text: expected }] });
  });
}

test("a title is never cut through a character", () => {
  assert.equal(beginningOf("😀".repeat(100)), "😀".repeat(80));
});

const node = (id: string, parentId: string | null): Node => ({ id, parentId, siblings: [id] });
const ids = (nodes: Node[]) => nodes.map(({ id }) => id);

/** A question with two answers, edited once; the edited one has an answer that goes on. */
const TREE = [
  node("q", null),
  node("a1", "q"),
  node("a2", "q"),
  node("q2", null),
  node("a3", "q2"),
  node("q3", "a3"),
];

for (const [head, branch] of [
  ["a1", ["q", "a1"]],
  ["a2", ["q", "a2"]],
  ["q3", ["q2", "a3", "q3"]],
  [null, []],
] as const) {
  test(`the branch to ${head}`, () => assert.deepEqual(ids(branchOf(TREE, head)), branch));
}

test("messages know their siblings, and stay the same objects", () => {
  const [question, answer] = branchOf(TREE, "a2");
  assert.deepEqual(
    [question!.siblings, answer!.siblings],
    [
      ["q", "q2"],
      ["a1", "a2"],
    ],
  );
  assert.equal(branchOf(TREE, "a2")[1], answer);
});

test("a branch goes on to its newest message", () => {
  assert.equal(newestAfter(TREE, "q"), "a2");
  assert.equal(newestAfter(TREE, "q2"), "q3");
});

test("a branch of 20,000 messages is found without recursion", () => {
  const long = Array.from({ length: 20_000 }, (_, n) => node(`${n}`, n ? `${n - 1}` : null));
  assert.equal(branchOf(long, newestAfter(long, "0")).length, 20_000);
});

test("messages that could not be stored are shown where they were written", () => {
  const failed = [node("f0", null), node("f1", "q"), node("f2", "elsewhere")] as Message[];
  const branch = branchOf(TREE, "a1") as Message[];
  assert.deepEqual(ids(withFailed(branch, TREE as Message[], failed)), ["f0", "q", "f1", "a1", "f2"]);
});
