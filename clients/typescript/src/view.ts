/** Sessions and messages as the store sees them: what the service is known to hold, with the writes that are under way applied to it. */

import type {
  MessageCreate,
  MessagePatch,
  SessionCreate,
  SessionPatch,
  SessionSummary,
  StoredMessage,
} from "./client.js";
import type { Failure } from "./state.js";
import type { Write } from "./write.js";

export type Json = string | number | boolean | null | Json[] | { [name: string]: Json };

export interface Session {
  id: string;
  title: string;
  agentName: string;
  modelId: string | null;
  createdAt: Date;
  updatedAt: Date;
  messageCount: number;
  lastMessagePreview: string | null;
  metadata: Record<string, Json>;
  archived: boolean;
  /** The newest message of the branch that is shown; null without messages. */
  headId: string | null;
  /** Why it could not be made; null for one that could, or may yet. */
  failure: Failure | null;
}

export interface Message {
  id: string;
  role: StoredMessage["role"];
  content: string;
  timestamp: Date;
  parts: Record<string, Json>[] | null;
  metadata: Record<string, Json>;
  status: StoredMessage["status"];
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
  /** The message before it in its branch. */
  parentId: string | null;
  /** The ids of all messages after the same one, oldest first, itself among them. */
  siblings: string[];
  /** Why it, or its last change, could not be stored. */
  failure: Failure | null;
}

export interface View {
  /** Newest first, archived ones too. */
  sessions: Session[];
  /** Every message of each session that is loaded, those of other branches too, oldest first. */
  messages: Record<string, Message[] | undefined>;
}

/** The same list wherever there are no messages, as a selector has to return. */
export const NO_MESSAGES: Message[] = [];

export const EMPTY: View = { sessions: [], messages: {} };

/** The view after a write that has not been confirmed, or that failed. */
export function applied(view: View, write: Write, failure: Failure | null = null): View {
  const { sessionId } = write;
  const at = new Date(write.at);
  switch (write.action) {
    case "createSession": {
      if (view.sessions.some(({ id }) => id === sessionId)) return view;
      const session = { ...newSession(sessionId, at, write.body), failure };
      return withMessages(withSession(view, session), sessionId, []);
    }
    case "updateSession":
      return withChangedSession(view, sessionId, (session) => patchedSession(session, at, write.body));
    case "deleteSession":
      return withoutSession(view, sessionId);
    case "addMessage": {
      const { parent_id: parentId = headIdOf(view, sessionId) } = write.body;
      return withMessage(view, sessionId, {
        ...newMessage(write.messageId, at, write.body),
        parentId,
        failure,
      });
    }
    case "updateMessage":
      return withChangedMessage(view, sessionId, write.messageId, (message) => ({
        ...patchedMessage(message, write.body),
        failure,
      }));
    case "deleteMessage":
      return withoutMessage(view, sessionId, write.messageId);
    case "clearMessages":
      return withMessages(
        withChangedSession(view, sessionId, () => ({
          messageCount: 0,
          lastMessagePreview: null,
          headId: null,
          updatedAt: at,
        })),
        sessionId,
        [],
      );
  }
}

/** The newest message of the branch that a session shows. */
export const headIdOf = (view: View, sessionId: string): string | null =>
  view.sessions.find(({ id }) => id === sessionId)?.headId ?? view.messages[sessionId]?.at(-1)?.id ?? null;

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

/** The view with a message as the head of its session. */
export function withMessage(view: View, sessionId: string, message: Message): View {
  const messages = view.messages[sessionId] ?? [];
  if (messages.some(({ id }) => id === message.id))
    return withChangedMessage(view, sessionId, message.id, () => message);
  return withMessages(withHead(view, sessionId, message), sessionId, [...messages, message]);
}

/** The view whose session has one message more, its head. */
export const withHead = (view: View, sessionId: string, { id, content, timestamp }: Message): View =>
  withChangedSession(view, sessionId, ({ messageCount }) => ({
    messageCount: messageCount + 1,
    lastMessagePreview: preview(content),
    headId: id,
    updatedAt: timestamp,
  }));

/** The view with another version of a message, where it is. */
export function withChangedMessage(
  view: View,
  sessionId: string,
  id: string,
  change: (message: Message) => Message,
): View {
  const messages = view.messages[sessionId]?.map((message) =>
    message.id === id ? change(message) : message,
  );
  return messages ? withPreview(withMessages(view, sessionId, messages), sessionId) : view;
}

/** The view without a message; what came after it comes after the one before it. */
export function withoutMessage(view: View, sessionId: string, id: string): View {
  const messages = view.messages[sessionId];
  const gone = messages?.find((message) => message.id === id);
  if (!messages || !gone) return view;
  const { parentId } = gone;
  const left = messages
    .filter((message) => message !== gone)
    .map((message) => (message.parentId === id ? { ...message, parentId } : message));
  const moved = withChangedSession(view, sessionId, ({ messageCount, headId }) => ({
    messageCount: Math.max(0, messageCount - 1),
    headId: headId === id ? parentId : headId,
  }));
  return withPreview(withMessages(moved, sessionId, left), sessionId);
}

