// The job's module in a pod: found where pod.json says, and laid where `@sluice/runtime` resolves to the image's.
//
// Invariants:
//   SO1. Its place follows from its content: all pods of a version load the same path, and what its digest covers is the same.
//   SO2. A directory with that name is whole: it is filled under another name first. So a container that starts again needs neither
//        network nor bucket for it.
//   SO3. What was named by a checksum is never used with another one.
//
// Not here: running it (plan.ts).

import { createHash, randomBytes } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { pathToFileURL } from "node:url";

import type { PodConfig, PodJobSource } from "@sluice/api";
import { Failure } from "@sluice/kit";
import { openStore } from "@sluice/runtime/internal/bin";

import { download } from "./download.ts";

const BYTES_MAX = 16 * 2 ** 20;
const TIMEOUT_MS = 60_000;
const MODULE_EXTENSIONS: readonly string[] = [".ts", ".mts", ".js", ".mjs"];
const NAME_DIGITS = 16;

/** Rejects with JOB_MODULE_NOT_FOUND, JOB_MODULE_INVALID, or with what {@link download} or the store says. Gives a file: URL. */
export async function placeSource(config: Pick<PodConfig, "source" | "store">, jobDir: string): Promise<string> {
  const { source } = config;
  switch (source.kind) {
    case "path":
      return moduleUrl(checkedModule(source.path, "set spec.job.path to a module in the image"));
    case "inline":
      return placed(jobDir, basename(source.path), [checkedModule(source.path, "give the module as spec.job.inline")]);
    case "configMap":
      return placed(jobDir, basename(source.path), siblings(source.path));
    case "uri":
      return await placeDownload(source, config.store, jobDir);
  }
}

function moduleUrl(path: string): string {
  return pathToFileURL(realpathSync(path)).href;
}

function checkedModule(path: string, remedy: string): string {
  if (!existsSync(path)) throw notFound(`there is no file ${path}`, remedy);
  if (statSync(path).isFile() && MODULE_EXTENSIONS.includes(extname(path))) return path;
  throw new Failure("JOB_MODULE_INVALID", {
    retry: "never",
    message: `${path} is not a TypeScript or JavaScript module`,
    remedy: `name a file that ends in ${MODULE_EXTENSIONS.join(", ")}`,
  });
}

/** All files of a mounted ConfigMap; the module may import the others. */
function siblings(path: string): readonly string[] {
  const directory = dirname(path);
  const names = existsSync(directory) ? readdirSync(directory).filter((name) => !name.startsWith("..")) : [];
  if (!names.includes(basename(path))) {
    throw notFound(
      names.length === 0
        ? `the ConfigMap of spec.job.configMap does not exist, or is empty: there is no ${path}`
        : `the ConfigMap of spec.job.configMap has no key ${basename(path)}; it has ${names.sort().join(", ")}`,
      "create it in the namespace of the StreamJob, or correct spec.job.configMap",
    );
  }
  checkedModule(path, "correct spec.job.configMap.key");
  return names.map((name) => join(directory, name)).filter((file) => statSync(file).isFile());
}

function placed(jobDir: string, entry: string, files: readonly string[]): string {
  return place(jobDir, entry, new Map(files.map((file) => [basename(file), readFileSync(file)])));
}

async function placeDownload(
  { url, sha256 }: Extract<PodJobSource, { readonly kind: "uri" }>,
  store: PodConfig["store"],
  jobDir: string,
): Promise<string> {
  const wanted = sha256.toLowerCase();
  const parsed = URL.parse(url);
  const named = basename(parsed?.pathname ?? "");
  const entry = MODULE_EXTENSIONS.includes(extname(named)) ? named : "job.ts";
  const before = join(jobDir, nameOf([[entry, wanted]]), entry);
  if (existsSync(before)) return moduleUrl(before); // SO2
  const isS3 = /^s3[ap]?:/iu.test(url);
  if (parsed === null || !(isS3 || /^https?:$/u.test(parsed.protocol))) {
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `the job's source ${url} is of no kind that can be fetched`,
      remedy: "use http://, https:// or s3:// in spec.job.uri.url",
    });
  }
  const bytes = isS3
    ? await readObject(url, store)
    : await download(url, { bytesMax: BYTES_MAX, timeoutMs: TIMEOUT_MS });
  const found = digestOf(bytes);
  if (found === wanted) return place(jobDir, entry, new Map([[entry, bytes]]));
  throw new Failure("JOB_MODULE_INVALID", {
    retry: "never",
    message: `the job's source ${url} has sha256 ${found} (${bytes.length} bytes), not ${wanted}`, // SO3
    remedy: "set spec.job.uri.sha256 to that of the file which is meant, or put that file there",
  });
}

/** With the credentials and the endpoint of the job's object store. */
async function readObject(url: string, { endpoint, region }: PodConfig["store"]): Promise<Uint8Array> {
  const at = url.lastIndexOf("/");
  const store = await openStore({
    uri: url.slice(0, at),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  });
  const name = url.slice(at + 1);
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const info = await store.stat(name, signal);
  if (info === undefined)
    throw new Failure("INPUT_NOT_FOUND", {
      retry: "never",
      message: `the job's source ${url} does not exist`,
      remedy: "correct spec.job.uri.url",
    });
  if (info.sizeBytes > BYTES_MAX)
    throw new Failure("CONFIG_INVALID", {
      retry: "never",
      message: `the job's source ${url} cannot be used: it is larger than ${BYTES_MAX} bytes`,
      remedy: "bundle the job without what it does not need",
    });
  const bytes = await store.get(name, signal);
  if (bytes !== undefined) return bytes;
  throw new Failure("STORAGE_UNAVAILABLE", {
    retry: "backoff",
    message: `the job's source ${url} was there, and is not`,
    remedy: "do not replace it while jobs start",
  });
}

/** SO1, SO2. */
function place(jobDir: string, entry: string, files: ReadonlyMap<string, Uint8Array>): string {
  const directory = join(jobDir, nameOf([...files].map(([name, bytes]) => [name, digestOf(bytes)])));
  if (!existsSync(directory)) {
    const filling = `${directory}.${process.pid}-${randomBytes(4).toString("hex")}`;
    mkdirSync(filling, { recursive: true });
    for (const [name, bytes] of files) writeFileSync(join(filling, name), bytes);
    try {
      renameSync(filling, directory);
    } catch (thrown) {
      if (!existsSync(directory)) throw thrown;
      rmSync(filling, { recursive: true, force: true }); // another process of this machine was faster
    }
  }
  return moduleUrl(join(directory, entry));
}

function nameOf(files: readonly (readonly [name: string, sha256: string])[]): string {
  const sorted = files.toSorted(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(sorted)).digest("hex").slice(0, NAME_DIGITS);
}

function digestOf(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function notFound(message: string, remedy: string): Failure {
  return new Failure("JOB_MODULE_NOT_FOUND", { retry: "never", message, remedy });
}
