/** A `sessionStorage` for Node.js, with room for a number of characters. */

export class FakeStorage implements Storage {
  [name: string]: unknown;
  readonly items = new Map<string, string>();

  constructor(readonly room = Infinity) {}

  get length(): number {
    return this.items.size;
  }

  key = (index: number): string | null => [...this.items.keys()][index] ?? null;
  getItem = (name: string): string | null => this.items.get(name) ?? null;
  removeItem = (name: string): void => void this.items.delete(name);
  clear = (): void => this.items.clear();
  setItem = (name: string, value: string): void => {
    if (value.length > this.room) throw new DOMException("The storage is full", "QuotaExceededError");
    this.items.set(name, value);
  };
}

/** Run with a storage as the page's own. */
export async function withStorage<T>(storage: Storage, run: () => Promise<T>): Promise<T> {
  Object.assign(globalThis, { sessionStorage: storage });
  try {
    return await run();
  } finally {
    Reflect.deleteProperty(globalThis, "sessionStorage");
  }
}
