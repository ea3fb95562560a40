/**
 * assistant-ui over mai-sessions, with a stub model. What a person would do, the test does to
 * `window.runtime`.
 */

import {
  AssistantRuntimeProvider,
  type ChatModelAdapter,
  useLocalRuntime,
  useRemoteThreadListRuntime,
} from "@assistant-ui/react";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { createThreadListAdapter } from "../src/assistant-ui.js";
import { PNG } from "./media.js";

let turn = 0;

/** A turn with reasoning, a tool call, a source and a picture. */
const model: ChatModelAdapter = {
  async run({ messages }) {
    const question = messages
      .at(-1)!
      .content.map((part) => (part.type === "text" ? part.text : ""))
      .join("");
    return {
      content: [
        { type: "reasoning", text: "thinking" },
        {
          type: "tool-call",
          toolCallId: `call-${++turn}`,
          toolName: "weather",
          args: { city: "Łódź" },
          argsText: '{"city":"Łódź"}',
          result: { degrees: -3.5 },
        },
        { type: "source", sourceType: "url", id: "s", url: "https://example.org/", title: "Example" },
        { type: "image", image: PNG },
        { type: "text", text: `answer ${turn} to ${question}` },
      ],
    };
  },
};

const adapter = createThreadListAdapter({ modelId: "stub" });

function Page() {
  const runtime = useRemoteThreadListRuntime({ runtimeHook: () => useLocalRuntime(model), adapter });
  useEffect(() => void Object.assign(window, { runtime }));
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <main />
    </AssistantRuntimeProvider>
  );
}

createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
