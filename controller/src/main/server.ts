// HTTP of the controller's process: a few paths that answer text.

import { createServer } from "node:http";

export interface TextAnswer {
  readonly ok: boolean;
  readonly text: string;
  readonly contentType?: string;
}

export interface Served {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens on all addresses; port 0: any. Other paths answer 404. */
export async function serve(
  port: number,
  paths: Readonly<Record<string, () => TextAnswer | Promise<TextAnswer>>>,
): Promise<Served> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    const handler = Object.hasOwn(paths, path) ? paths[path] : undefined;
    const answer = async (): Promise<void> => {
      const {
        ok,
        text,
        contentType = "text/plain; charset=utf-8",
      } = handler === undefined ? { ok: false, text: "not found\n" } : await handler();
      response.writeHead(handler === undefined ? 404 : ok ? 200 : 503, { "content-type": contentType });
      response.end(text);
    };
    answer().catch((thrown: unknown) => {
      response.writeHead(500).end(`${String(thrown)}\n`);
    });
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
