/** Unconfirmed writes in `sessionStorage`, from which the next page of the same tab sends them. */

import { NetworkError, ProblemError, StorageError } from "./errors.js";
import type { Write } from "./write.js";

/** A write; for one that failed the reason, what was to follow it, and the message that its own is shown after. */
export interface Entry {
  write: Write;
  followers: Write[];
  error: unknown;
  after: string | null;
}

interface Item extends Omit<Entry, "error"> {
  reason: Reason | null;
}

/** An error as plain data. */
type Reason = { status: number | null; detail: string; name: string };

/** What is kept of the text of a message that does not fit. */
const BEGINNING = 10_000;

export class Outbox {
  /** Whether the item holds anything. */
  #isFilled = false;

  constructor(private readonly name: string) {}

  get isFilled(): boolean {
    return this.#isFilled;
  }

  /** Take out what the page before left. */
  restore(): Entry[] {
    const saved = storage()?.getItem(this.name);
    this.clear();
    const entries = saved ? (JSON.parse(saved) as Item[]) : [];
    return entries.map(({ reason, ...entry }) => ({ ...entry, error: reason && errorOf(reason) }));
  }

  clear(): void {
    this.#isFilled = false;
    storage()?.removeItem(this.name);
  }

  /**
   * Save the entries in place of what is there. When the storage is full the smallest go in whole, and of the others their text
   * without pictures and parts, marked as failed. Return how many these are.
   */
  save(entries: Entry[]): number {
    if (!entries.length) {
      this.clear();
      return 0;
    }
    const whole = entries.map((entry) => JSON.stringify(itemOf(entry)));
    const smallestFirst = [...whole.keys()].sort((a, b) => whole[a]!.length - whole[b]!.length);
    const put = (count: number) => {
      const kept = new Set(smallestFirst.slice(0, count));
      return this.#put(
        whole.map((item, index) => (kept.has(index) ? item : JSON.stringify(reduced(entries[index]!)))),
      );
    };
    if (put(entries.length)) return 0;
    let [fits, tooMany] = [0, entries.length];
    while (tooMany - fits > 1) {
      const middle = (fits + tooMany) >> 1;
      if (put(middle)) fits = middle;
      else tooMany = middle;
    }
    put(fits);
    return entries.length - fits;
  }

  #put(items: string[]): boolean {
    try {
      const place = storage();
      place?.setItem(this.name, `[${items.join()}]`);
      this.#isFilled = place !== undefined;
      return true;
    } catch {
      // The storage is full, and still holds what was saved before.
      return false;
    }
  }
}

const itemOf = ({ error, ...entry }: Entry): Item => ({ ...entry, reason: error ? reasonOf(error) : null });

function reduced({ error: _, ...entry }: Entry): Item {
  const writes = [entry.write, ...entry.followers].map((write) => {
    if (write.action !== "addMessage" && write.action !== "updateMessage") return write;
    const { images: _, parts: __, content, ...body } = write.body;
    return { ...write, body: { ...body, content: (content ?? "").slice(0, BEGINNING) } } as Write;
  });
  const [write, ...followers] = writes as [Write, ...Write[]];
  const detail = `The browser's storage had no room for its pictures and parts, nor for text after ${BEGINNING} characters`;
  return { ...entry, write, followers, reason: reasonOf(new StorageError(detail)) };
}

const reasonOf = (error: unknown): Reason => ({
  status: error instanceof ProblemError ? error.status : null,
  detail: error instanceof Error ? error.message : String(error),
  name: error instanceof Error ? error.name : "",
});

function errorOf({ status, detail, name }: Reason): Error {
  if (status !== null) return new ProblemError(status, detail);
  return name === "StorageError" ? new StorageError(detail) : new NetworkError(detail);
}

/** undefined where a page has none, or may not use it. */
function storage(): Storage | undefined {
  try {
    return globalThis.sessionStorage;
  } catch {
    return undefined;
  }
}
