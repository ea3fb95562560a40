/** The part of the state that is derived from the writes and loads. */

import { branchOf, withFailed } from "./branch.js";
import type { Loads } from "./loads.js";
import type { SessionsState } from "./state.js";
import { headIdOf, type Message, NO_MESSAGES, type Session } from "./view.js";
import type { Writes } from "./writes.js";

export type Slices = Pick<
  SessionsState,
  | "sessions"
  | "archived"
  | "messages"
  | "loads"
  | "loaded"
  | "listLoad"
  | "archivedLoad"
  | "status"
  | "pending"
  | "failures"
  | "undoable"
  | "hasMore"
  | "hasMoreArchived"
>;

/** Derives the slices. A slice that has not changed is the same object. */
export class Slicer {
  #from: Session[] | null = null;
  #sessions: Pick<Slices, "sessions" | "archived"> = { sessions: [], archived: [] };
  #messages: Slices["messages"] = {};
  #loads: Slices["loads"] = {};
  #failures: Slices["failures"] = [];
  #undoable: Session[] = [];
  readonly #branches = new Map<string, { from: unknown[]; messages: Message[] }>();

  constructor(
    private readonly writes: Writes,
    private readonly loads: Loads,
  ) {}

  slices(): Slices {
    const { writes, loads } = this;
    const { pending, view } = writes;
    if (view.sessions !== this.#from) {
      this.#from = view.sessions;
      const [sessions, archived] = [
        view.sessions.filter(({ archived }) => !archived),
        view.sessions.filter(({ archived }) => archived),
      ];
      this.#sessions = {
        sessions: kept(this.#sessions.sessions, sessions),
        archived: kept(this.#sessions.archived, archived),
      };
    }
    const ids = [...new Set([...Object.keys(view.messages), ...loads.opened])];
    this.#messages = keptRecord(this.#messages, ids, (id) => this.#shown(id));
    this.#loads = keptRecord(this.#loads, ids, (id) => loads.state(id));
    this.#failures = kept(
      this.#failures,
      writes.failed.map(({ failure }) => failure),
    );
    this.#undoable = kept(this.#undoable, this.#removed());
    // A deletion that can still be undone does not count as pending.
    const isSaving = pending.some((write) => write.action !== "deleteSession" || write.dueAt <= Date.now());
    return {
      ...this.#sessions,
      messages: this.#messages,
      loads: this.#loads,
      loaded: loads.open.loaded,
      listLoad: loads.open.load,
      archivedLoad: loads.archived.load,
      status:
        writes.isRetrying || loads.isRetrying
          ? "retrying"
          : isSaving
            ? "saving"
            : loads.isLoading
              ? "loading"
              : "idle",
      pending: pending.length,
      failures: this.#failures,
      undoable: this.#undoable,
      hasMore: loads.open.hasMore,
      hasMoreArchived: loads.archived.hasMore,
    };
  }

  /** The shown branch of a session. */
  #shown(sessionId: string): Message[] {
    const { view } = this.writes;
    const all = view.messages[sessionId] ?? NO_MESSAGES;
    const headId = headIdOf(view, sessionId);
    const failed = this.writes.failed.filter(({ write }) => write.sessionId === sessionId);
    const from = [
      all,
      headId,
      ...failed.flatMap(({ write, followers, failure }) => [write, followers.length, failure.content]),
    ];
    const before = this.#branches.get(sessionId);
    if (before && isSame(before.from, from)) return before.messages;
    const messages = withFailed(branchOf(all, headId), all, this.writes.failedMessages(sessionId));
    const shown = { from, messages: messages.length ? messages : NO_MESSAGES };
    this.#branches.set(sessionId, shown);
    return shown.messages;
  }

  /** Sessions whose deletion was not sent. */
  #removed(): Session[] {
    const { base, queue } = this.writes;
    const removals = queue.writes.filter(
      (write) => write.action === "deleteSession" && !queue.running.has(write),
    );
    const ids = new Set(removals.map(({ sessionId }) => sessionId));
    return ids.size ? base.sessions.filter(({ id }) => ids.has(id)) : [];
  }
}

const isSame = (a: unknown[], b: unknown[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);

const kept = <T>(before: T[], now: T[]): T[] => (isSame(before, now) ? before : now);

function keptRecord<T>(
  before: Record<string, T>,
  ids: string[],
  value: (id: string) => T,
): Record<string, T> {
  const now = Object.fromEntries(ids.map((id) => [id, value(id)]));
  const isKept =
    Object.keys(before).length === ids.length && ids.every((id) => id in before && before[id] === now[id]);
  return isKept ? before : now;
}
