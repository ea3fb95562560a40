/** Unconfirmed writes in `sessionStorage`. The next page of the same tab sends them. */

import { NetworkError, ProblemError, StorageError } from "./errors.js";
import type { Write } from "./write.js";

/** A write. If it failed: its error, the writes that depend on it, and the message it is shown after. */
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

/** The characters that are kept of a message that does not fit. */
const BEGINNING = 10_000;

export class Outbox {
  /** Whether the item holds anything. */
  #isFilled = false;

  constructor(private readonly name: string) {}

  get isFilled(): boolean {
    return this.#isFilled;
  }

  /** Return and remove the entries of the previous page. */
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
   * Replace the saved entries. If the storage is full, the smallest entries are saved whole. The others lose
   * pictures and parts, and are marked as failed. Return the number of these.
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
      // The storage is full. It still holds the previous item.
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
  const detail = `No room in sessionStorage for pictures, parts and text after ${BEGINNING} characters`;
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

/** undefined if the page has no storage, or may not use it. */
function storage(): Storage | undefined {
  try {
    return globalThis.sessionStorage;
  } catch {
    return undefined;
  }
}
