/** Sends writes, and returns the changes that their replies make to the known state. */

import { Batcher } from "./batcher.js";
import type { Client } from "./client.js";
import { isNotFound } from "./errors.js";
import type { RequestOptions } from "./request.js";
import {
  applied,
  messageFrom,
  sessionFrom,
  type View,
  withChangedMessage,
  withHead,
  withMessage,
  withMessages,
  withoutMessage,
  withoutSession,
  withSession,
} from "./view.js";
import type { Write } from "./write.js";

export type Change = (view: View) => View;
export type Send = (write: Write, request: RequestOptions) => Promise<Change>;

/** The maximum of sessions in a batch. */
const MAX_BATCH = 500;

export function createSend(client: Client, retryFor: number): Send {
  const batcher = (action: "delete" | "archive" | "unarchive") =>
    new Batcher<{ id: string; request: RequestOptions }>((calls) => {
      const onRetry: RequestOptions["onRetry"] = (error) =>
        calls.forEach(({ request }) => request.onRetry?.(error));
      return client.batchSessions(
        calls.map(({ id }) => id),
        action,
        { retryFor, onRetry },
      );
    }, MAX_BATCH);
  const batchers = {
    delete: batcher("delete"),
    archive: batcher("archive"),
    unarchive: batcher("unarchive"),
  };

  return async (write, request) => {
    const { sessionId } = write;
    switch (write.action) {
      case "createSession": {
        const session = await client.createSession({ ...write.body, id: sessionId }, request);
        const messages = session.messages.map((message) => messageFrom(message, client.url));
        return (view) => withMessages(withSession(view, sessionFrom(session)), sessionId, messages);
      }
      case "updateSession": {
        if (Object.keys(write.body).join() === "archived") {
          await batchers[write.body.archived ? "archive" : "unarchive"].add({ id: sessionId, request });
          return (view) => applied(view, write);
        }
        const session = sessionFrom(await client.patchSession(sessionId, write.body, request));
        return (view) => withSession(view, session);
      }
      case "deleteSession":
        await batchers.delete.add({ id: sessionId, request });
        return (view) => withoutSession(view, sessionId);
      case "addMessage": {
        const stored = await client.appendMessage(sessionId, { ...write.body, id: write.messageId }, request);
        const message = messageFrom(stored, client.url);
        // A single message of a session that is not loaded would look like all of them.
        return (view) => (view.messages[sessionId] ? withMessage : withHead)(view, sessionId, message);
      }
      case "updateMessage": {
        const { messageId, body } = write;
        const message = messageFrom(
          await client.patchMessage(sessionId, messageId, body, request),
          client.url,
        );
        return (view) => withChangedMessage(view, sessionId, messageId, () => message);
      }
      case "deleteMessage":
        await client.deleteMessage(sessionId, write.messageId, request).catch(unlessNotFound);
        return (view) => withoutMessage(view, sessionId, write.messageId);
      case "clearMessages":
        await client.clearMessages(sessionId, request);
        return (view) => applied(view, write);
    }
  };
}

function unlessNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
