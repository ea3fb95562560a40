/** The known state of the service, the pending writes, and the failed ones. */

import { Confirmations } from "./confirmations.js";
import { type Load, Queue, type Task } from "./queue.js";
import type { Entry } from "./outbox.js";
import type { Change, Send } from "./send.js";
import type { Failure } from "./state.js";
import { applied, EMPTY, headIdOf, type Message, type View } from "./view.js";
import { contentOf, fold, messageIdOf, named, type Write, type WriteOf } from "./write.js";

/** A write that failed. */
export interface Failed {
  write: Write;
  /** The later writes to the row that it would have created. */
  followers: Write[];
  failure: Failure;
  /** For a new message: the message before it. */
  after: string | null;
}

export interface WritesOptions {
  send: Send;
  load: (load: Load, onRetry: () => void) => Promise<void>;
  retryFor: number;
  updateInterval: number;
  /** The view has changed. */
  changed: () => void;
  confirmed: (write: Write) => void;
  failed: (failure: Failure) => void;
}

export class Writes {
  /** The known state of the service. */
  base: View = EMPTY;
  /** `base` with the pending writes, and with the failed ones that stay visible. */
  view: View = EMPTY;
  failed: Failed[] = [];
  readonly confirmations = new Confirmations();
  readonly queue: Queue;
  readonly #retrying = new Set<Task>();
  /** When the last update of each message was sent. */
  readonly #lastUpdates = new Map<string, number>();
  /** The messages that were added on this page. */
  readonly #made = new Set<string>();
  #isScheduled = false;

