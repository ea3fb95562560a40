/** Writes as plain data, which can wait, be repeated, and survive the page. */

import type { MessageCreate, MessagePatch, SessionCreate, SessionPatch } from "./client.js";
import { uuid } from "./ids.js";
import type { MessageChange, NewMessage, SessionChange } from "./state.js";

/** `at` is the time of the write, in milliseconds since 1970. */
export type Write = { id: string; sessionId: string; at: number } & (
  | { action: "createSession"; body: SessionCreate; lazy?: boolean }
  | { action: "updateSession"; body: SessionPatch }
  | { action: "deleteSession"; dueAt: number }
  | { action: "addMessage"; messageId: string; body: MessageCreate }
  | { action: "updateMessage"; messageId: string; body: MessagePatch }
  | { action: "deleteMessage"; messageId: string }
  | { action: "clearMessages" }
);
export type WriteOf<Action extends Write["action"]> = Extract<Write, { action: Action }>;
type Unnamed<W> = W extends unknown ? Omit<W, "id"> : never;

export const named = <W extends Unnamed<Write>>(write: W) =>
  ({ id: uuid(), ...write }) as unknown as WriteOf<W["action"]>;

/** The message that a write is about. */
export const messageIdOf = (write: Write): string | null => ("messageId" in write ? write.messageId : null);

/** The text that a write would have stored. */
export const contentOf = (write: Write): string | null =>
  write.action === "addMessage" || write.action === "updateMessage" ? (write.body.content ?? null) : null;

/** Combine an update of a message with the write before it. */
export function fold(into: WriteOf<"addMessage" | "updateMessage">, body: MessagePatch): void {
  const metadata = body.metadata && { ...into.body.metadata, ...body.metadata };
  Object.assign(into.body, body, metadata && { metadata });
}

export const messagePatchOf = (change: MessageChange): MessagePatch =>
  given({
    content: change.content,
    parts: change.parts,
    metadata: change.metadata,
    status: change.status,
    images: change.images,
    documents: change.documents,
    model_id: change.modelId,
    agent_name: change.agentName,
    response_time_ms: change.responseTimeMs,
    is_error: change.isError,
    token_count: change.tokenCount,
  });

export function messageBodyOf(
  { role, content, parentId, ...change }: NewMessage,
  defaults: MessageChange,
): MessageCreate {
  const text = content ?? (change.parts ? undefined : "");
  const { content: _, ...body } = messagePatchOf({ ...defaults, ...change });
  return {
    ...body,
    role,
    ...(text !== undefined && { content: text }),
    ...(parentId !== undefined && { parent_id: parentId }),
  };
}

export const sessionPatchOf = (change: SessionChange): SessionPatch =>
  given({
    title: change.title,
    agent_name: change.agentName,
    model_id: change.modelId,
    metadata: change.metadata,
    archived: change.archived,
    head_id: change.headId,
  });

/** The members that are not undefined. */
function given<T extends object>(members: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as never;
}
