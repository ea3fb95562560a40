/** A model for the example: it repeats the question, word by word. */

export async function* answer(question: string, signal: AbortSignal): AsyncGenerator<string> {
  const number = Math.ceil(Math.random() * 1000);
  const reply = `You said: ${question || "nothing"}. That was answer ${number}.`;
  let text = "";
  for (const word of reply.split(/(?<= )/)) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (signal.aborted) return;
    yield (text += word);
  }
}