  constructor(private readonly options: WritesOptions) {
    this.queue = new Queue(
      (task) => (task.action === "loadSession" ? this.#load(task) : this.#write(task)),
      (task) => this.#delay(task),
    );
  }

  get isRetrying(): boolean {
    return this.#retrying.size > 0;
  }

  /** The writes that are sent: all but those of a session that waits for its first message. */
  get pending(): Write[] {
    const writes = this.queue.writes;
    const held = new Set(
      writes
        .filter((write) => write.action === "createSession" && write.lazy)
        .map(({ sessionId }) => sessionId),
    );
    for (const { action, sessionId } of writes) if (action === "addMessage") held.delete(sessionId);
    return writes.filter(({ sessionId }) => !held.has(sessionId));
  }

  /** Whether a session waits for its first message. */
  isHeld(sessionId: string): boolean {
    const tasks = this.queue.of(sessionId);
    const isLazy = tasks.some((task) => task.action === "createSession" && task.lazy);
    return isLazy && tasks.every(({ action }) => action !== "addMessage");
  }

  /** Whether the creation of a session failed. */
  isUnmade(sessionId: string): boolean {
    return this.#failedCreation(sessionId) !== undefined;
  }

  /** Whether a failed write has been retried or discarded. */
  isSettled({ id, action }: Failure): boolean {
    const isLoad = action === "loadSession" || action === "loadSessions" || action === "search";
    return !isLoad && !this.failed.some(({ write }) => write.id === id);
  }

  /** Apply a change to the known state. The view follows in a moment. */
  learn(change: Change): void {
    this.base = change(this.base);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      this.rebuild();
    });
  }

  /** Show writes at once, and send them in order. */
  add(...writes: Write[]): void {
    // A write to a session whose creation failed retries the creation.
    for (const { sessionId } of writes) if (this.#failedCreation(sessionId)) this.retry(sessionId);
    this.queue.add(...writes);
    for (const write of writes) if (write.action === "addMessage") this.#made.add(write.messageId);
    this.view = writes.reduce((view, write) => applied(view, write), this.view);
    this.options.changed();
  }

  /** Show an update at once, and send it in order, combined with a waiting one. */
  update(write: WriteOf<"updateMessage">): void {
    const { sessionId, messageId } = write;
    const unstored = this.failed.find(({ write, followers }) =>
      [write, ...followers].some((made) => makes(made, messageId)),
    );
    const refused = this.failed.find(
      (failed) => failed.write.action === "updateMessage" && failed.write.messageId === messageId,
    );
    const waiting = this.queue
      .of(sessionId)
      .find((task) => isUpdateOf(task, messageId) && !this.queue.running.has(task));
    if (unstored) {
      unstored.followers.push(write);
      unstored.failure.content = write.body.content ?? unstored.failure.content;
      this.rebuild();
    } else if (refused) {
      this.#take(refused.write.id);
      this.rebuild();
      this.add({ ...write, body: { ...(refused.write as typeof write).body, ...write.body } });
    } else if (waiting) {
      fold(waiting as typeof write, write.body);
      this.view = applied(this.view, write);
      this.options.changed();
    } else {
      this.add(write);
    }
  }

  /** Change a session. If its creation failed, create it with the change. */
  updateSession(write: WriteOf<"updateSession">): void {
    const failed = this.#failedCreation(write.sessionId);
    if (!failed) return this.add(write);
    Object.assign((failed.write as WriteOf<"createSession">).body, write.body);
    this.retry(write.sessionId);
  }

  /** Cancel writes that were not sent. */
  cancel(isMeant: (write: Write) => boolean): void {
    this.queue.remove(
      (task) => task.action !== "loadSession" && !this.queue.running.has(task) && isMeant(task),
    );
    this.rebuild();
  }

  /** Send again what failed: by the id of the failure, of a message, or of a session. */
  retry(id: string): void {
    const again = this.#take(id).flatMap(({ write, followers }) => [write, ...followers]);
    this.queue.add(...again.map((write) => ({ ...write, at: Date.now() })));
    this.rebuild();
  }

  /** Forget what failed. */
  discard(id: string): void {
    if (this.#take(id).length) this.rebuild();
  }

  /** The messages of a session that could not be stored. */
  failedMessages(sessionId: string): Message[] {
    const failed = this.failed.filter(
      ({ write }) => write.action === "addMessage" && write.sessionId === sessionId,
    );
    return failed.map(({ write, followers, failure, after: parentId }) => {
      const [message] = shown(EMPTY, [write, ...followers], failure).messages[sessionId]!;
      return { ...message!, parentId };
    });
  }

  /** Compute the view again. */
  rebuild(): void {
    const visible = this.failed.filter(
      ({ write }) => write.action === "createSession" || write.action === "updateMessage",
    );
    const view = visible.reduce(
      (view, { write, followers, failure }) => shown(view, [write, ...followers], failure),
      this.base,
    );
    this.view = this.queue.writes.reduce((view, write) => applied(view, write), view);
    this.options.changed();
  }

  /** Keep a failed write. `after` is the message before its own. */
  fail(write: Write, followers: Write[], error: unknown, after: string | null): Failure {
    const { id, action, sessionId } = write;
    const content = [write, ...followers].map(contentOf).findLast((content) => content !== null) ?? null;
    const failure = { id, action, sessionId, messageId: messageIdOf(write), content, error };
    this.failed.push({ write, followers, failure, after });
    return failure;
  }

  /** All writes that the service has not confirmed. */
  get unconfirmed(): Entry[] {
    const failed = this.failed.map(({ failure, ...entry }) => ({ ...entry, error: failure.error }));
    return [
      ...failed,
      ...this.queue.writes.map((write) => ({ write, followers: [], error: null, after: null })),
    ];
  }

  /** Updates that mark the answers that this page streams as interrupted. */
  get interruptions(): Entry[] {
    return Object.entries(this.view.messages).flatMap(([sessionId, messages = []]) => {
      const streaming = messages.filter(({ id, status }) => status === "streaming" && this.#made.has(id));
      return streaming.map(({ id: messageId }) => {
        const body = { status: "interrupted" as const };
        const write = named({ action: "updateMessage", sessionId, at: Date.now(), messageId, body });
        return { write, followers: [], error: null, after: null };
      });
    });
  }

  #failedCreation(sessionId: string): Failed | undefined {
    return this.failed.find(({ write }) => write.action === "createSession" && write.sessionId === sessionId);
  }

  #take(id: string): Failed[] {
    const isMeant = ({ write, followers }: Failed) =>
      [write, ...followers].some((write) => [write.id, write.sessionId, messageIdOf(write)].includes(id));
    const taken = this.failed.filter(isMeant);
    this.failed = this.failed.filter((failed) => !isMeant(failed));
    return taken;
  }

  async #load(task: Load): Promise<void> {
    await this.options.load(task, () => this.#retries(task));
    this.#end(task);
  }

  async #write(write: Write): Promise<void> {
    if (write.action === "updateMessage") this.#lastUpdates.set(write.messageId, Date.now());
    try {
      const { retryFor } = this.options;
      const change = await this.options.send(write, { retryFor, onRetry: () => this.#retries(write) });
      this.confirmations.add(write.sessionId);
      this.#end(write);
      this.learn(change);
      this.options.confirmed(write);
    } catch (error) {
      this.#end(write);
      const isFollower = (task: Task): task is Write =>
        task.sessionId === write.sessionId &&
        task.action !== "loadSession" &&
        (write.action === "createSession" ||
          (write.action === "addMessage" && isUpdateOf(task, write.messageId)));
      const followers = this.queue.tasks.filter(isFollower);
      this.queue.remove(isFollower);
      const isPlaced = write.action === "addMessage" && write.body.parent_id !== undefined;
      const after = isPlaced ? write.body.parent_id! : headIdOf(this.base, write.sessionId);
      const failure = this.fail(write, followers, error, after);
      this.rebuild();
      this.options.failed(failure);
    }
  }

  #end(task: Task): void {
    this.#retrying.delete(task);
    this.queue.remove((other) => other === task);
  }

  #retries(task: Task): void {
    this.#retrying.add(task);
    this.options.changed();
  }

  #delay(task: Task): number {
    if (task.action === "createSession" && this.isHeld(task.sessionId)) return Infinity;
    if (this.queue.isFlushing) return 0;
    if (task.action === "deleteSession") return task.dueAt - Date.now();
    // An update waits out its interval, unless another write waits behind it.
    if (task.action !== "updateMessage" || this.queue.of(task.sessionId).length > 1) return 0;
    return (this.#lastUpdates.get(task.messageId) ?? 0) + this.options.updateInterval - Date.now();
  }
}

const shown = (view: View, writes: Write[], failure: Failure): View =>
  writes.reduce((view, write) => applied(view, write, failure), view);

const makes = (write: Write, messageId: string): boolean =>
  write.action === "addMessage" && write.messageId === messageId;

const isUpdateOf = (task: Task, messageId: string): boolean =>
  task.action === "updateMessage" && task.messageId === messageId;
