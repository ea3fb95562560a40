import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const client = fileURLToPath(new URL("../..", import.meta.url));

export default defineConfig({
  // The client is taken from the source beside this example, with the packages that are installed here.
  resolve: {
    alias: [
      { find: /^mai-sessions-client$/, replacement: `${client}src/index.ts` },
      { find: /^mai-sessions-client\/react$/, replacement: `${client}src/react.ts` },
    ],
    dedupe: ["react", "react-dom", "zustand"],
  },
  server: {
    fs: { allow: [client] },
    // The service runs on its default port; through the proxy page and API have one origin.
    proxy: { "/api": "http://127.0.0.1:8000" },
  },
});
