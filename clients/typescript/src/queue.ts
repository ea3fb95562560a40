/**
 * The writes and loads that wait. Tasks of one session run one after the other, tasks of several sessions in
 * parallel.
 */

import type { Write } from "./write.js";

/** A load waits in the queue of its session, so that its result contains all earlier writes. */
export interface Load {
  action: "loadSession";
  sessionId: string;
  done: (result: Promise<void>) => void;
}
export type Task = Write | Load;

export class Queue {
  /** In the order of the calls. */
  tasks: Task[] = [];
  readonly running = new Set<Task>();
  readonly #workers = new Map<string, Promise<void>>();
  readonly #wakers = new Map<string, () => void>();
  #flushing = 0;

  /**
   * `run` removes the task, and does not reject. `delay` returns the milliseconds before a task may run;
   * Infinity: not before another task is added to its session.
   */
  constructor(
    private readonly run: (task: Task) => Promise<void>,
    private readonly delay: (task: Task) => number,
  ) {}

  get isFlushing(): boolean {
    return this.#flushing > 0;
  }

  get writes(): Write[] {
    return this.tasks.filter((task): task is Write => task.action !== "loadSession");
  }

  of(sessionId: string): Task[] {
    return this.tasks.filter((task) => task.sessionId === sessionId);
  }

  add(...tasks: Task[]): void {
    this.tasks.push(...tasks);
    for (const { sessionId } of tasks) this.#wake(sessionId);
  }

  remove(gone: (task: Task) => boolean): void {
    const removed = this.tasks.filter(gone);
    this.tasks = this.tasks.filter((task) => !removed.includes(task));
    for (const { sessionId } of removed) this.#wakers.get(sessionId)?.();
  }

  /** Run all tasks without delays. */
  async flush(): Promise<void> {
    this.#flushing++;
    for (const { sessionId } of this.tasks) this.#wake(sessionId);
    while (this.#workers.size) await Promise.all(this.#workers.values());
    this.#flushing--;
  }

  #wake(sessionId: string): void {
    this.#wakers.get(sessionId)?.();
    if (!this.#workers.has(sessionId)) this.#workers.set(sessionId, this.#work(sessionId));
  }

  async #work(sessionId: string): Promise<void> {
    // After the action has returned.
    await null;
    for (let task; (task = this.tasks.find((task) => task.sessionId === sessionId));) {
      const wait = this.delay(task);
      if (wait === Infinity) break;
      if (wait > 0) {
        await this.#pause(sessionId, wait);
      } else {
        this.running.add(task);
        await this.run(task);
        this.running.delete(task);
      }
    }
    this.#workers.delete(sessionId);
  }

  async #pause(sessionId: string, milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wakers.set(sessionId, () => {
        clearTimeout(timer);
        resolve();
      });
    });
    this.#wakers.delete(sessionId);
  }
}
