/** What the store shows: what the service is known to hold, with the writes that are still on their way applied to it. */

import type { MessageCreate, MessagePatch, SessionCreate, SessionSummary, StoredMessage } from "./client.js";

export interface Session {
  id: string;
  title: string;
  agentName: string;
  modelId: string | null;
  createdAt: Date;
  updatedAt: Date;
  messageCount: number;
  lastMessagePreview: string | null;
}

export interface Message {
  /** Stays the same while the page lives; another than the service's for a message that was added here. */
  id: string;
  role: StoredMessage["role"];
  content: string;
  timestamp: Date;
  /** URLs: data URLs until they are stored. */
  images: string[];
  documents: string[];
  modelId: string | null;
  agentName: string | null;
  responseTimeMs: number | null;
  isError: boolean;
  /** null until it is stored. */
  tokenCount: number | null;
  /** Its place in the session; null until it is stored. */
  seq: number | null;
}

export interface View {
  /** Newest first. */
  sessions: Session[];
  /** By session; none for a session that is not loaded. */
  messages: Record<string, Message[]>;
}

/** A write, as plain data, so that it can outlive the page. `at` is in milliseconds. */
export type Write = { sessionId: string; at: number } & (
  | { action: "createSession"; key: string; body: SessionCreate }
  | { action: "renameSession"; title: string }
  | { action: "deleteSession" }
  | { action: "addMessage"; key: string; messageId: string; body: MessageCreate }
  | { action: "updateMessage"; messageId: string; body: MessagePatch }
  | { action: "clearMessages" }
);

/** The view after a write that has not been answered yet. */
export function applied(view: View, write: Write): View {
  const { sessionId } = write;
  const at = new Date(write.at);
  switch (write.action) {
    case "createSession": {
      if (view.sessions.some(({ id }) => id === sessionId)) return view;
      const { title, agent_name, model_id } = write.body;
      const session: Session = {
        id: sessionId,
        title: titleOf(title),
        agentName: agent_name?.trim() ? agent_name : "chat",
        modelId: model_id ?? null,
        createdAt: at,
        updatedAt: at,
        messageCount: 0,
        lastMessagePreview: null,
      };
      return withMessages(withSession(view, session), sessionId, []);
    }
    case "renameSession":
      return changed(view, sessionId, () => ({ title: titleOf(write.title), updatedAt: at }));
    case "deleteSession":
      return withoutSession(view, sessionId);
    case "addMessage":
      return withMessage(view, sessionId, messageOf(write.messageId, at, write.body));
    case "updateMessage":
      return withChangedMessage(view, sessionId, write.messageId, (message) => ({
        ...message,
        content: write.body.content ?? message.content,
        modelId: write.body.model_id ?? message.modelId,
        agentName: write.body.agent_name ?? message.agentName,
        responseTimeMs: write.body.response_time_ms ?? message.responseTimeMs,
        isError: write.body.is_error ?? message.isError,
        tokenCount: write.body.token_count ?? message.tokenCount,
      }));
    case "clearMessages":
      return withMessages(
        changed(view, sessionId, () => ({ messageCount: 0, lastMessagePreview: null, updatedAt: at })),
        sessionId,
        [],
      );
  }
}

export const withSession = (view: View, session: Session): View => ({
  ...view,
  sessions: newestFirst([session, ...view.sessions.filter(({ id }) => id !== session.id)]),
});

export function withoutSession(view: View, sessionId: string): View {
  const { [sessionId]: _, ...messages } = view.messages;
  return { sessions: view.sessions.filter(({ id }) => id !== sessionId), messages };
}

export const withMessages = (view: View, sessionId: string, messages: Message[]): View => ({
  ...view,
  messages: { ...view.messages, [sessionId]: messages },
});

/** The view with a message at the end of its session. */
export function withMessage(view: View, sessionId: string, message: Message): View {
  const { content, timestamp } = message;
  const moved = changed(view, sessionId, ({ messageCount }) => ({
    messageCount: messageCount + 1,
    lastMessagePreview: preview(content),
    updatedAt: timestamp,
  }));
  return withMessages(moved, sessionId, [...(view.messages[sessionId] ?? []), message]);
}

/** The view with another version of a message, where it is. */
export function withChangedMessage(view: View, sessionId: string, id: string, change: (message: Message) => Message): View {
  const messages = view.messages[sessionId]?.map((message) => (message.id === id ? change(message) : message));
  if (!messages) return view;
  const newest = messages.at(-1);
  const session = view.sessions.find((session) => session.id === sessionId);
  // Most updates of a long answer leave its first characters, and with them the list of sessions, as they are.
  const seen = !newest || newest.id !== id || session?.lastMessagePreview === preview(newest.content);
  const moved = seen ? view : changed(view, sessionId, () => ({ lastMessagePreview: preview(newest.content) }));
  return withMessages(moved, sessionId, messages);
}

export const newestFirst = (sessions: Session[]): Session[] =>
  sessions.sort((a, b) => b.updatedAt.getTime() - a.updatedAt.getTime() || (a.id < b.id ? 1 : -1));

/** A session as the service gives it. */
export const sessionFrom = (summary: SessionSummary): Session => ({
  id: summary.id,
  title: summary.title,
  agentName: summary.agent_name,
  modelId: summary.model_id,
  createdAt: new Date(summary.created_at),
  updatedAt: new Date(summary.updated_at),
  messageCount: summary.message_count,
  lastMessagePreview: summary.last_message_preview,
});

/** A message as the service gives it, under the id that it has here. */
export const messageFrom = (stored: StoredMessage, id: string, url: (path: string) => string): Message => ({
  ...messageOf(id, new Date(stored.created_at), stored),
  images: stored.images.map(url),
  seq: stored.seq,
});

const messageOf = (id: string, timestamp: Date, body: MessageCreate): Message => ({
  id,
  role: body.role,
  content: body.content,
  timestamp,
  images: body.images ?? [],
  documents: body.documents ?? [],
  modelId: body.model_id ?? null,
  agentName: body.agent_name ?? null,
  responseTimeMs: body.response_time_ms ?? null,
  isError: body.is_error ?? false,
  tokenCount: body.token_count ?? null,
  seq: null,
});

function changed(view: View, sessionId: string, change: (session: Session) => Partial<Session>): View {
  const session = view.sessions.find(({ id }) => id === sessionId);
  return session ? withSession(view, { ...session, ...change(session) }) : view;
}

const titleOf = (title: string | null | undefined): string => (title?.trim() ? title : "New Chat");

// Characters as the service counts them, not UTF-16 units.
const preview = (content: string): string => [...content.slice(0, 200)].slice(0, 100).join("");
