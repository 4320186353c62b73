// One request to a started API server, for tests that look at its answers as they are.

import { request } from "node:https";

import type { ApiServer } from "./api-server.ts";

export interface ApiAnswer {
  readonly status: number;
  /** The parsed JSON: an object, a list, or a Status. */
  readonly body: unknown;
}

export interface ApiCall {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** With the query, for example "/api/v1/namespaces?limit=5". */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Of the body; of a PATCH "application/merge-patch+json" if left out. */
  readonly contentType?: string;
}

/** Rejects only when there is no answer; a refusal is an answer. */
export function callApiServer(server: Pick<ApiServer, "url" | "ca" | "adminToken">, call: ApiCall): Promise<ApiAnswer> {
  const contentType =
    call.contentType ?? (call.method === "PATCH" ? "application/merge-patch+json" : "application/json");
  const headers = { authorization: `Bearer ${server.adminToken}`, "content-type": contentType };
  return new Promise((resolve, reject) => {
    const sent = request(new URL(call.path, server.url), { method: call.method, ca: server.ca, headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on("data", (chunk: Buffer) => chunks.push(chunk));
      answer.on("error", reject);
      answer.on("end", () => {
        const text = Buffer.concat(chunks).toString("utf8");
        const isJson = answer.headers["content-type"]?.startsWith("application/json") === true;
        resolve({ status: answer.statusCode ?? 0, body: isJson ? (JSON.parse(text) as unknown) : text });
      });
    });
    sent.on("error", reject);
    sent.end(call.body === undefined ? undefined : JSON.stringify(call.body));
  });
}
