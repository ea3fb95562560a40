/** A list of sessions, loaded page by page. */

import type { Client } from "./client.js";
import type { Confirmations } from "./confirmations.js";
import type { RequestOptions } from "./request.js";
import type { LoadState } from "./state.js";
import { newestFirst, type Session, sessionFrom, type View } from "./view.js";

const PAGE = 100;

export class SessionList {
  load: LoadState = { status: "idle" };
  /** Whether the first page is loaded. */
  loaded = false;
  /** The cursor of the next page, and the time of the last session before it. */
  #cursor: string | null = null;
  #listedTo = Infinity;
  #before: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly client: Client,
    private readonly archived: boolean,
    private readonly confirmations: Confirmations,
    /** Sessions that were deleted. */
    private readonly gone: Set<string>,
  ) {}

  get hasMore(): boolean {
    return this.#cursor !== null;
  }

  /**
   * Load the first or the next page, after earlier calls. Resolves to the function that applies the page to
   * a view.
   */
  page(isFirst: boolean, request: RequestOptions): Promise<(view: View) => View> {
    const page = this.#before.then(() => this.#page(isFirst ? null : this.#cursor, request));
    this.#before = page.catch(() => undefined);
    return page;
  }

  async #page(after: string | null, request: RequestOptions): Promise<(view: View) => View> {
    const asked = this.confirmations.count;
    const query = { limit: PAGE, archived: this.archived ? ("true" as const) : ("false" as const) };
    const page = await this.client.listSessions({ ...query, ...(after && { cursor: after }) }, request);
    const listed = page.sessions.map(sessionFrom);
    const from = after ? this.#listedTo : Infinity;
    const to = page.next_cursor ? listed.at(-1)!.updatedAt.getTime() : -Infinity;
    [this.#cursor, this.#listedTo, this.loaded] = [page.next_cursor, to, true];
    return (view) => this.#merged(view, listed, from, to, asked);
  }

  #merged(view: View, listed: Session[], from: number, to: number, asked: number): View {
    const isNewer = (id: string) => this.confirmations.isNewer(id, asked);
    const ids = new Set(listed.map(({ id }) => id));
    const kept = view.sessions.filter((session) => {
      const at = session.updatedAt.getTime();
      // A session that is missing on its page was deleted or archived elsewhere.
      const isElsewhere = session.archived !== this.archived || at >= from || at <= to;
      return isNewer(session.id) || (isElsewhere && !ids.has(session.id));
    });
    const known = new Set(kept.map(({ id }) => id));
    const added = listed.filter(({ id }) => !known.has(id) && !(this.gone.has(id) && isNewer(id)));
    const sessions = newestFirst([...kept, ...added]);
    const left = new Set(sessions.map(({ id }) => id));
    return {
      sessions,
      messages: Object.fromEntries(Object.entries(view.messages).filter(([id]) => left.has(id))),
    };
  }
}
