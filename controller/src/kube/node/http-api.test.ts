// The real adapter against sockets that misbehave (HA1-HA4, CR1-CR2).

import { afterEach, describe, expect, test } from "@jest/globals";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CONFIG_MAPS, isApiError, KubeClient } from "../index.ts";
import type { ConfigMap, WatchEvent } from "../index.ts";
import { defaultCredentials, HttpKubeApi, inClusterCredentials } from "./index.ts";

const MAP: ConfigMap = { apiVersion: "v1", kind: "ConfigMap", metadata: { namespace: "ns", name: "m" } };
const AT = { namespace: "ns", name: "m" };
const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
});

type Handler = (incoming: IncomingMessage, response: ServerResponse, body: string) => void;

async function serve(
  handler: Handler,
): Promise<{ readonly api: HttpKubeApi; readonly client: KubeClient; readonly connections: () => number }> {
  let connectionCount = 0;
  const server = createServer((incoming, response) => {
    let body = "";
    incoming.on("data", (piece: Buffer) => (body += piece.toString()));
    incoming.on("end", () => handler(incoming, response, body));
  });
  server.on("connection", () => (connectionCount += 1));
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const api = new HttpKubeApi({
    userAgent: "test/1",
    credentials: {
      server: `http://127.0.0.1:${port}`,
      namespace: "ns",
      current: () => Promise.resolve({ headers: { authorization: "Bearer t" }, tls: {} }),
    },
  });
  return { api, client: new KubeClient(api, { fieldManager: "fm" }), connections: () => connectionCount };
}

function json(response: ServerResponse, status: number, value: unknown, headers = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(value));
}

async function errorOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => "it did not fail",
    (thrown: unknown) => thrown,
  );
}

function watchOf(api: HttpKubeApi, signal?: AbortSignal): AsyncIterable<WatchEvent> {
  const request = {
    verb: "watch",
    type: CONFIG_MAPS,
    resourceVersion: "1",
    allowWatchBookmarks: true,
    timeoutSeconds: 60,
  } as const;
  return api.watch(request, signal && { signal });
}

describe("calls", () => {
  test("HA2: one connection serves many calls; headers, body and answer are whole", async () => {
    const seen: string[] = [];
    const { client, connections } = await serve((incoming, response, body) => {
      seen.push(`${incoming.method} ${incoming.url} ${incoming.headers["content-type"] ?? "-"} ${body}`);
      expect(incoming.headers).toMatchObject({ authorization: "Bearer t", "user-agent": "test/1" });
      json(response, 200, { ...MAP, data: { a: "ß日😀" } });
    });
    for (let i = 0; i < 5; i += 1) expect((await client.get(CONFIG_MAPS, AT)).data).toEqual({ a: "ß日😀" });
    await client.apply(CONFIG_MAPS, AT, { data: { k: "日" } });
    expect(connections()).toBe(1);
    const body = JSON.stringify({ data: { k: "日" }, apiVersion: "v1", kind: "ConfigMap", metadata: AT });
    expect(seen.at(-1)).toBe(
      `PATCH /api/v1/namespaces/ns/configmaps/m?fieldManager=fm&force=true application/apply-patch+yaml ${body}`,
    );
  });

  test("HA1: nobody listens: refused; cut before the answer: unknown; too slow: unknown; canceled: CANCELED", async () => {
    const { client, api } = await serve((incoming, response) => {
      if (incoming.method === "POST") incoming.socket.destroy();
      if (incoming.method === "PUT") {
        response.writeHead(200, { "content-length": 100 }).write("{");
        setImmediate(() => incoming.socket.destroy());
      }
    });
    const lost = { reason: "ConnectionLost", outcome: "unknown", status: 0 };
    expect(await errorOf(client.create(CONFIG_MAPS, MAP))).toMatchObject(lost);
    expect(await errorOf(client.update(CONFIG_MAPS, MAP))).toMatchObject(lost);
    expect(await errorOf(client.get(CONFIG_MAPS, AT, { timeoutMs: 50 }))).toMatchObject({
      reason: "ClientTimeout",
      outcome: "unknown",
    });
    const abort = new AbortController();
    const pending = errorOf(client.get(CONFIG_MAPS, AT, { signal: abort.signal }));
    abort.abort();
    expect(await pending).toMatchObject({ code: "CANCELED" });
    expect(await errorOf(client.get(CONFIG_MAPS, AT, { signal: AbortSignal.abort() }))).toMatchObject({
      code: "CANCELED",
    });
    for (const server of servers.splice(0)) {
      server.closeAllConnections();
      server.close();
    }
    expect(await errorOf(client.create(CONFIG_MAPS, MAP))).toMatchObject({
      reason: "ConnectionFailed",
      outcome: "refused",
    });
    api.close();
  });

  test("answers of the API server and of proxies become errors with their Retry-After", async () => {
    const { client } = await serve((incoming, response) => {
      if (incoming.method === "GET")
        json(response, 429, { kind: "Status", reason: "TooManyRequests", message: "later" }, { "retry-after": "2" });
      else response.writeHead(502).end("<html>bad gateway</html>");
    });
    expect(await errorOf(client.get(CONFIG_MAPS, AT))).toMatchObject({
      status: 429,
      reason: "TooManyRequests",
      retryAfterMs: 2_000,
    });
    expect(await errorOf(client.create(CONFIG_MAPS, MAP))).toMatchObject({ status: 502, outcome: "unknown" });
  });
});

