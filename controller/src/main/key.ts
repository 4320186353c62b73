// The controller's key: 32 random bytes in a Secret of its own namespace, of which the secrets of all attempts are derived.
//
// Invariants:
//   KE1. Made once, by create: of two controllers that make it, one finds the other's.
//   KE2. It is never logged, and leaves this process as an HMAC only.

import { randomBytes } from "node:crypto";

import { Failure } from "@sluice/kit";

import { isAlreadyExists, SECRETS } from "../kube/index.ts";
import type { KubeClient, Secret } from "../kube/index.ts";

export const KEY_SECRET = "sluice-controller-key";
const KEY_FIELD = "key";
const KEY_BYTES = 32;

/** Reads the key, or makes it. Fails with CONFIG_INVALID when the Secret holds none. */
export async function controllerKey(client: KubeClient, namespace: string, signal: AbortSignal): Promise<Uint8Array> {
  const at = { namespace, name: KEY_SECRET };
  const found = await client.find(SECRETS, at, { signal });
  if (found !== undefined) return keyOf(found, namespace);
  const made: Secret = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: {
      ...at,
      labels: { "app.kubernetes.io/name": "sluice", "app.kubernetes.io/managed-by": "sluice-controller" },
    },
    type: "Opaque",
    data: { [KEY_FIELD]: randomBytes(KEY_BYTES).toString("base64") },
    immutable: true,
  };
  try {
    return keyOf(await client.create(SECRETS, made, { signal }), namespace);
  } catch (thrown) {
    if (!isAlreadyExists(thrown)) throw thrown;
    return keyOf(await client.get(SECRETS, at, { signal }), namespace); // KE1
  }
}

function keyOf(secret: Secret, namespace: string): Uint8Array {
  const bytes = Buffer.from(secret.data?.[KEY_FIELD] ?? "", "base64");
  if (bytes.length >= KEY_BYTES) return bytes;
  throw new Failure("CONFIG_INVALID", {
    retry: "backoff",
    message: `Secret ${namespace}/${KEY_SECRET} holds no key of ${KEY_BYTES} bytes under "${KEY_FIELD}"`,
    remedy:
      "delete it: the controller makes another one, and the pods of running jobs are asked with its tokens after their next start",
  });
}
