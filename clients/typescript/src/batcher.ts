/** Combines calls for single keys that are made within a moment into one request. */

/** How long a call waits for others, in milliseconds. */
const MOMENT = 20;

export class Batcher<Key> {
  #waiting: { key: Key; resolve: () => void; reject: (error: unknown) => void }[] = [];

  /** `send` gets up to `limit` keys. */
  constructor(
    private readonly send: (keys: Key[]) => Promise<unknown>,
    private readonly limit: number,
  ) {}

  /** Resolves when the request that carries the key is done. */
  add(key: Key): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ key, resolve, reject });
      if (this.#waiting.length === 1) setTimeout(() => this.#sendAll(), MOMENT);
    });
  }

  #sendAll(): void {
    const calls = this.#waiting;
    this.#waiting = [];
    for (let start = 0; start < calls.length; start += this.limit) {
      const some = calls.slice(start, start + this.limit);
      this.send(some.map(({ key }) => key)).then(
        () => some.forEach(({ resolve }) => resolve()),
        (error) => some.forEach(({ reject }) => reject(error)),
      );
    }
  }
}
