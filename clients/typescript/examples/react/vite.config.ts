import { defineConfig } from "vite";

// The service runs on its default port; through the proxy page and API have one origin.
export default defineConfig({
  server: { proxy: { "/api": "http://127.0.0.1:8000" } },
});
