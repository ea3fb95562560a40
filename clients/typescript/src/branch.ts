/** The branches of a session. */

import type { Message } from "./view.js";

/** The fields of a message that determine its place in a branch. */
export type Node = Pick<Message, "id" | "parentId" | "siblings">;

/** The branch that ends at the head: all messages of a session without branches. */
export function branchOf<M extends Node>(messages: M[], headId: string | null): M[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const branch: M[] = [];
  for (let id = headId; id !== null;) {
    const message = byId.get(id);
    // The parent is not loaded.
    if (!message) break;
    branch.push(message);
    id = message.parentId;
  }
  const children = new Map<string | null, M[]>();
  for (const message of messages) {
    const siblings = children.get(message.parentId);
    if (siblings) siblings.push(message);
    else children.set(message.parentId, [message]);
  }
  return branch.reverse().map((message) => withSiblings(message, children.get(message.parentId)!));
}

/** The newest descendant of a message, in any branch. */
export function newestAfter(messages: Node[], id: string): string {
  const newestChild = new Map(messages.map((message) => [message.parentId, message.id]));
  let newest = id;
  for (let child; (child = newestChild.get(newest));) newest = child;
  return newest;
}

/** The branch with the messages that could not be stored, each after the message it was written after. */
export function withFailed(branch: Message[], messages: Message[], failed: Message[]): Message[] {
  if (!failed.length) return branch;
  const stored = new Set(messages.map(({ id }) => id));
  const after = (id: string | null) => failed.filter(({ parentId }) => parentId === id);
  const orphans = failed.filter(({ parentId }) => parentId !== null && !stored.has(parentId));
  return [...after(null), ...branch.flatMap((message) => [message, ...after(message.id)]), ...orphans];
}

const known = new WeakMap<Node, Node>();

/** The message with the ids of its siblings; the same object if these have not changed. */
function withSiblings<M extends Node>(message: M, siblings: M[]): M {
  if (siblings.length === 1) return message;
  const before = known.get(message) as M | undefined;
  const isSame =
    before?.siblings.length === siblings.length &&
    siblings.every(({ id }, index) => before.siblings[index] === id);
  const made = before && isSame ? before : { ...message, siblings: siblings.map(({ id }) => id) };
  known.set(message, made);
  return made;
}
