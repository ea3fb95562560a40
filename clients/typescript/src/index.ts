export * from "./client.js";
export type * from "./state.js";
export { createSessionsStore, messagesOf, sessionsStateCreator } from "./store.js";
export type { Json, Message, Session } from "./view.js";
