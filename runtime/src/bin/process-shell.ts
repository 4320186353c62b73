// What the process entries share: arguments, event lines, signals, the last resort for errors nobody caught.
//
// Invariants:
//   PS1. Standard output carries ProcessEvent lines, and of a TaskManager what user code prints (PR2, SH2).
//   PS2. The process stops gracefully on SIGTERM, SIGINT, or when the pipe on its standard input ends (its supervisor is gone).
//   PS3. An error that nobody caught is said as a `fatal` event, never only as an exit code.
//   PS4. A process that listens leaves to its successor what it compiled (where NODE_COMPILE_CACHE says), whatever ends it later.

import { fstatSync, readFileSync, writeSync } from "node:fs";
import { flushCompileCache } from "node:module";

import { AssertionError, Failure, toFailure } from "@sluice/kit";
import type { LogLevel, ObjectStore, StagedUploads } from "@sluice/kit/env";
import { NodeLog, openObjectStore, openStagedUploads } from "@sluice/kit/env/node";
import type { S3StoreOptions } from "@sluice/kit/env/node";
import type { PlanEnvironment, ProcessEvent, S3Config, StoreConfig } from "../model/index.ts";

/** Time for the last messages to leave the sockets. */
const LINGER_MS = 250;
const LOG_TAIL_CHARS_MAX = 256 * 1024;
const SECRETS: ReadonlySet<string> = new Set(["SLUICE_SECRET", "SLUICE_REST_TOKEN"]);

/** Events after which the process exits. */
export type EndEvent = Exclude<ProcessEvent, { readonly event: "listening" }>;

/** Who looks after this process. As a child of a supervisor it prints its events; in a pod they are reported otherwise. */
export interface Supervision {
  /** Besides the line on standard output. */
  readonly onEvent: (event: ProcessEvent) => void;
  readonly exitCodeOf: (event: EndEvent) => number;
}

const CHILD: Supervision = {
  onEvent: () => {},
  exitCodeOf: (event) => (event.event === "fatal" || (event.event === "jobEnded" && event.state === "FAILED") ? 1 : 0),
};
let supervision = CHILD;

/** Before {@link runProcess}; once. */
export function superviseBy(other: Supervision): void {
  supervision = other;
}

/** Tells of the end without a line on standard output, which would be news to a supervisor that asked for it itself. */
export function tellEnd(event: EndEvent): number {
  supervision.onEvent(event);
  return supervision.exitCodeOf(event);
}

/** The exit code that goes with it. */
export function exitCodeOf(event: EndEvent): number {
  return supervision.exitCodeOf(event);
}

export function printEvent(event: ProcessEvent): void {
  supervision.onEvent(event);
  try {
    writeSync(1, `${JSON.stringify(event)}\n`);
  } catch {
    // nobody listens any more; the exit code still speaks
  }
  if (event.event === "listening") flushCompileCache(); // PS4: a process that is killed writes nothing on its way out
}

/** The level of logs: SLUICE_LOG_LEVEL, default info. */
export function logLevel(): LogLevel {
  const text = process.env["SLUICE_LOG_LEVEL"];
  return text === "debug" || text === "warn" || text === "error" ? text : "info";
}

export function processLog(fields: Readonly<Record<string, string>>, tail?: LogTail): NodeLog {
  const format = process.env["SLUICE_LOG_FORMAT"] === "pretty" ? "pretty" : "json";
  const write = tail === undefined ? {} : { write: (line: string): void => tail.write(line) };
  return new NodeLog({ level: logLevel(), format, fields, ...write });
}

/** Passes lines on to stderr and remembers the newest: what REST shows of the log. */
export class LogTail {
  readonly #lines: string[] = [];
  #chars = 0;
  #modifiedMs = Date.now();

