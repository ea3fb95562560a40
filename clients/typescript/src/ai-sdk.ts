/**
 * Keeps the chats of the AI SDK's `useChat` in mai-sessions. Editing and regenerating make branches; nothing
 * is overwritten.
 */

import type { ChatInit, ChatTransport, UIMessage } from "ai";
import { branchOf, newestAfter } from "./branch.js";
import {
  type Client,
  type ClientOptions,
  createClient,
  isNotFound,
  isUuid,
  type StoredMessage,
  uuidOf,
} from "./client.js";
import { absolute, relative } from "./links.js";
import { beginningOf } from "./text.js";
import type { Json } from "./view.js";

export interface ChatHistoryOptions extends ClientOptions {
  /** Default: a client made from these options. */
  client?: Client;
  /** Returns the title of a new session. Default: the beginning of the first text. */
  title?: (messages: UIMessage[]) => string;
  /**
   * Called when a save of `options` failed. The next save stores what is missing. Default: the error goes to
   * the console.
   */
  onError?: (error: unknown) => void;
  /** The agent and the model of new sessions and answers. */
  agentName?: string;
  modelId?: string;
}

export interface ChatHistory<M extends UIMessage> {
  /** Load the branch that was shown last, for `useChat`'s `messages`; empty if the chat is not stored. */
  load(chatId: string): Promise<M[]>;
  /**
   * Store new and changed messages of those that `useChat` shows. Saves of a chat run one after the other.
   */
  save(chatId: string, messages: M[]): Promise<void>;
  /**
   * Options for `useChat`: it saves each question before the model is called, and each answer when it is
   * complete.
   */
  options(
    chatId: string,
    transport: ChatTransport<M>,
  ): Required<Pick<ChatInit<M>, "id" | "transport" | "onFinish">>;
  /** The stored ids of a shown message and of its siblings, oldest first. */
  siblings(chatId: string, messageId: string): string[];
  /** Load the branch through a stored message, up to its newest message; for `useChat`'s `setMessages`. */
  switchBranch(chatId: string, storedId: string): Promise<M[]>;
}

/** Make a history. Its calls reject with ProblemError or NetworkError. */
export function createChatHistory<M extends UIMessage = UIMessage>(
  options: ChatHistoryOptions = {},
): ChatHistory<M> {
  const { client = createClient(options), title = firstText, onError = console.error } = options;
  const about = {
    ...(options.agentName && { agent_name: options.agentName }),
    ...(options.modelId && { model_id: options.modelId }),
  };
  const chats = new Map<string, Chat<M>>();

  function chatOf(chatId: string): Chat<M> {
    const chat = chats.get(chatId) ?? new Chat<M>(chatId, client, title, about);
    chats.set(chatId, chat);
    return chat;
  }

  return {
    load: (chatId) => chatOf(chatId).load(),
    save: (chatId, messages) => chatOf(chatId).save(messages),
    options: (chatId, transport) => ({
      id: chatId,
      transport: {
        sendMessages(request) {
          const isRegenerated = request.trigger === "regenerate-message";
          chatOf(chatId).save(request.messages, isRegenerated).catch(onError);
          return transport.sendMessages(request);
        },
        reconnectToStream: (request) => transport.reconnectToStream(request),
      },
      onFinish: ({ messages }) => void chatOf(chatId).save(messages).catch(onError),
    }),
    siblings: (chatId, messageId) => chatOf(chatId).siblings(messageId),
    switchBranch: (chatId, storedId) => chatOf(chatId).switchBranch(storedId),
  };
}

/** A stored message, and the message of `useChat` that it holds. */
interface Known<M> {
  id: string;
  parentId: string | null;
  siblings: string[];
  message: M;
  json: string;
  /** Whether another answer was requested: a later message with the same id is that answer. */
  isClosed?: boolean;
}

class Chat<M extends UIMessage> {
  /** The id of the chat, if it is a UUID. */
  readonly #sessionId: string;
  #isStored = false;
  #known: Known<M>[] = [];
  /** Maps the ids of `useChat` to the stored ids of the shown messages. */
  #shown = new Map<string, string>();
  #saved: Promise<void> = Promise.resolve();

  constructor(
    private readonly chatId: string,
    private readonly client: Client,
    private readonly title: (messages: UIMessage[]) => string,
    private readonly about: { agent_name?: string; model_id?: string },
  ) {
    this.#sessionId = isUuid(chatId) ? chatId.toLowerCase() : uuidOf(chatId);
  }

