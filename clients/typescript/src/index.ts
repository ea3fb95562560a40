export * from "./client.js";
export * from "./errors.js";
export type * from "./state.js";
export { createSessionsStore } from "./store.js";
export type { Message, Session } from "./view.js";
