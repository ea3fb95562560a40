/** Events of the page of a store, and messages to and from other tabs. */

export interface PageListeners {
  /** The page is hidden. It may never be visible again. */
  hidden(): void;
  /** The page is closed or left. */
  left(): void;
  /** The page is visible again, or the network is back. */
  seen(): void;
  /** Another tab has written to a session. */
  changed(sessionId: string, isGone: boolean): void;
}

/** Listen to the page and to the tabs with the same channel. Without a page, do nothing. */
export function linkPage(channelName: string, listeners: PageListeners) {
  const ended = new AbortController();
  const isPage = typeof document !== "undefined";
  const channel =
    isPage && typeof BroadcastChannel !== "undefined" ? new BroadcastChannel(channelName) : null;
  if (isPage) {
    const { signal } = ended;
    const visibility = () => (document.hidden ? listeners.hidden() : listeners.seen());
    document.addEventListener("visibilitychange", visibility, { signal });
    addEventListener("pagehide", () => listeners.left(), { signal });
    for (const event of ["focus", "online"]) addEventListener(event, () => listeners.seen(), { signal });
    channel?.addEventListener("message", ({ data }) => listeners.changed(data.sessionId, data.isGone), {
      signal,
    });
  }
  return {
    isHidden: () => isPage && document.hidden,
    /** Notify the other tabs of a write. */
    tell: (sessionId: string, isGone: boolean) => channel?.postMessage({ sessionId, isGone }),
    close() {
      ended.abort();
      channel?.close();
    },
  };
}