  async load(): Promise<M[]> {
    try {
      const session = await this.client.readSession(this.#sessionId, { branches: "all" });
      this.#isStored = true;
      this.#known = session.messages.map((stored) => knownFrom<M>(stored, this.client));
      return this.#show(session.head_id);
    } catch (error) {
      if (isNotFound(error)) return [];
      throw error;
    }
  }

  save(messages: M[], isRegenerated = false): Promise<void> {
    // A copy, because `useChat` changes its messages in place.
    const snapshot = structuredClone(messages);
    const saved = this.#saved.then(async () => {
      await this.#store(snapshot);
      const question = snapshot.at(-1);
      if (isRegenerated && question) this.#closeAnswers(question);
    });
    this.#saved = saved.catch(() => undefined);
    return saved;
  }

  siblings(messageId: string): string[] {
    const parentId = this.#known.find(({ id }) => id === this.#shown.get(messageId))?.parentId;
    if (parentId === undefined) return [];
    return this.#known.filter((known) => known.parentId === parentId).map(({ id }) => id);
  }

  async switchBranch(storedId: string): Promise<M[]> {
    await this.#saved;
    const headId = newestAfter(this.#known, storedId);
    await this.client.patchSession(this.#sessionId, { head_id: headId });
    return this.#show(headId);
  }

  #show(headId: string | null): M[] {
    const branch = branchOf(this.#known, headId);
    this.#shown = new Map(branch.map(({ id, message }) => [message.id, id]));
    return branch.map(({ message }) => structuredClone(message));
  }

  async #store(messages: M[]): Promise<void> {
    if (!messages.length) return;
    if (!this.#isStored) {
      const metadata = { external_id: this.chatId };
      const title = this.title(messages);
      await this.client.createSession({ id: this.#sessionId, title, metadata, ...this.about });
      this.#isStored = true;
    }
    const shown = new Map<string, string>();
    let parentId: string | null = null;
    for (const message of messages) {
      parentId = await this.#storeMessage(message, parentId);
      shown.set(message.id, parentId);
    }
    this.#shown = shown;
  }

  /** Store a message unless it is stored, and return its stored id. */
  async #storeMessage(message: M, parentId: string | null): Promise<string> {
    const { role, metadata: ui_metadata } = message;
    const json = canonical(message);
    const versions = this.#known.filter(
      (known) => known.parentId === parentId && known.message.id === message.id,
    );
    const same = versions.find((known) => known.json === json);
    if (same) return same.id;
    const parts = relative(message.parts, this.client) as unknown as Record<string, Json>[];
    const metadata = { external_id: message.id, ...(ui_metadata !== undefined && { ui_metadata }) };
    const grown = versions.findLast(({ isClosed }) => !isClosed);
    // A changed answer has grown, for example by the result of a tool. A changed question was edited.
    if (grown && role === "assistant") {
      await this.client.patchMessage(this.#sessionId, grown.id, { parts, metadata });
      Object.assign(grown, { message, json });
      return grown.id;
    }
    const isTaken = this.#known.some((known) => known.message.id === message.id);
    const isOwn = isUuid(message.id) && !isTaken;
    const id = isOwn ? message.id.toLowerCase() : uuidOf([this.#sessionId, parentId, json].join("/"));
    const body = { id, role, parts, metadata, parent_id: parentId, ...(role === "assistant" && this.about) };
    await this.client.appendMessage(this.#sessionId, body);
    this.#known.push({ id, parentId, siblings: [id], message, json });
    return id;
  }

  #closeAnswers(question: M): void {
    const id = this.#shown.get(question.id);
    for (const known of this.#known) if (known.parentId === id) known.isClosed = true;
  }
}

function knownFrom<M extends UIMessage>(stored: StoredMessage, client: Client): Known<M> {
  const { external_id, ui_metadata } = stored.metadata as { external_id?: string; ui_metadata?: unknown };
  const parts = stored.parts ? absolute(stored.parts, client) : [{ type: "text", text: stored.content }];
  const message = {
    id: external_id ?? stored.id,
    role: stored.role,
    ...(ui_metadata !== undefined && { metadata: ui_metadata }),
    parts,
  } as unknown as M;
  const { id, parent_id: parentId } = stored;
  return { id, parentId, siblings: [id], message, json: canonical(message) };
}

/** A text that is the same for equal messages, whatever the order of their members. */
const canonical = (message: UIMessage): string =>
  JSON.stringify(message, (_, value: unknown) => {
    if (value === null || typeof value !== "object" || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  });

function firstText(messages: UIMessage[]): string {
  const part = messages.flatMap(({ parts }) => parts).find(({ type }) => type === "text");
  return beginningOf((part as { text?: string } | undefined)?.text ?? "");
}
