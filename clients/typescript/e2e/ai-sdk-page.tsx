/**
 * `useChat` of the AI SDK over mai-sessions, with a stub model. What a person would do, the test does to
 * `window.chat` and `window.kept`.
 */

import { useChat } from "@ai-sdk/react";
import type { ChatTransport, UIMessage, UIMessageChunk } from "ai";
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { createChatHistory } from "../src/ai-sdk.js";
import { PNG } from "./media.js";

const id = new URLSearchParams(location.search).get("chat")!;
const history = createChatHistory({ modelId: "stub" });
let turn = 0;

/** A turn with reasoning, a tool call, a source, a picture and a PDF. */
const model: ChatTransport<UIMessage> = {
  async sendMessages({ messages }) {
    const question = messages
      .at(-1)!
      .parts.map((part) => (part.type === "text" ? part.text : ""))
      .join("");
    const chunks: UIMessageChunk[] = [
      { type: "start", messageMetadata: { turn: ++turn } },
      { type: "start-step" },
      { type: "reasoning-start", id: "r" },
      { type: "reasoning-delta", id: "r", delta: "thinking" },
      { type: "reasoning-end", id: "r" },
      {
        type: "tool-input-available",
        toolCallId: `call-${turn}`,
        toolName: "weather",
        input: { city: "Łódź" },
      },
      { type: "tool-output-available", toolCallId: `call-${turn}`, output: { degrees: -3.5 } },
      { type: "source-url", sourceId: "s", url: "https://example.org/", title: "Example" },
      { type: "file", url: PNG, mediaType: "image/png" },
      { type: "text-start", id: "t" },
      { type: "text-delta", id: "t", delta: `answer ${turn} to ${question}` },
      { type: "text-end", id: "t" },
      { type: "finish-step" },
      { type: "finish" },
    ];
    return new ReadableStream({
      start(controller) {
        for (const chunk of chunks) controller.enqueue(chunk);
        controller.close();
      },
    });
  },
  reconnectToStream: async () => null,
};

function Page({ stored }: { stored: UIMessage[] }) {
  const chat = useChat({ messages: stored, ...history.options(id, model) });
  useEffect(() => void Object.assign(window, { chat, kept: history }));
  return <main data-status={chat.status}>{chat.messages.length} messages</main>;
}

function Loader() {
  const [stored, setStored] = useState<UIMessage[] | null>(null);
  useEffect(() => void history.load(id).then(setStored), []);
  return stored && <Page stored={stored} />;
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Loader />);
