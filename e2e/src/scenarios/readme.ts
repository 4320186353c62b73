// What README says of Kubernetes, typed as it stands there; and `helm test`.
//
// Invariants:
//   RK1. Every kubectl line of the section is typed, in order, and succeeds; only the installation was done before, by the setup.
//   RK2. The manifest is README's but for its places in the bucket: a second run must not find the data of the first one, and be refused.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { parse, stringify } from "yaml";

import { attempt, run } from "../../cluster/index.ts";
import { kubectl, tryKubectl } from "../harness/index.ts";
import type { Context, Scenario } from "../scenario.ts";

const README = join(import.meta.dirname, "../../../README.md");

interface Section {
  readonly manifest: string;
  /** Lines that begin with kubectl, behind the manifest. */
  readonly commands: readonly string[];
}

export function sectionOf(text: string): Section {
  const section = /^## On Kubernetes\n([\s\S]*?)^## /mu.exec(text)?.[1] ?? "";
  const manifest = /^```yaml\n([\s\S]*?)^```/mu.exec(section)?.[1] ?? "";
  const behind = section.slice(section.indexOf(manifest));
  const commands = [...behind.matchAll(/^```sh\n([\s\S]*?)^```/gmu)]
    .flatMap(([, block = ""]) => block.replaceAll(/\\\n\s*/gu, "").split("\n"))
    .map((line) => line.replace(/\s+#.*$/u, "").trim())
    .filter((line) => line.startsWith("kubectl "));
  return { manifest, commands };
}

async function readme(context: Context): Promise<void> {
  const { world } = context;
  const { manifest, commands } = sectionOf(readFileSync(README, "utf8"));
  context.check(commands.length >= 8, `README has only ${commands.length} commands`);
  const folder = mkdtempSync(join(tmpdir(), "sluice-readme-"));
  try {
    const placed = manifest.replaceAll("s3://sluice/", `s3://sluice/${context.place("readme")}/`); // RK2
    context.check(placed !== manifest, "README's manifest names no place in s3://sluice/");
    writeFileSync(join(folder, "sum.yaml"), placed);
    // What `kubectl config set-context` does, in a copy: the scenarios beside this one use the same file.
    const kubeconfig = parse(readFileSync(world.cluster.env["KUBECONFIG"] ?? "", "utf8")) as {
      readonly contexts: { readonly context: { namespace?: string } }[];
    };
    for (const { context: one } of kubeconfig.contexts) one.namespace = world.release.namespace;
    writeFileSync(join(folder, "kubeconfig"), stringify(kubeconfig), { mode: 0o600 });
    const env = { ...world.cluster.env, KUBECONFIG: join(folder, "kubeconfig") };
    const clear = ["kubectl", "delete", "streamjob", "sum", "--ignore-not-found", "--timeout=60s"];
    await attempt(clear, { env });
    const answers = new Map<string, string>();
    for (const command of commands) {
      const { code, output } = await attempt(["sh", "-c", command], { env, cwd: folder });
      if (code !== 0) {
        const seen = await attempt(["kubectl", "describe", "streamjob", "sum"], { env });
        await attempt(clear, { env }); // it would take processors away from the other scenarios
        throw new Error(`${command} ended with ${code}: ${output}\n${seen.output}`);
      }
      answers.set(command, output);
      world.say(`readme: ${command}`);
    }
    const listed = answers.get("kubectl get streamjobs") ?? "";
    context.check(/^sum\s/mu.test(listed) && /STATE/u.test(listed), `kubectl get streamjobs says: ${listed}`);
    context.proof(`${commands.length} commands of README were typed: ${listed.trim().split("\n").at(-1) ?? ""}`);
    // Pods that have ended are not waited for by the deletion; the kubelet takes them away a moment later.
    const pods = ["-n", world.release.namespace, "pods", "-l", "sluice.dev/job=sum"];
    await tryKubectl(world, ["wait", "--for=delete", ...pods, "--timeout=60s"]);
    const left = await kubectl(world, ["get", ...pods, "-o", "name"]);
    context.check(left.trim() === "", `after kubectl delete there are still ${left}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function helmTest(context: Context): Promise<void> {
  const { cluster, release } = context.world;
  const output = await run(["helm", "test", release.name, "--namespace", release.namespace, "--timeout", "120s"], {
    env: cluster.env,
  });
  context.check(/Phase:\s+Succeeded/u.test(output), `helm test says: ${output}`);
  context.proof("helm test succeeded");
}

export const README_SCENARIOS: readonly Scenario[] = [
  { name: "readme", about: "the commands of README's section on Kubernetes, as typed", lane: "parallel", run: readme },
  { name: "helm-test", about: "helm test on the installed release", lane: "parallel", run: helmTest },
];