describe("watches", () => {
  const added = (version: number): string =>
    `${JSON.stringify({ type: "ADDED", object: { ...MAP, metadata: { ...AT, uid: "u", resourceVersion: `${version}`, labels: { l: "日" } } } })}\n`;

  test("events come as they are written, cut anywhere; a server that ends it ends it", async () => {
    const { api } = await serve((_incoming, response) => {
      response.writeHead(200, { "content-type": "application/json" });
      const bytes = Buffer.from(added(1) + added(2) + added(3));
      let at = 0;
      const write = (): void => {
        if (at >= bytes.length) response.end();
        else response.write(bytes.subarray(at, (at += 7)), () => setImmediate(write));
      };
      write();
    });
    const seen: string[] = [];
    for await (const event of watchOf(api))
      seen.push(event.type === "ADDED" ? event.object.metadata.resourceVersion : event.type);
    expect(seen).toEqual(["OPENED", "1", "2", "3"]);
  });

  test("HA3: a cut connection throws; 410 throws; leaving the loop and aborting close the connection", async () => {
    let mode: "cut" | "expired" | "open" = "cut";
    const closed: Promise<void>[] = [];
    let cut = (): void => {};
    const { api } = await serve((incoming, response) => {
      if (mode === "expired") {
        json(response, 410, { kind: "Status", reason: "Expired", message: "too old" });
        return;
      }
      const { socket } = incoming;
      closed.push(new Promise((resolve) => socket.once("close", () => resolve())));
      cut = () => socket.destroy();
      response.writeHead(200).write(added(1));
    });
    const all = async (abort?: AbortController): Promise<string> => {
      const seen: string[] = [];
      try {
        for await (const event of watchOf(api, abort?.signal)) {
          seen.push(event.type);
          if (event.type !== "ADDED") continue;
          if (mode === "cut") cut();
          else if (abort === undefined) break;
          else abort.abort();
        }
        seen.push("end");
      } catch (thrown) {
        seen.push(
          isApiError(thrown) ? `${thrown.status} ${thrown.reason}` : String((thrown as { code?: string }).code),
        );
      }
      return seen.join(", ");
    };
    expect(await all()).toBe("OPENED, ADDED, 0 ConnectionLost");
    mode = "expired";
    expect(await all()).toBe("410 Expired");
    mode = "open";
    expect(await all()).toBe("OPENED, ADDED, end");
    expect(await all(new AbortController())).toBe("OPENED, ADDED, CANCELED");
    await Promise.all(closed); // both connections are gone
  });
});

describe("credentials", () => {
  test("CR2: a service account's token is read anew after a minute; IPv6; what is missing is named", async () => {
    const directory = mkdtempSync(join(tmpdir(), "sluice-account-"));
    let nowMs = 0;
    const clock = { nowMs: () => nowMs, wallMs: () => nowMs };
    const env = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "6443" };
    try {
      expect(await errorOf(inClusterCredentials({ env, clock, directory }))).toMatchObject({ code: "CONFIG_INVALID" });
      for (const [name, text] of [
        ["token", "one\n"],
        ["ca.crt", "CA"],
        ["namespace", "system"],
      ] as const)
        writeFileSync(join(directory, name), text);
      const credentials = await inClusterCredentials({ env, clock, directory });
      expect([credentials.server, credentials.namespace]).toEqual(["https://[fd00::1]:6443", "system"]);
      writeFileSync(join(directory, "token"), "two");
      nowMs = 59_000;
      expect((await credentials.current()).headers).toEqual({ authorization: "Bearer one" });
      nowMs = 61_000;
      expect(await credentials.current()).toEqual({ headers: { authorization: "Bearer two" }, tls: { ca: "CA" } });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test("outside of a pod and without a kubeconfig the message says what to do", async () => {
    const clock = { nowMs: () => 0, wallMs: () => 0 };
    const thrown = await errorOf(defaultCredentials({ env: { HOME: "/nowhere" }, clock }));
    expect(thrown).toMatchObject({ code: "CONFIG_INVALID", remedy: expect.stringContaining("kubeconfig") });
    const missing = await errorOf(defaultCredentials({ env: { KUBECONFIG: "/nowhere/config" }, clock }));
    expect(missing).toMatchObject({ code: "CONFIG_INVALID", message: expect.stringContaining("/nowhere/config") });
  });
});
