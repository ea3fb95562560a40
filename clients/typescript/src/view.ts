/** Sessions and messages in the store: the known state of the service, with the pending writes applied. */

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
  /** Why its creation failed; null otherwise. */
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
  /** URLs; data URLs until the images are stored. */
  images: string[];
  documents: string[];
  modelId: string | null;
  agentName: string | null;
  responseTimeMs: number | null;
  isError: boolean;
  /** null until the message is stored. */
  tokenCount: number | null;
  /** Its place in the session; null until it is stored. */
  seq: number | null;
  /** The message before it in its branch. */
  parentId: string | null;
  /** The ids of all messages with the same parent, oldest first, including its own. */
  siblings: string[];
  /** Why it, or its last change, could not be stored. */
  failure: Failure | null;
}

export interface View {
  /** Newest first, archived ones too. */
  sessions: Session[];
  /** The messages of each loaded session, of all branches, oldest first. */
  messages: Record<string, Message[] | undefined>;
}

/** One list for all sessions without messages: a selector must return the same object each time. */
export const NO_MESSAGES: Message[] = [];

export const EMPTY: View = { sessions: [], messages: {} };

/** The view after an unconfirmed or failed write. */
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

/** The view with a message as the head of its session, and counted. */
export const withHead = (view: View, sessionId: string, { id, content, timestamp }: Message): View =>
  withChangedSession(view, sessionId, ({ messageCount }) => ({
    messageCount: messageCount + 1,
    lastMessagePreview: preview(content),
    headId: id,
    updatedAt: timestamp,
  }));

/** The view with a changed message. */
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

/** The view without a message. Its children move to its parent. */
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

/** The view with the preview of the head. */
function withPreview(view: View, sessionId: string): View {
  const headId = headIdOf(view, sessionId);
  const head = view.messages[sessionId]?.find(({ id }) => id === headId);
  const lastMessagePreview = head ? preview(head.content) : null;
  const session = view.sessions.find(({ id }) => id === sessionId);
  // Most updates of a long answer do not change its preview. Then `sessions` stays the same object.
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

/** The session of a reply. */
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

/** The message of a reply. */
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
  // Other changes do not move the session in the list.
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
