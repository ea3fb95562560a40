/** Links to attachments inside structured content. */

import type { Client } from "./client.js";

const LINK = /\/api\/v1\/attachments\/[0-9a-f]{64}/;

/** The value with absolute links, for a page of any origin. */
export const absolute = <T>(value: T, client: Client): T =>
  mapped(value, (text) => (LINK.test(text) ? client.url(text) : text)) as T;

/** The value with the relative links of the service. */
export const relative = <T>(value: T, client: Client): T =>
  mapped(value, (text) => (LINK.test(text) ? client.path(text) : text)) as T;

function mapped(value: unknown, change: (text: string) => string): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapped(item, change));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, mapped(item, change)]));
}