/** The view with the preview that the head gives. */
function withPreview(view: View, sessionId: string): View {
  const headId = headIdOf(view, sessionId);
  const head = view.messages[sessionId]?.find(({ id }) => id === headId);
  const lastMessagePreview = head ? preview(head.content) : null;
  const session = view.sessions.find(({ id }) => id === sessionId);
  // Most updates of a long answer leave its first characters, and with them the list of sessions, as they are.
  if (!session || session.lastMessagePreview === lastMessagePreview || (headId && !head)) return view;
  return withSession(view, { ...session, lastMessagePreview });
}

export function withChangedSession(
  view: View,
  sessionId: string,
  change: (session: Session) => Partial<Session>,
): View {
  const session = view.sessions.find(({ id }) => id === sessionId);
  return session ? withSession(view, { ...session, ...change(session) }) : view;
}

export const newestFirst = (sessions: Session[]): Session[] =>
  sessions.sort((a, b) => b.updatedAt.getTime() - a.updatedAt.getTime() || (a.id < b.id ? 1 : -1));

/** A session as the service gives it. */
export const sessionFrom = (stored: SessionSummary): Session => ({
  id: stored.id,
  title: stored.title,
  agentName: stored.agent_name,
  modelId: stored.model_id,
  createdAt: new Date(stored.created_at),
  updatedAt: new Date(stored.updated_at),
  messageCount: stored.message_count,
  lastMessagePreview: stored.last_message_preview,
  metadata: stored.metadata as Session["metadata"],
  archived: stored.archived,
  headId: stored.head_id,
  failure: null,
});

/** A message as the service gives it. */
export const messageFrom = (stored: StoredMessage, url: (path: string) => string): Message => ({
  ...newMessage(stored.id, new Date(stored.created_at), stored as MessageCreate),
  images: stored.images.map(url),
  seq: stored.seq,
  parentId: stored.parent_id,
});

const newSession = (id: string, at: Date, body: SessionCreate): Session => ({
  id,
  title: titleOf(body.title),
  agentName: body.agent_name?.trim() ? body.agent_name : "chat",
  modelId: body.model_id ?? null,
  createdAt: at,
  updatedAt: at,
  messageCount: 0,
  lastMessagePreview: null,
  metadata: (body.metadata as Session["metadata"]) ?? {},
  archived: body.archived ?? false,
  headId: null,
  failure: null,
});

function patchedSession(session: Session, at: Date, body: SessionPatch): Partial<Session> {
  const { title, agent_name, model_id, metadata, archived, head_id } = body;
  // What does not change what was said leaves the session's place in the list alone.
  const isMoved = [title, agent_name, model_id].some((value) => value != null);
  return {
    title: title == null ? session.title : titleOf(title),
    agentName: agent_name ?? session.agentName,
    modelId: model_id ?? session.modelId,
    metadata: merged(session.metadata, metadata),
    archived: archived ?? session.archived,
    headId: head_id ?? session.headId,
    updatedAt: isMoved ? at : session.updatedAt,
  };
}

const newMessage = (id: string, timestamp: Date, body: MessageCreate): Message => ({
  id,
  role: body.role,
  content: body.content ?? textOf(body.parts),
  timestamp,
  parts: (body.parts as Message["parts"]) ?? null,
  metadata: (body.metadata as Message["metadata"]) ?? {},
  status: body.status ?? "complete",
  images: body.images ?? [],
  documents: body.documents ?? [],
  modelId: body.model_id ?? null,
  agentName: body.agent_name ?? null,
  responseTimeMs: body.response_time_ms ?? null,
  isError: body.is_error ?? false,
  tokenCount: body.token_count ?? null,
  seq: null,
  parentId: null,
  siblings: [id],
  failure: null,
});

function patchedMessage(message: Message, body: MessagePatch): Message {
  return {
    ...message,
    content: body.content ?? (body.parts ? textOf(body.parts) : message.content),
    parts: (body.parts as Message["parts"]) ?? message.parts,
    metadata: merged(message.metadata, body.metadata),
    status: body.status ?? message.status,
    images: body.images ?? message.images,
    documents: body.documents ?? message.documents,
    modelId: body.model_id ?? message.modelId,
    agentName: body.agent_name ?? message.agentName,
    responseTimeMs: body.response_time_ms ?? message.responseTimeMs,
    isError: body.is_error ?? message.isError,
    tokenCount: body.token_count ?? message.tokenCount,
  };
}

/** A merge patch (RFC 7396) of the first level. */
function merged(into: Record<string, Json>, changes: unknown): Record<string, Json> {
  if (!changes) return into;
  const all: Record<string, Json> = { ...into, ...changes };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null));
}

/** The content of a message that has only parts, as the service derives it. */
function textOf(parts: MessageCreate["parts"]): string {
  const texts = (parts ?? []).filter(({ type }) =>
    ["text", "input_text", "output_text"].includes(type as string),
  );
  return texts.map(({ text }) => text).join("\n\n");
}

const titleOf = (title: string | null | undefined): string => (title?.trim() ? title : "New Chat");

// Characters as the service counts them, not UTF-16 units.
const preview = (content: string): string => [...content.slice(0, 200)].slice(0, 100).join("");
