/** What a sessions store holds, and what can be done with it. */

import type { Client, ClientOptions, SearchQuery, SearchResults } from "./client.js";
import type { Json, Message, Session } from "./view.js";
import type { Write } from "./write.js";

export interface SessionChange {
  title?: string;
  agentName?: string;
  modelId?: string;
  /** Its members are merged; null removes one. */
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
  /** Store it with its first message, and not before. A new one takes the place of one that is still empty. */
  lazy?: boolean;
}

export interface MessageChange {
  content?: string;
  /** What the message is made of, as the frontend has it. Replaced as a whole. */
  parts?: Record<string, Json>[];
  /** Its members are merged; null removes one. */
  metadata?: Record<string, Json>;
  status?: Message["status"];
  /** PNG, JPEG, GIF, WebP or AVIF as data URLs. */
  images?: string[];
  /** Names. */
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
  /** The message before it; null for none. Default: the newest one that is shown. */
  parentId?: string | null;
}

/** What failed for good. */
export interface Failure {
  /** Names it for `retry` and `discard`. */
  id: string;
  action: Write["action"] | "loadSessions" | "loadSession" | "search";
  sessionId: string | null;
  messageId: string | null;
  /** The text that it would have stored. */
  content: string | null;
  /** ProblemError, NetworkError or StorageError, or what `token` threw. */
  error: unknown;
}

/** `ready`: what is shown is all there is, if perhaps not the newest. `error`: nothing came, and loading again is up to the page. */
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
  /** Newest first, as far as `loadArchived` has brought them. */
  archived: Session[];
  /** The branch that is shown, by session; undefined for a session that has been neither selected nor loaded. */
  messages: Record<string, Message[] | undefined>;
  /** By session, as `messages`: an empty list means an empty session only when it is `ready`. */
  loads: Record<string, LoadState | undefined>;
  /** Whether the list of sessions has come: until then an empty one means nothing. */
  loaded: boolean;
  listLoad: LoadState;
  archivedLoad: LoadState;
  /** A session that is there or being loaded. When it goes, wherever it was removed, the newest is selected, or none. */
  activeSessionId: string | null;
  /** `retrying`: something did not arrive and is sent again. */
  status: "idle" | "loading" | "saving" | "retrying";
  /** Writes that the service has not confirmed. */
  pending: number;
  /** Writes that failed, oldest first, until they are retried or discarded. */
  failures: Failure[];
  /** The newest failure of a write or a load. */
  lastError: Failure | null;
  /** Removed sessions that `undoDelete` brings back. */
  undoable: Session[];
  /** Whether the service has older sessions than these. */
  hasMore: boolean;
  hasMoreArchived: boolean;
  /** What the last search brought; null when there is none. */
  found: Found | null;

  /** Makes a session, selects it and returns its id, all before anything is sent. */
  createSession(session?: NewSession): string;
  /** Removes a session; `undoFor` milliseconds pass before that is sent. */
  deleteSession(id: string): void;
  deleteSessions(ids: string[]): void;
  /** Brings back a session that was removed, if that has not been sent. */
  undoDelete(id: string): void;
  renameSession(id: string, title: string): void;
  updateSession(id: string, change: SessionChange): void;
  archiveSession(id: string, archived?: boolean): void;
  archiveSessions(ids: string[], archived?: boolean): void;
  /** Selects a session, and loads its messages unless they are there. */
  setActiveSession(id: string | null): void;

  /** Adds a message and returns its id. */
  addMessage(sessionId: string, message: NewMessage): string;
  /** Changes a message, as often as wanted: what comes too fast is sent as one. A string is its content. */
  updateMessage(sessionId: string, messageId: string, change: string | MessageChange): void;
  /** Removes a message; those after it stay. */
  deleteMessage(sessionId: string, messageId: string): void;
  clearMessages(sessionId: string): void;
  /** Adds another version of a message as its sibling and shows it; returns its id. What is not given is as in the old one. */
  edit(sessionId: string, messageId: string, change: string | MessageChange): string;
  /** Adds an empty answer as a sibling of an answer and shows it; returns its id. */
  regenerate(sessionId: string, messageId: string, answer?: MessageChange): string;
  /** Shows the branch through a message, such as one of `siblings`, to the newest message after it. */
  switchBranch(sessionId: string, messageId: string): void;

  /** Sends again what failed: all of a session or message, or one of `failures`, by id. */
  retry(id: string): void;
  /** Forgets what failed. A message that was never stored goes, a changed one is again as it is stored. */
  discard(id: string): void;
  clearError(): void;

  /** Loads the newest sessions and the messages that are shown, also again, to see what was written elsewhere. */
  loadSessions(): Promise<void>;
  /** Loads the next older sessions. */
  loadMoreSessions(): Promise<void>;
  loadArchived(): Promise<void>;
  loadMoreArchived(): Promise<void>;
  /** Loads a session with its messages, also again, after the writes of it that are under way. */
  loadSession(id: string): Promise<void>;
  /** Loads a session unless it is there, and again whenever it may have changed, until the returned function is called. */
  watchSession(id: string): () => void;
  /** Searches titles and messages; the last query wins, and an empty one ends it. */
  search(query: string, filter?: Omit<SearchQuery, "q" | "cursor">): Promise<void>;
  searchMore(): Promise<void>;
  /** Sends what is waiting now, removals too; resolves when nothing is pending. */
  flush(): Promise<void>;
  /** Stops listening to the page and to other tabs. */
  close(): void;
}

export interface SessionsStoreOptions extends ClientOptions {
  /** Default: one made of these options. */
  client?: Client;
  /** How long a write or a load is repeated before it fails, in milliseconds. Default 5 minutes. */
  retryFor?: number;
  /** The shortest time between two updates of one message, in milliseconds. Default 300. */
  updateInterval?: number;
  /** How long a removed session can be brought back before the removal is sent, in milliseconds. Default 10 s. */
  undoFor?: number;
  /**
   * The item of `sessionStorage` that carries unconfirmed writes over a reload of the page; null for none. Where people share a
   * browser, name it after the user, so that nobody sends what another one wrote.
   */
  outbox?: string | null;
}
