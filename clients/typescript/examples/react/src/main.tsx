/** A chat page over mai-sessions: list, search, branches, pictures, and errors that can be retried. */

import { createSessionsStore, type Message } from "mai-sessions-client";
import { type Chat, SessionsProvider, useChat, useSessions } from "mai-sessions-client/react";
import { type FormEvent, StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { answer } from "./model.js";

const store = createSessionsStore();

function Page() {
  const { activeSessionId, setActiveSession, createSession, listLoad, pending, status } = useSessions();
  // The address names the session, so that a reload and a link show the same one.
  useEffect(() => {
    const fromAddress = () => setActiveSession(location.hash.slice(1) || null);
    fromAddress();
    addEventListener("hashchange", fromAddress);
    return () => removeEventListener("hashchange", fromAddress);
  }, [setActiveSession]);
  useEffect(() => {
    if (activeSessionId && activeSessionId !== location.hash.slice(1)) location.hash = activeSessionId;
  }, [activeSessionId]);

  return (
    <>
      <nav>
        <button onClick={() => createSession({ lazy: true })}>New chat</button>
        <Search />
        {listLoad.status === "error" && <p role="alert">The list could not be loaded.</p>}
        <Sessions />
        <small role="status">{pending ? `${status}: ${pending}` : "all saved"}</small>
      </nav>
      <main>
        {activeSessionId ? (
          <Messages key={activeSessionId} id={activeSessionId} />
        ) : (
          <p>Choose a chat, or begin one.</p>
        )}
      </main>
    </>
  );
}

function Sessions() {
  const { sessions, undoable, hasMore, activeSessionId, ...actions } = useSessions();
  return (
    <>
      <ul>
        {sessions.map(({ id, title, failure }) => (
          <li key={id} aria-current={id === activeSessionId}>
            <a href={`#${id}`}>{title}</a>
            {failure && <button onClick={() => actions.retry(id)}>Retry</button>}
            <button onClick={() => actions.renameSession(id, prompt("Title", title) ?? title)}>Rename</button>
            <button onClick={() => actions.archiveSession(id)}>Archive</button>
            <button onClick={() => actions.deleteSession(id)}>Delete</button>
          </li>
        ))}
      </ul>
      {hasMore && <button onClick={() => actions.loadMoreSessions()}>Older chats</button>}
      {undoable.map(({ id, title }) => (
        <p key={id}>
          {title} is deleted. <button onClick={() => actions.undoDelete(id)}>Undo</button>
        </p>
      ))}
    </>
  );
}

function Search() {
  const { found, search, searchMore, setActiveSession } = useSessions();
  return (
    <search>
      {/* A search that fails says so in `found`. */}
      <input
        type="search"
        placeholder="Search"
        onChange={({ target }) => search(target.value).catch(() => undefined)}
      />
      {found?.load.status === "error" && <p role="alert">The search failed.</p>}
      <ol>
        {found?.results.map(({ session, message_id, snippet }) => (
          <li key={session.id + message_id} onClick={() => setActiveSession(session.id)}>
            {/* The service escapes the text; only the marks of the hits are HTML. */}
            <b>{session.title}</b> <span dangerouslySetInnerHTML={{ __html: snippet }} />
          </li>
        ))}
      </ol>
      {found?.hasMore && <button onClick={() => searchMore()}>More</button>}
    </search>
  );
}

function Messages({ id }: { id: string }) {
  const chat = useChat(id);
  const [stop, setStop] = useState<AbortController | null>(null);

  async function stream(messageId: string, question: string) {
    const controller = new AbortController();
    setStop(controller);
    for await (const content of answer(question, controller.signal)) chat.updateMessage(messageId, content);
    chat.updateMessage(messageId, { status: controller.signal.aborted ? "interrupted" : "complete" });
    setStop(null);
  }
  const ask = (question: string) =>
    stream(chat.addMessage({ role: "assistant", content: "", status: "streaming" }), question);

  if (chat.load.status === "error")
    return <button onClick={() => chat.reload()}>The chat could not be loaded. Try again</button>;
  if (chat.load.status !== "ready") return <p>Loading …</p>;
  return (
    <>
      {chat.messages.map((message, index) => (
        <Item
          key={message.id}
          chat={chat}
          message={message}
          onEdit={(content) => {
            chat.edit(message.id, content);
            void ask(content);
          }}
          onRegenerate={() => stream(chat.regenerate(message.id), chat.messages[index - 1]?.content ?? "")}
        />
      ))}
      {stop && <button onClick={() => stop.abort()}>Stop</button>}
      <Composer
        onSend={(content, images) => {
          if (!chat.messages.length) chat.rename([...content.slice(0, 80)].slice(0, 40).join(""));
          chat.addMessage({ role: "user", content, images });
          void ask(content);
        }}
      />
    </>
  );
}

interface ItemProps {
  chat: Chat;
  message: Message;
  onEdit: (content: string) => void;
  onRegenerate: () => void;
}

function Item({ chat, message, onEdit, onRegenerate }: ItemProps) {
  const { id, role, content, images, siblings, status, failure } = message;
  const place = siblings.indexOf(id);
  const edit = () => {
    const changed = prompt("Message", content);
    if (changed) onEdit(changed);
  };
  return (
    <article data-role={role} data-status={status}>
      <p>{content || "…"}</p>
      {images.map((src) => (
        <img key={src} src={src} alt="" />
      ))}
      {failure && (
        <p role="alert">
          Not stored: {String((failure.error as Error).message)}{" "}
          <button onClick={() => chat.retry(id)}>Retry</button>
          <button onClick={() => chat.discard(id)}>Discard</button>
        </p>
      )}
      <footer>
        {siblings.length > 1 && (
          <>
            <button
              disabled={place === 0}
              onClick={() => chat.switchBranch(siblings[place - 1]!)}
              aria-label="Previous"
            >
              ‹
            </button>
            {place + 1}/{siblings.length}
            <button
              disabled={place + 1 === siblings.length}
              onClick={() => chat.switchBranch(siblings[place + 1]!)}
              aria-label="Next"
            >
              ›
            </button>
          </>
        )}
        {role === "user" ? (
          <button onClick={edit}>Edit</button>
        ) : (
          <button onClick={onRegenerate}>Regenerate</button>
        )}
        <button onClick={() => chat.deleteMessage(id)}>Delete</button>
      </footer>
    </article>
  );
}

function Composer({ onSend }: { onSend: (content: string, images: string[]) => void }) {
  async function send(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const form = event.currentTarget;
    const data = new FormData(form);
    const pictures = data
      .getAll("pictures")
      .filter((file): file is File => file instanceof File && file.size > 0);
    const images = await Promise.all(pictures.map(dataUrl));
    form.reset();
    onSend(String(data.get("content")), images);
  }
  return (
    <form onSubmit={send}>
      <input name="content" placeholder="Message" autoComplete="off" />
      <input name="pictures" type="file" accept="image/*" multiple aria-label="Pictures" />
      <button>Send</button>
    </form>
  );
}

const dataUrl = (file: File) =>
  new Promise<string>((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result as string);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });

createRoot(document.body.appendChild(document.createElement("div"))).render(
  <StrictMode>
    <SessionsProvider store={store}>
      <Page />
    </SessionsProvider>
  </StrictMode>,
);
