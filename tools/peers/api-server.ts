// A real Kubernetes API server with its own etcd, for tests of code that talks to one. There are no nodes: objects are
// stored, validated, admitted and watched as in every cluster, but no pod ever runs.
//
// Invariants:
//   AS1. Everything listens on loopback only, on ports that were free, over a folder of its own; nothing is shared with
//        another server, and nothing outside that folder is read or written.
//   AS2. It is ready when `startApiServer` returns: /readyz has said so.
//   AS3. `stop` returns when both processes are gone, and their folder with them; so does the end of this process.
//
// Without the controller manager nobody collects garbage, empties namespaces that are deleted, or makes service accounts
// and their tokens. A test that needs that names the controllers to run (`controllers`).

import { generateKeyPairSync, randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { kubernetes } from "./kubernetes.ts";
import { becomesReady, freePort, startServer } from "./process.ts";
import type { ServerProcess } from "./process.ts";

const READY_TIMEOUT_MS = 120_000;
const REQUEST_TIMEOUT_MS = 5_000;
const START_ATTEMPTS_MAX = 3;
const HOST = "127.0.0.1";

export interface ApiServer {
  /** For example "https://127.0.0.1:41234". */
  readonly url: string;
  /** The certificate to trust, PEM. */
  readonly ca: string;
  /** A bearer token of group system:masters. */
  readonly adminToken: string;
  /** Path of a kubeconfig with all three. */
  readonly kubeconfig: string;
  /** Path of a kubectl of the same version. */
  readonly kubectl: string;
  /** Of the API server, to pause (SIGSTOP) or kill it in a test. */
  readonly pid: number;
  readonly etcdPid: number;
  readonly stop: () => Promise<void>;
}

export interface ApiServerOptions {
  /** Controllers of the controller manager to run, for example ["garbage-collector-controller"]; none if left out. */
  readonly controllers?: readonly string[];
  /** More flags of kube-apiserver, for example ["--max-requests-inflight=5"]; the last one of a name wins. */
  readonly flags?: readonly string[];
}

/**
 * Starts an API server of its own for the caller and waits until it is ready; some seconds.
 *
 * @throws Error when Kubernetes is not available (ask `kubernetes.find()` first) or does not become ready; the message
 *   holds the last lines of the process that failed.
 */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const state = kubernetes.find();
  if (!state.available) throw new Error(state.reason);
  for (let attempt = 1; ; attempt += 1) {
    const outcome = await startOnce(dirname(state.program), options);
    if (typeof outcome !== "string") return outcome;
    // Between our look for free ports and the servers' binds somebody else may take one.
    if (attempt === START_ATTEMPTS_MAX) throw new Error(`the Kubernetes API server did not start: ${outcome}`);
  }
}