  write(line: string): void {
    try {
      writeSync(2, line);
    } catch {
      // a full or closed pipe must not stop the job
    }
    this.#lines.push(line);
    this.#chars += line.length;
    this.#modifiedMs = Date.now();
    while (this.#chars > LOG_TAIL_CHARS_MAX) this.#chars -= this.#lines.shift()?.length ?? 0;
  }

  read(): { readonly text: string; readonly modifiedMs: number } {
    return { text: this.#lines.join(""), modifiedMs: this.#modifiedMs };
  }
}

/** The JSON of the file named by `--config`. */
export function readConfig<T>(): T {
  const at = process.argv.indexOf("--config");
  const path = at < 0 ? undefined : process.argv[at + 1];
  if (path === undefined) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: "--config FILE is missing",
      remedy: "name the process's configuration file",
    });
  }
  return readJson<T>(path, "the configuration");
}

export function readJson<T>(path: string, what: string): T {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as T;
  } catch (cause) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `${what} ${path} cannot be read: ${(cause as Error).message}`,
      remedy: "write it as JSON, readable by this process",
      cause,
    });
  }
}

/** The secret of this attempt; taken out of the environment, so that no child and no user code finds it there. */
export function takeSecret(): string {
  const secret = process.env["SLUICE_SECRET"] ?? "";
  delete process.env["SLUICE_SECRET"];
  if (secret.length >= 16) return secret;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: "SLUICE_SECRET is not set, or shorter than 16 characters",
    remedy: "give all processes of one job the same random secret in this environment variable",
  });
}

/** What clients of this process's HTTP server must show; taken out of the environment as the secret is. Undefined: nothing. */
export function takeRestToken(): string | undefined {
  const token = process.env["SLUICE_REST_TOKEN"] ?? "";
  delete process.env["SLUICE_REST_TOKEN"];
  if (token === "") return undefined;
  if (/^[\x21-\x7e]{16,}$/u.test(token)) return token;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: "SLUICE_REST_TOKEN is shorter than 16 characters, or holds others than visible ones of ASCII",
    remedy: "set it to a random text, for example of `openssl rand -hex 32`",
  });
}

/** Without a token REST listens only where no other machine reaches it. */
export function requireTokenBeyondLoopback(address: string, token: string | undefined): void {
  const host = address.slice(0, address.lastIndexOf(":")).replaceAll(/[[\]]/gu, "");
  if (token !== undefined || host === "" || host === "localhost" || host === "::1" || host.startsWith("127.")) return;
  throw new Failure("CONFIG_INVALID", {
    retry: "never",
    message: `REST would listen on ${address}, which other machines reach, and whoever reaches it could stop the job`,
    remedy: "set SLUICE_REST_TOKEN to a random text that clients must show, or listen on 127.0.0.1 (rest.bind-address)",
  });
}

/** Variables of the machine rather than of anybody's configuration: user code finds them without declaring them. */
const MACHINE_VARIABLES: ReadonlySet<string> = new Set(
  "HOME HOSTNAME LANG LANGUAGE LOGNAME PATH PWD SHELL SSL_CERT_DIR SSL_CERT_FILE TEMP TERM TMP TMPDIR TZ USER".split(
    " ",
  ),
);

/**
 * `process.env` of user code: the machine's variables, and those that the job declared, with the values of its plan. What is read without
 * being declared would differ from process to process and start to start.
 */
export function userEnvironment(declared?: PlanEnvironment): NodeJS.ProcessEnv {
  const machine = Object.entries(process.env).filter(
    ([name]) => MACHINE_VARIABLES.has(name) || name.startsWith("LC_") || name.startsWith("NODE_"),
  );
  const secrets = (declared?.secrets ?? []).map(({ name }) => [name, process.env[name]] as const);
  return { ...Object.fromEntries(machine), ...declared?.values, ...Object.fromEntries(secrets) };
}

/** What a job may declare: everything but credentials of ours. */
export function declarableEnvironment(): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]): [string, string][] =>
      value === undefined || SECRETS.has(name) || name.startsWith("AWS_") ? [] : [[name, value]],
    ),
  );
}

