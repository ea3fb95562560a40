/** A model for the example: it repeats what it hears, word by word. */

export async function* answer(question: string, signal: AbortSignal): AsyncGenerator<string> {
  let text = "";
  for (const word of `You said: ${question || "nothing"}. That was answer ${Math.ceil(Math.random() * 1000)}.`.split(
    /(?<= )/,
  )) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    if (signal.aborted) return;
    yield (text += word);
  }
}
