// What the programs of the image run on: Node on a small Linux. Public where it can be pulled; else made here from the
// Node that npm installed, the libraries it needs, certificates, a user and a shell.

import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { debianRoot, isPresent, PUBLIC_NODE_JS_IMAGE, run, Stop } from "../cluster/index.ts";
import type { Engine, Progress } from "../cluster/index.ts";

const CERTIFICATES = "etc/ssl/certs/ca-certificates.crt";
const SHELL_TOOLS = [
  "sh",
  "cat",
  "cp",
  "df",
  "env",
  "grep",
  "head",
  "id",
  "kill",
  "ls",
  "mkdir",
  "ps",
  "rm",
  "sleep",
  "tail",
  "wget",
];

/** Those of node:24-bookworm-slim, so that both bases have one user. */
const FILES: Readonly<Record<string, string>> = {
  "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n",
  "etc/group": "root:x:0:\nnode:x:1000:\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
};

/**
 * The reference of an image with Node that the engine has: the one of SLUICE_JS_IMAGE, the public one, or our own.
 *
 * @throws Stop when it can neither be pulled nor made.
 */
export async function javascriptBase(engine: Engine, mode: "public" | "own", progress: Progress): Promise<string> {
  const chosen = process.env["SLUICE_JS_IMAGE"];
  const wanted = chosen !== undefined && chosen !== "" ? chosen : mode === "public" ? PUBLIC_NODE_JS_IMAGE : undefined;
  if (wanted === undefined) return ownBase(engine, progress);
  if (!(await isPresent(engine, wanted)))
    await progress.part(`pull ${wanted}`, () => engine.docker(["pull", "-q", wanted]));
  return wanted;
}

async function ownBase(engine: Engine, progress: Progress): Promise<string> {
  const node = process.execPath;
  const libraries = (await run(["ldd", node])).matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gmu);
  const paths = [...libraries].flatMap(([, path]) => (path === undefined ? [] : [path]));
  if (paths.length === 0)
    throw new Stop(`ldd names no library of ${node}`, "set SLUICE_JS_IMAGE to an image with Node 24");
  const hash = createHash("sha256")
    .update(readFileSync(import.meta.filename))
    .update(paths.join(" "));
  const tag = `localhost/sluice-js:${process.version}-${hash.digest("hex").slice(0, 10)}`;
  if (await isPresent(engine, tag)) return tag;
  const debian = join(await debianRoot(progress), "root");
  await progress.part("make a base image with Node", async () => {
    const context = mkdtempSync(join(tmpdir(), "sluice-base-"));
    try {
      const files = join(context, "files");
      const put = (from: string, to: string, mode: number): void => {
        mkdirSync(dirname(join(files, to)), { recursive: true });
        copyFileSync(from, join(files, to));
        chmodSync(join(files, to), mode);
      };
      put(node, "usr/local/bin/node", 0o755);
      for (const path of paths) put(path, path, 0o755);
      put(join(debian, "bin/busybox"), "bin/busybox", 0o755);
      for (const tool of SHELL_TOOLS) symlinkSync("busybox", join(files, "bin", tool));
      put(existsSync(`/${CERTIFICATES}`) ? `/${CERTIFICATES}` : join(debian, CERTIFICATES), CERTIFICATES, 0o644);
      for (const [path, text] of Object.entries(FILES)) {
        mkdirSync(dirname(join(files, path)), { recursive: true });
        writeFileSync(join(files, path), text);
      }
      for (const folder of ["tmp", "home/node", "root"]) mkdirSync(join(files, folder), { recursive: true });
      chmodSync(join(files, "tmp"), 0o1777);
      const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
      writeFileSync(join(context, "Dockerfile"), `FROM scratch\nCOPY files/ /\nENV PATH=${path}\nCMD ["node"]\n`);
      await engine.docker(["build", "-q", "-t", tag, context]);
    } finally {
      rmSync(context, { recursive: true, force: true });
    }
  });
  return tag;
}
