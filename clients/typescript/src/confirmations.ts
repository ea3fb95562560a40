/**
 * The order in which the service confirmed writes to sessions. A list that was requested before a write may
 * not contain it.
 */
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