/** How S3 is reached. Plain data; it holds secrets. */
export type S3Access = Partial<S3StoreOptions>;

/** The configured endpoint, with the credentials of this process's environment. */
export function s3Access(config: S3Config): S3Access {
  const {
    AWS_ACCESS_KEY_ID: accessKey,
    AWS_SECRET_ACCESS_KEY: secretKey,
    AWS_SESSION_TOKEN: sessionToken,
  } = process.env;
  return {
    ...(config.endpoint === undefined ? {} : { endpoint: config.endpoint }),
    ...(config.region === undefined ? {} : { region: config.region }),
    ...(config.pathStyle === undefined ? {} : { pathStyle: config.pathStyle }),
    ...(accessKey === undefined ? {} : { accessKey }),
    ...(secretKey === undefined ? {} : { secretKey }),
    ...(sessionToken === undefined ? {} : { sessionToken }),
  };
}

/** The store of a configuration; credentials come from the environment. */
export function openStore(config: StoreConfig): Promise<ObjectStore> {
  const faults = process.env["SLUICE_STORE_FAULTS"]; // test harnesses: {"seed": n, "rates": {...}}
  return openObjectStore(config.uri, {
    s3: s3Access(config),
    ...(faults === undefined
      ? {}
      : { faults: JSON.parse(faults) as { readonly seed: number; readonly rates: object } }),
  });
}

/** Uploads in parts at the place of a configuration; undefined where the store has none. */
export async function openUploads(config: StoreConfig): Promise<StagedUploads | undefined> {
  return /^s3[ap]?:/iu.test(config.uri) ? await openStagedUploads(config.uri, { s3: s3Access(config) }) : undefined;
}

/** Calls `stop` once on the first wish to end (PS2). */
export function onStop(stop: (reason: string) => Promise<void>): void {
  let isStopping = false;
  const begin = (reason: string): void => {
    if (isStopping) return;
    isStopping = true;
    stop(reason).catch(fatal);
  };
  process.on("SIGTERM", () => begin("SIGTERM"));
  process.on("SIGINT", () => begin("SIGINT"));
  // Only a pipe says something by its end: /dev/null, as in containers, is at its end from the beginning.
  const stdin = fstatSync(0);
  if (!stdin.isFIFO() && !stdin.isSocket()) return;
  process.stdin.on("end", () => begin("end of standard input"));
  process.stdin.on("error", () => begin("end of standard input"));
  process.stdin.resume();
}

/** Exits once what was sent has left. */
export function exitSoon(code: number): void {
  setTimeout(() => process.exit(code), LINGER_MS);
}

/** Says why, and exits with 1. */
export function fatal(thrown: unknown): void {
  const isBug = thrown instanceof AssertionError;
  const failure = isBug ? undefined : toFailure(thrown);
  const event: EndEvent = {
    event: "fatal",
    code: failure?.code ?? "INTERNAL",
    message: failure?.message ?? `broken assertion: ${(thrown as Error).message}`,
    remedy: failure?.remedy ?? "this is a bug in Sluice",
    retry: failure === undefined || failure.code === "INTERNAL" ? "backoff" : failure.retry,
  };
  printEvent(event);
  if (thrown instanceof Error && (failure === undefined || failure.code === "INTERNAL")) {
    process.stderr.write(`${thrown.stack ?? thrown.message}\n`);
  }
  exitSoon(exitCodeOf(event));
}

/** Runs an entry (PS3). */
export function runProcess(main: () => Promise<void>): void {
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  // Timers of the seams hold no process: this one lives until it is told to go.
  setInterval(() => {}, 2 ** 30);
  main().catch(fatal);
}

/** URL of a module beside this one: TypeScript in the repository, JavaScript in a package. */
export function besides(name: string): URL {
  return new URL(`./${name}${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url);
}
