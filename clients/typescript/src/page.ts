/** The page that a store lives in, and the other tabs. */

export interface PageListeners {
  /** The page is hidden, and may never be seen again. */
  hidden(): void;
  /** The page goes. */
  left(): void;
  /** Somebody comes back to the page, or the network does. */
  seen(): void;
  /** Another tab has written to a session. */
  changed(sessionId: string, isGone: boolean): void;
}

/** Listen to the page and to the tabs that name the same channel. Where there is no page, nothing happens. */
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
    /** Tell the other tabs of a write. */
    tell: (sessionId: string, isGone: boolean) => channel?.postMessage({ sessionId, isGone }),
    close() {
      ended.abort();
      channel?.close();
    },
  };
}
