/** What a sessions store holds, and what can be done with it. */

import type { Client, ClientOptions } from "./client.js";
import type { Message, View, Write } from "./view.js";

export interface NewSession {
  title?: string;
  agentName?: string;
  modelId?: string | null;
}

export interface MessageChange {
  content?: string;
  modelId?: string;
  agentName?: string;
  responseTimeMs?: number;
  isError?: boolean;
  tokenCount?: number;
}

export interface NewMessage extends MessageChange {
  /** Default: a new one. */
  id?: string;
  role: Message["role"];
  content: string;
  /** PNG, JPEG, GIF, WebP or AVIF as data URLs. */
  images?: string[];
  /** Names. */
  documents?: string[];
}

/** What failed for good. A write is rolled back, and `content` is what it would have stored. */
export interface Failure {
  action: Write["action"] | "loadSessions" | "loadSession";
  sessionId: string | null;
  content: string | null;
  /** ProblemError or NetworkError, or what `token` threw. */
  error: unknown;
}

export interface SessionsState extends View {
  activeSessionId: string | null;
  /** `retrying`: a write did not arrive and is sent again. */
  status: "idle" | "loading" | "saving" | "retrying";
  /** Writes that the service has not confirmed. */
  pending: number;
  lastError: Failure | null;
  /** Whether the service has older sessions than these. */
  hasMore: boolean;

  /** Makes a session, selects it and returns its id, all before anything is sent. */
  createSession(session?: NewSession): string;
  /** Removes a session; when it was selected, the newest one is. */
  deleteSession(id: string): void;
  renameSession(id: string, title: string): void;
  /** Selects a session, and loads its messages unless they are there. */
  setActiveSession(id: string | null): void;
  /** Adds a message and returns its id. */
  addMessage(sessionId: string, message: NewMessage): string;
  /** Changes a message, as often as wanted: what comes too fast is sent as one. A string is its content. */
  updateMessage(sessionId: string, messageId: string, change: string | MessageChange): void;
  clearMessages(sessionId: string): void;

  /** Loads the newest sessions and the messages of the selected one, also again, to see what was written elsewhere. */
  loadSessions(): Promise<void>;
  /** Loads the next older sessions. */
  loadMoreSessions(): Promise<void>;
  /** Loads a session with its messages, also again, after the writes of it that are under way. */
  loadSession(id: string): Promise<void>;
  /** Sends what is waiting now; resolves when nothing is pending. */
  flush(): Promise<void>;
  clearError(): void;
}

export interface SessionsStoreOptions extends ClientOptions {
  /** Default: one made of these options. */
  client?: Client;
  /** How long a write is repeated before it is rolled back, in milliseconds. Default 5 minutes. */
  retryFor?: number;
  /** The shortest time between two updates of one message, in milliseconds. Default 300. */
  updateInterval?: number;
  /**
   * The item of `sessionStorage` that carries unconfirmed writes over a reload of the page; null for none. Where people share a
   * browser, name it after the user, so that nobody sends what another one wrote.
   */
  outbox?: string | null;
}
