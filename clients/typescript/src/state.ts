/** The state, the actions and the options of a sessions store. */

import type { Client, ClientOptions, SearchQuery, SearchResults } from "./client.js";
import type { Json, Message, Session } from "./view.js";
import type { Write } from "./write.js";

export interface SessionChange {
  title?: string;
  agentName?: string;
  modelId?: string;
  /** Merged into the stored object; a member that is null is removed. */
  metadata?: Record<string, Json>;
  archived?: boolean;
  /** The newest message of the branch that is shown. */
  headId?: string;
}

export interface NewSession {
  title?: string;
  agentName?: string;
  modelId?: string | null;
  metadata?: Record<string, Json>;
  /** Store the session with its first message. Until then, another new session replaces it. */
  lazy?: boolean;
}

export interface MessageChange {
  content?: string;
  /** The structured content, in the format of the frontend. Replaced as a whole. */
  parts?: Record<string, Json>[];
  /** Merged into the stored object; a member that is null is removed. */
  metadata?: Record<string, Json>;
  status?: Message["status"];
  /** PNG, JPEG, GIF, WebP or AVIF as data URLs. */
  images?: string[];
  /** Names of files. */
  documents?: string[];
  modelId?: string;
  agentName?: string;
  responseTimeMs?: number;
  isError?: boolean;
  tokenCount?: number;
}

/** An answer (role `assistant`) without `agentName` or `modelId` takes those of its session. */
export interface NewMessage extends MessageChange {
  /** A UUID. Default: a new one. */
  id?: string;
  role: Message["role"];
  /** The message before it; null for none. Default: the newest shown message. */
  parentId?: string | null;
}

/** A write or load that is not repeated any more. */
export interface Failure {
  /** For `retry` and `discard`. */
  id: string;
  action: Write["action"] | "loadSessions" | "loadSession" | "search";
  sessionId: string | null;
  messageId: string | null;
  /** The text that the write would have stored. */
  content: string | null;
  /** ProblemError, NetworkError or StorageError, or what `token` threw. */
  error: unknown;
}

/** `ready`: everything was loaded, but may be outdated. `error`: the load failed; the page may load again. */
export type LoadState = { status: "idle" | "loading" | "ready" } | { status: "error"; error: unknown };

export interface Found {
  query: string;
  results: SearchResults["results"];
  load: LoadState;
  hasMore: boolean;
}

export interface SessionsState {
  /** Newest first, without the archived ones. */
  sessions: Session[];
  /** Newest first; those that `loadArchived` and `loadMoreArchived` have loaded. */
  archived: Session[];
  /** The shown branch of each session; undefined for a session that was neither selected nor loaded. */
  messages: Record<string, Message[] | undefined>;
  /** The state of the load of each session. Empty `messages` mean an empty session only if it is `ready`. */
  loads: Record<string, LoadState | undefined>;
  /** Whether the list of sessions is loaded. */
  loaded: boolean;
  listLoad: LoadState;
  archivedLoad: LoadState;
  /** A session that is loaded or loading. If it is deleted, here or elsewhere, the newest one is selected. */
  activeSessionId: string | null;
  /** `retrying`: a request failed, and is sent again. */
  status: "idle" | "loading" | "saving" | "retrying";
  /** The number of writes that the service has not confirmed. */
  pending: number;
  /** Writes that failed, oldest first, until they are retried or discarded. */
  failures: Failure[];
  /** The newest failure of a write or a load. */
  lastError: Failure | null;
  /** Deleted sessions that `undoDelete` can restore. */
  undoable: Session[];
  /** Whether the service has older sessions than `sessions`. */
  hasMore: boolean;
  hasMoreArchived: boolean;
  /** The results of the last search; null without one. */
  found: Found | null;

  /** Creates a session, selects it and returns its id, before it is sent. */
  createSession(session?: NewSession): string;
  /** Deletes a session. The deletion is sent after `undoFor` milliseconds. */
  deleteSession(id: string): void;
  deleteSessions(ids: string[]): void;
  /** Restores a deleted session, if the deletion was not sent. */
  undoDelete(id: string): void;
  renameSession(id: string, title: string): void;
  updateSession(id: string, change: SessionChange): void;
  archiveSession(id: string, archived?: boolean): void;
  archiveSessions(ids: string[], archived?: boolean): void;
  /** Selects a session, and loads its messages unless they are loaded. */
  setActiveSession(id: string | null): void;

  /** Adds a message and returns its id. */
  addMessage(sessionId: string, message: NewMessage): string;
  /** Changes a message. A string is its content. Updates within `updateInterval` are sent as one. */
  updateMessage(sessionId: string, messageId: string, change: string | MessageChange): void;
  /** Deletes a message; the messages after it stay. */
  deleteMessage(sessionId: string, messageId: string): void;
  clearMessages(sessionId: string): void;
  /** Adds a new version of a message as a sibling, shows it and returns its id. Other fields are copied. */
  edit(sessionId: string, messageId: string, change: string | MessageChange): string;
  /** Adds an empty answer as a sibling of an answer, shows it and returns its id. */
  regenerate(sessionId: string, messageId: string, answer?: MessageChange): string;
  /** Shows the branch through a message, such as one of `siblings`, up to its newest message. */
  switchBranch(sessionId: string, messageId: string): void;

  /** Sends failed writes again: all of a session or message, or one of `failures`, by id. */
  retry(id: string): void;
  /** Forgets failed writes. A new message is removed, a changed one is shown as it is stored. */
  discard(id: string): void;
  clearError(): void;

  /** Loads the newest sessions and the shown messages, again too. */
  loadSessions(): Promise<void>;
  /** Loads the next older sessions. */
  loadMoreSessions(): Promise<void>;
  loadArchived(): Promise<void>;
  loadMoreArchived(): Promise<void>;
  /** Loads a session with its messages, again too, after its pending writes. */
  loadSession(id: string): Promise<void>;
  /** Keeps a session loaded and fresh until the returned function is called. */
  watchSession(id: string): () => void;
  /** Searches titles and messages. The last query wins; an empty one clears `found`. */
  search(query: string, filter?: Omit<SearchQuery, "q" | "cursor">): Promise<void>;
  searchMore(): Promise<void>;
  /** Sends all waiting writes now, deletions too. Resolves when nothing is pending. */
  flush(): Promise<void>;
  /** Stops listening to the page and to other tabs. */
  close(): void;
}

export interface SessionsStoreOptions extends ClientOptions {
  /** Default: a client made from these options. */
  client?: Client;
  /** How long a write or a load is repeated before it fails, in milliseconds. Default 5 minutes. */
  retryFor?: number;
  /** The shortest time between two updates of one message, in milliseconds. Default 300. */
  updateInterval?: number;
  /** How long `undoDelete` can restore a deleted session, in milliseconds. Default 10 s. */
  undoFor?: number;
  /**
   * The item of `sessionStorage` that keeps unconfirmed writes over a reload of the page; null for none. If
   * people share a browser, name it after the user, so that no user sends the writes of another.
   */
  outbox?: string | null;
}
