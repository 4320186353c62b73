// A process's HTTP side: the express shell that REST and /metrics share.
//
// Invariants:
//   HS1. Whatever a handler does, the client gets an answer and the process lives.
//   HS2. With a token, every request needs it but those for `openPaths`; how long the comparison takes tells nothing about it.
//   HS3. express is loaded when a server starts: slots and short-lived processes, which reach this module too, have none.
//
// Not here: what is answered (jobmanager/rest/routes.ts, MetricsPage).

import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo, Server } from "node:net";

import { Failure, toFailure } from "@sluice/kit";
import type { Log } from "@sluice/kit/env";
import type express from "express";

import type { MetricsPage } from "./page.ts";

const BODY_BYTES_MAX = 1_000_000;

export interface HttpRequest {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Text of the body; empty: none. */
  readonly body: string;
}

export interface HttpResponse {
  readonly status: number;
  /** Sent as JSON, or as plain text when `isText`. */
  readonly body: unknown;
  readonly isText?: true;
}

export interface HttpServerOptions {
  /** `host:port`; port 0 for any free one. */
  readonly address: string;
  /** Values for GET /metrics, asked at every scrape. */
  readonly metrics: () => MetricsPage | Promise<MetricsPage>;
  /** Everything but /metrics; without it, and where it resolves with undefined, it is 404. */
  readonly answer?: (request: HttpRequest) => Promise<HttpResponse | undefined>;
  /** What clients must show as `Authorization: Bearer TOKEN`; undefined: nothing. */
  readonly token: string | undefined;
  /** Paths that need no token. */
  readonly openPaths?: readonly string[];
  readonly log: Log;
}

export interface HttpServer {
  /** `host:port` as bound. */
  readonly address: string;
  /** Stops listening and drops open connections. */
  close(): Promise<void>;
}

/** Listens. Rejects with Failure ADDRESS_IN_USE, or CONFIG_INVALID for an address that is none. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { host, port } = parseAddress(options.address);
  const server = createServer(makeApplication((await import("express")).default, options)); // HS3
  server.keepAliveTimeout = 5_000;
  await listen(server, host, port, options.address);
  const bound = server.address() as AddressInfo;
  return {
    address: `${host.includes(":") ? `[${host}]` : host}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function makeApplication(library: typeof express, options: HttpServerOptions): express.Express {
  const app = library();
  app.disable("x-powered-by");
  app.disable("etag");
  app.set("query parser", "simple");
  if (options.token !== undefined) app.use(requireToken(options.token, options.openPaths ?? []));
  // express 5 hands what an async handler throws to the handler of errors
  app.get(["/metrics", "/v1/metrics"], async (_request, response) => {
    const page = await options.metrics();
    const text = await page.render();
    response.type(page.contentType).send(text);
  });
  app.use(library.text({ type: () => true, limit: BODY_BYTES_MAX }));
  app.use(async (request, response) => {
    const { method, path, query, headers } = request;
    const body = typeof request.body === "string" ? request.body : "";
    const answer = await options.answer?.({ method, path, query: texts(query), headers: texts(headers), body });
    if (answer === undefined) response.status(404).json({ errors: [`Unable to load requested file ${path}.`] });
    else if (answer.isText === true) response.status(answer.status).type("text/plain").send(answer.body);
    else response.status(answer.status).json(answer.body);
  });
  // express recognises a handler of errors by its four parameters
  app.use((thrown: unknown, request: express.Request, response: express.Response, next: express.NextFunction) => {
    const failure = toFailure(thrown);
    const said = (thrown as { status?: unknown }).status;
    const status = typeof said === "number" && said >= 400 && said < 500 ? said : 500; // of a request that express cannot read
    options.log.warn("http request failed", { path: request.path, code: failure.code, reason: failure.message });
    if (response.headersSent) next(thrown);
    else response.status(status).json({ errors: [status < 500 ? failure.message : "Internal server error."] });
  });
  return app;
}

/** HS2. */
function requireToken(token: string, openPaths: readonly string[]): express.RequestHandler {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  const expected = digest(token);
  return (request, response, next) => {
    const [, given] = /^Bearer +(\S+)$/iu.exec(request.headers.authorization ?? "") ?? [];
    const isRight = timingSafeEqual(digest(given ?? ""), expected) && given !== undefined;
    if (isRight || openPaths.includes(request.path)) {
      next();
      return;
    }
    const message = given === undefined ? "This needs a token: Authorization: Bearer TOKEN." : "The token is wrong.";
    response
      .status(401)
      .set("WWW-Authenticate", "Bearer")
      .json({ errors: [message] });
  };
}

/** Repeated parameters: the last one counts. */
function texts(query: unknown): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(query as Record<string, unknown>).map(([name, value]) => [
      name,
      String(Array.isArray(value) ? (value.at(-1) as unknown) : value),
    ]),
  );
}

function listen(server: Server, host: string, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const inUse = error.code === "EADDRINUSE";
      reject(
        new Failure(inUse ? "ADDRESS_IN_USE" : "CONFIG_INVALID", {
          retry: inUse ? "backoff" : "never",
          message: `cannot listen on ${address}: ${error.message}`,
          remedy: inUse
            ? "Stop the program that has the port, or choose another with --rest-port."
            : "Correct the address.",
          cause: error,
        }),
      );
    });
    server.listen(port, host, () => resolve());
  });
}

function parseAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `"${address}" is not an address to listen on`,
      remedy: "Write host:port, for example 127.0.0.1:8081.",
    });
  }
  return { host: match[1] ?? match[2] ?? "127.0.0.1", port };
}
