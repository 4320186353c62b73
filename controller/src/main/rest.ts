// The real seam to JobManagers: HTTP to a pod's address, with the token of its attempt.
//
// Invariants:
//   RE1. No call takes longer than CALL_MS, and no answer is longer than ANSWER_BYTES_MAX: pods run users' code.
//   RE2. No redirect is followed: the token goes to the pod that it was made for.

import { request } from "node:http";

import { REST_PORT, secretsOf } from "../objects/index.ts";
import type { JobManagerApi, RestAddress, RestAnswer, RestRequest } from "../observe/index.ts";

const CALL_MS = 2_000;
const ANSWER_BYTES_MAX = 2 ** 20;

/** `key`: the controller's, of which tokens are derived; undefined until it is known. */
export function httpJobManagers(key: () => Uint8Array | undefined): JobManagerApi {
  return {
    request: (at, what, signal) => {
      const known = key();
      return known === undefined ? Promise.resolve(undefined) : ask(known, at, what, signal);
    },
  };
}

function ask(
  key: Uint8Array,
  at: RestAddress,
  what: RestRequest,
  signal: AbortSignal,
): Promise<RestAnswer | undefined> {
  const { restToken } = secretsOf(key, { uid: at.uid, attempt: at.attempt });
  const body = what.body === undefined ? undefined : JSON.stringify(what.body);
  return new Promise((resolve) => {
    const nothing = (): void => resolve(undefined);
    const call = request(
      {
        host: at.podIp,
        port: REST_PORT,
        method: what.method,
        path: what.path,
        agent: false,
        signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]),
        headers: {
          authorization: `Bearer ${restToken}`,
          accept: "application/json",
          ...(body !== undefined && { "content-type": "application/json", "content-length": Buffer.byteLength(body) }),
          ...what.headers,
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let sizeBytes = 0;
        response.on("data", (chunk: Buffer) => {
          sizeBytes += chunk.length;
          if (sizeBytes > ANSWER_BYTES_MAX) call.destroy();
          else chunks.push(chunk);
        });
        response.on("error", nothing);
        response.on("close", nothing);
        response.on("end", () => resolve({ status: response.statusCode ?? 0, body: json(Buffer.concat(chunks)) }));
      },
    );
    call.on("error", nothing);
    call.end(body);
  });
}

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8")) as unknown;
  } catch {
    return undefined;
  }
}
