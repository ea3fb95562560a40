/** Which sessions the service confirmed writes of, in which order: a list that was asked for before a write is older than it. */
export class Confirmations {
  #count = 0;
  readonly #last = new Map<string, number>();

  get count(): number {
    return this.#count;
  }

  add(sessionId: string): void {
    this.#last.set(sessionId, ++this.#count);
  }

  isNewer(sessionId: string, count: number): boolean {
    return (this.#last.get(sessionId) ?? 0) > count;
  }
}