async function startOnce(programs: string, options: ApiServerOptions): Promise<ApiServer | string> {
  const folder = mkdtempSync(join(tmpdir(), "sluice-api-server-"));
  const started: ServerProcess[] = [];
  const stop = async (): Promise<void> => {
    // What they hold is thrown away, so they need not put it in order first; the reader of etcd goes first.
    for (const server of started.toReversed()) await server.stop("at once");
    rmSync(folder, { recursive: true, force: true });
  };
  const start = (program: string, args: readonly string[]): ServerProcess => {
    const server = startServer(join(programs, program), args, { PATH: process.env["PATH"] ?? "", HOME: folder });
    started.push(server);
    return server;
  };
  try {
    const [etcdPort, etcdPeerPort, port] = [await freePort(), await freePort(), await freePort()];
    const etcdUrl = `http://${HOST}:${etcdPort}`;
    const etcd = start("etcd", etcdFlags(folder, etcdUrl, `http://${HOST}:${etcdPeerPort}`));
    const etcdIsReady = async (): Promise<boolean> =>
      (await fetch(`${etcdUrl}/readyz`, { signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })).ok;
    if (!(await becomesReady(etcd, etcdIsReady, READY_TIMEOUT_MS))) return await given(etcd.output().trim(), stop);

    const files = writeCredentials(folder);
    const apiServer = start("kube-apiserver", [...apiServerFlags(files, etcdUrl, port), ...(options.flags ?? [])]);
    const url = `https://${HOST}:${port}`;
    // It makes itself a certificate, and the file holds its issuer too.
    const certificate = (): string => readFileSync(join(files.certificates, "apiserver.crt"), "utf8");
    const isReady = async (): Promise<boolean> =>
      (await statusOf(`${url}/readyz`, certificate(), files.adminToken)) === 200;
    if (!(await becomesReady(apiServer, isReady, READY_TIMEOUT_MS)))
      return await given(apiServer.output().trim(), stop);

    const ca = certificate();
    const kubeconfig = join(folder, "kubeconfig");
    writeFileSync(kubeconfig, JSON.stringify(kubeconfigOf(url, ca, files.adminToken)), { mode: 0o600 });
    if (options.controllers !== undefined)
      start("kube-controller-manager", controllerFlags(kubeconfig, files, options.controllers));
    const { pid } = apiServer;
    const etcdPid = etcd.pid;
    if (pid === undefined || etcdPid === undefined) return await given("it has no process id", stop);
    const { adminToken } = files;
    return { url, ca, adminToken, kubeconfig, kubectl: join(programs, "kubectl"), pid, etcdPid, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function given(failure: string, stop: () => Promise<void>): Promise<string> {
  await stop();
  return failure;
}

function etcdFlags(folder: string, clientUrl: string, peerUrl: string): readonly string[] {
  return [
    `--data-dir=${join(folder, "etcd")}`,
    `--listen-client-urls=${clientUrl}`,
    `--advertise-client-urls=${clientUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    "--unsafe-no-fsync", // a machine that crashes takes the test with it
    "--log-level=warn",
  ];
}

interface Credentials {
  readonly adminToken: string;
  readonly tokens: string;
  readonly serviceAccountKey: string;
  readonly certificates: string;
}

function writeCredentials(folder: string): Credentials {
  const adminToken = randomBytes(24).toString("hex");
  const tokens = join(folder, "tokens.csv");
  writeFileSync(tokens, `${adminToken},admin,admin,system:masters\n`, { mode: 0o600 });
  const serviceAccountKey = join(folder, "service-account.key");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(serviceAccountKey, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  const certificates = join(folder, "certificates");
  mkdirSync(certificates);
  return { adminToken, tokens, serviceAccountKey, certificates };
}

function apiServerFlags(files: Credentials, etcdUrl: string, port: number): readonly string[] {
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${HOST}`,
    `--advertise-address=${HOST}`,
    `--secure-port=${port}`,
    `--cert-dir=${files.certificates}`,
    `--token-auth-file=${files.tokens}`,
    "--authorization-mode=RBAC",
    "--allow-privileged=true",
    "--service-cluster-ip-range=10.96.0.0/16",
    "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
    `--service-account-signing-key-file=${files.serviceAccountKey}`,
    `--service-account-key-file=${files.serviceAccountKey}`,
    // It would refuse every pod until a controller has made the namespace's service account.
    "--disable-admission-plugins=ServiceAccount",
    "--endpoint-reconciler-type=none",
    "--profiling=false",
  ];
}

function controllerFlags(kubeconfig: string, files: Credentials, controllers: readonly string[]): readonly string[] {
  return [
    `--kubeconfig=${kubeconfig}`,
    `--controllers=${controllers.join(",")}`,
    `--service-account-private-key-file=${files.serviceAccountKey}`,
    `--cert-dir=${files.certificates}`,
    `--bind-address=${HOST}`,
    "--secure-port=0",
    "--leader-elect=false",
  ];
}

function kubeconfigOf(url: string, ca: string, token: string): object {
  return {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "test",
    contexts: [{ name: "test", context: { cluster: "test", user: "admin" } }],
    clusters: [{ name: "test", cluster: { server: url, "certificate-authority-data": btoa(ca) } }],
    users: [{ name: "admin", user: { token } }],
  };
}

function statusOf(url: string, ca: string, token: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `Bearer ${token}` };
    const asked = request(url, { ca, headers, timeout: REQUEST_TIMEOUT_MS, agent: false }, (response) => {
      response.resume();
      response.on("error", reject);
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
    asked.on("timeout", () => asked.destroy(new Error("timeout")));
    asked.on("error", reject);
    asked.end();
  });
}
