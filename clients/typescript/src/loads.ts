/** The loads of sessions and lists: which are needed, in progress, done or outdated. */

import type { Client } from "./client.js";
import { isNotFound } from "./errors.js";
import { SessionList } from "./list.js";
import type { Load } from "./queue.js";
import type { Failure, LoadState } from "./state.js";
import { messageFrom, sessionFrom, withMessages, withoutSession, withSession } from "./view.js";
import type { Writes } from "./writes.js";

export interface LoadsOptions {
  client: Client;
  writes: Writes;
  retryFor: number;
  changed: () => void;
  failed: (action: Failure["action"], sessionId: string | null, error: unknown) => void;
}

export class Loads {
  readonly open: SessionList;
  readonly archived: SessionList;
  /** Sessions that have been selected, watched or loaded. */
  readonly opened = new Set<string>();
  /** Sessions that were deleted. */
  readonly gone = new Set<string>();
  /** Sessions whose messages may have changed elsewhere since they were loaded. */
  readonly #stale = new Set<string>();
  readonly #errors = new Map<string, LoadState>();
  readonly #watchers = new Map<string, number>();
  #underWay = 0;
  #retrying = 0;

  constructor(private readonly options: LoadsOptions) {
    const { client, writes } = options;
    this.open = new SessionList(client, false, writes.confirmations, this.gone);
    this.archived = new SessionList(client, true, writes.confirmations, this.gone);
  }

  get isLoading(): boolean {
    return this.#underWay > 0;
  }

  get isRetrying(): boolean {
    return this.#retrying > 0;
  }

  /** undefined for a session that was never opened. */
  state(sessionId: string): LoadState | undefined {
    const { base, view } = this.options.writes;
    // All messages of a session that this page creates are known.
    if (base.messages[sessionId] || this.#isMadeHere(sessionId)) return READY;
    const error = this.#errors.get(sessionId);
    if (error) return error;
    return this.opened.has(sessionId) || view.messages[sessionId] ? LOADING : undefined;
  }

  /** Load a session, unless it is loaded or loading. */
  ensure(sessionId: string): void {
    const { base, queue } = this.options.writes;
    this.opened.add(sessionId);
    const isComing = queue
      .of(sessionId)
      .some(({ action }) => action === "loadSession" || action === "createSession");
    if ((base.messages[sessionId] && !this.#stale.has(sessionId)) || isComing || this.#isMadeHere(sessionId))
      return;
    // `loads` and `lastError` report a failure.
    this.again(sessionId).catch(() => undefined);
  }

  /** Load a session again, after its pending writes. */
  again(sessionId: string): Promise<void> {
    this.opened.add(sessionId);
    this.#errors.delete(sessionId);
    // A session that waits for its first message is known completely.
    if (this.options.writes.isHeld(sessionId)) return Promise.resolve();
    const result = new Promise<void>((done) =>
      this.options.writes.queue.add({ action: "loadSession", sessionId, done }),
    );
    this.options.changed();
    return result;
  }

  watch(sessionId: string): () => void {
    this.#watchers.set(sessionId, (this.#watchers.get(sessionId) ?? 0) + 1);
    this.ensure(sessionId);
    let isWatching = true;
    return () => {
      if (isWatching) this.#watchers.set(sessionId, this.#watchers.get(sessionId)! - 1);
      isWatching = false;
    };
  }

  /** Note that a session may have been written to elsewhere. */
  expire(sessionId: string): void {
    this.#stale.add(sessionId);
  }

  expireAll(): void {
    for (const sessionId of Object.keys(this.options.writes.base.messages)) this.#stale.add(sessionId);
  }

  /** Load the outdated ones of the shown sessions again. */
  async refresh(active: string | null): Promise<void> {
    const watched = [...this.#watchers].filter(([, count]) => count > 0).map(([id]) => id);
    const shown = new Set(active === null ? watched : [active, ...watched]);
    await Promise.all(
      [...shown].filter((id) => this.#stale.has(id) || this.#errors.has(id)).map((id) => this.again(id)),
    );
  }

  /** Run a load of the queue. */
  async run({ sessionId, done }: Load, onRetry: () => void): Promise<void> {
    const { client, writes, retryFor } = this.options;
    const result = this.#counted("loadSession", sessionId, async () => {
      try {
        const session = await client.readSession(sessionId, { branches: "all" }, { retryFor, onRetry });
        const messages = session.messages.map((message) => messageFrom(message, client.url));
        writes.confirmations.add(sessionId);
        this.gone.delete(sessionId);
        this.#stale.delete(sessionId);
        writes.learn((view) => withMessages(withSession(view, sessionFrom(session)), sessionId, messages));
      } catch (error) {
        this.#errors.set(sessionId, { status: "error", error });
        if (isNotFound(error)) this.lose(sessionId);
        throw error;
      }
    });
    done(result);
    await Promise.allSettled([result]);
  }

  /** Forget a deleted session. */
  lose(sessionId: string): void {
    this.gone.add(sessionId);
    this.options.writes.confirmations.add(sessionId);
    this.options.writes.learn((view) => withoutSession(view, sessionId));
  }

  /** Load the first page of a list, or the next one. */
  async page(list: SessionList, isFirst: boolean): Promise<void> {
    if (!list.loaded) list.load = LOADING;
    await this.#counted("loadSessions", null, async () => {
      let isRetrying = false;
      const onRetry = () => {
        if (!isRetrying) this.#retrying++;
        isRetrying = true;
        this.options.changed();
      };
      try {
        this.options.writes.learn(await list.page(isFirst, { retryFor: this.options.retryFor, onRetry }));
        list.load = READY;
      } catch (error) {
        if (!list.loaded) list.load = { status: "error", error };
        throw error;
      } finally {
        if (isRetrying) this.#retrying--;
      }
    });
  }

  #isMadeHere(sessionId: string): boolean {
    const { queue, failed } = this.options.writes;
    return [...queue.of(sessionId), ...failed.map(({ write }) => write)].some(
      (task) => task.action === "createSession" && task.sessionId === sessionId,
    );
  }

  async #counted(
    action: Failure["action"],
    sessionId: string | null,
    load: () => Promise<void>,
  ): Promise<void> {
    this.#underWay++;
    this.options.changed();
    try {
      await load();
    } catch (error) {
      this.options.failed(action, sessionId, error);
      throw error;
    } finally {
      this.#underWay--;
      this.options.changed();
    }
  }
}

const LOADING: LoadState = { status: "loading" };
const READY: LoadState = { status: "ready" };
