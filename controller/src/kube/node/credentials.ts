// Where the API server is and who we are: from the pod's service account, or from a kubeconfig.
//
// Invariants:
//   CR1. In a pod nothing but two small files is needed: the client library, which costs about 80 MB of memory, is loaded
//        only for kubeconfigs, with all their ways to authenticate (certificates, tokens, exec plugins, OIDC).
//   CR2. Tokens and certificates are read anew at least once a minute: service account tokens are rotated hourly.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { Agent } from "node:http";
import { join } from "node:path";

import { Failure, toFailure } from "@sluice/kit";
import type { Clock } from "@sluice/kit/env";

/** What a connection and a request need. */
export interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly tls: {
    readonly ca?: string | Buffer;
    readonly cert?: string | Buffer;
    readonly key?: string | Buffer;
    readonly servername?: string;
    readonly rejectUnauthorized?: boolean;
  };
  /** For clusters behind a proxy; else the adapter's own. */
  readonly agent?: Agent;
}

export interface CredentialSource {
  /** `https://host:port`, without a slash at the end. */
  readonly server: string;
  /** The namespace of the pod or of the context. */
  readonly namespace: string;
  current(): Promise<Credentials>;
}

export const SERVICE_ACCOUNT_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount";
const REREAD_MS = 60_000;

/** The service account of the pod that this process runs in, or (SLUICE_SERVICE_ACCOUNT_DIRECTORY) of one that it plays. */
export async function inClusterCredentials(options: {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly directory?: string;
}): Promise<CredentialSource> {
  const directory = options.directory ?? options.env["SLUICE_SERVICE_ACCOUNT_DIRECTORY"] ?? SERVICE_ACCOUNT_DIRECTORY;
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port = "443" } = options.env;
  if (host === undefined || host === "") {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: "KUBERNETES_SERVICE_HOST is not set: this process does not run in a pod",
      remedy: "Run it in the cluster, or name a kubeconfig (KUBECONFIG or --kubeconfig).",
    });
  }
  const read = async (name: string): Promise<string> => {
    try {
      return (await readFile(join(directory, name), "utf8")).trim();
    } catch (thrown) {
      throw new Failure("CONFIG_INVALID", {
        retry: "backoff",
        message: `cannot read the service account's ${name}: ${toFailure(thrown).message}`,
        remedy: "Give the pod a service account with a mounted token (automountServiceAccountToken).",
        cause: thrown,
      });
    }
  };
  let held: Credentials | undefined;
  let readMs = Number.NEGATIVE_INFINITY;
  const current = async (): Promise<Credentials> => {
    if (held !== undefined && options.clock.nowMs() - readMs < REREAD_MS) return held;
    const [token, ca] = await Promise.all([read("token"), read("ca.crt")]);
    readMs = options.clock.nowMs();
    held = { headers: { authorization: `Bearer ${token}` }, tls: { ca } };
    return held;
  };
  await current();
  return {
    server: `https://${host.includes(":") ? `[${host}]` : host}:${port}`,
    namespace: await read("namespace"),
    current,
  };
}

/** A context of a kubeconfig; the current one by default. */
export async function kubeconfigCredentials(options: {
  readonly path: string;
  readonly context?: string;
}): Promise<CredentialSource> {
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  try {
    config.loadFromFile(options.path);
  } catch (thrown) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `cannot read the kubeconfig ${options.path}: ${toFailure(thrown).message}`,
      remedy: "Name a kubeconfig that kubectl can use.",
      cause: thrown,
    });
  }
  if (options.context !== undefined) config.setCurrentContext(options.context);
  const cluster = config.getCurrentCluster();
  if (cluster === null) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `the kubeconfig ${options.path} has no cluster for the context ${config.getCurrentContext()}`,
      remedy: "Choose a context: kubectl config use-context NAME.",
    });
  }
  return {
    server: cluster.server.replace(/\/+$/, ""),
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? "default",
    current: async () => {
      if (cluster.server.startsWith("http:")) return { headers: {}, tls: {} }; // kubectl proxy: nothing to show
      const applied: Parameters<typeof config.applyToHTTPSOptions>[0] = { headers: {} };
      await config.applyToHTTPSOptions(applied);
      const { ca, cert, key, servername, rejectUnauthorized, auth, headers } = applied;
      const basic = typeof auth === "string" ? `Basic ${Buffer.from(auth).toString("base64")}` : undefined;
      return {
        headers: { ...(headers as Record<string, string>), ...(basic !== undefined && { authorization: basic }) },
        tls: {
          ...(ca !== undefined && { ca: ca as string | Buffer }),
          ...(cert !== undefined && { cert: cert as string | Buffer }),
          ...(key !== undefined && { key: key as string | Buffer }),
          ...(servername !== undefined && { servername }),
          ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
        },
        ...(cluster.proxyUrl !== undefined && applied.agent instanceof Object && { agent: applied.agent }),
      };
    },
  };
}

/** A kubeconfig if one is named, else the pod's service account, else the user's own kubeconfig. */
export async function defaultCredentials(options: {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly kubeconfig?: string;
  readonly context?: string;
}): Promise<CredentialSource> {
  const { env, clock, context } = options;
  const named = options.kubeconfig ?? env["KUBECONFIG"];
  const chosen = context === undefined ? {} : { context };
  if (named !== undefined && named !== "") return await kubeconfigCredentials({ path: named, ...chosen });
  const own = join(env["HOME"] ?? "/", ".kube", "config");
  if (env["KUBERNETES_SERVICE_HOST"] === undefined && existsSync(own)) {
    return await kubeconfigCredentials({ path: own, ...chosen });
  }
  return await inClusterCredentials({ env, clock });
}
