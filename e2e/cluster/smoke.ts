// Whether the cluster does what clusters do: `npm run e2e:cluster -- smoke`.
//
// Invariants:
//   SM1. Every check asks for data that only a working cluster can give; a check that found nothing to look at has failed.
//   SM2. What was made for the checks is removed at the end, also after a failure.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { javascriptBase } from "../image/index.ts";
import type { Cluster } from "./cluster.ts";
import { load } from "./load.ts";
import { attempt, run, Stop } from "./terminal.ts";
import type { Progress } from "./terminal.ts";

const NAMESPACE = "sluice-smoke";
const MANIFESTS = join(import.meta.dirname, "manifests");
const WAIT = "--timeout=120s";
const SERVICE = `web.${NAMESPACE}.svc.cluster.local`;

/** Runs in a pod: the addresses of the Service's name, and which pods answered twenty requests to the first of them. */
const ASK = `
const { lookup } = require("dns/promises");
(async () => {
  const { address } = await lookup(process.argv[1]);
  const seen = new Set();
  for (let i = 0; i < 20; i += 1) seen.add(await (await fetch("http://" + address)).text());
  console.log("seen " + JSON.stringify({ address, nodes: [...seen].sort() }));
})();`;

interface Check {
  readonly name: string;
  /** What it saw, for people. @throws Error when it is not as it must be. */
  readonly look: () => Promise<string>;
}

/** @throws Stop when a check fails. */
export async function smoke(cluster: Cluster, progress: Progress): Promise<void> {
  const { env } = cluster;
  const image = await javascriptBase(cluster.engine, cluster.record.mode, progress);
  await load(cluster, [image], progress);
  const kubectl = (...args: readonly string[]): Promise<string> => run(["kubectl", "-n", NAMESPACE, ...args], { env });
  await attempt(["kubectl", "delete", "namespace", NAMESPACE, "--ignore-not-found", WAIT], { env });
  await run(["kubectl", "create", "namespace", NAMESPACE], { env });
  let [passed, failed] = [0, 0];
  try {
    const manifest = readFileSync(join(MANIFESTS, "smoke.yaml"), "utf8").replaceAll("JS_IMAGE", image);
    await run(["kubectl", "-n", NAMESPACE, "apply", "-f", "-"], { env, input: manifest });
    for (const { name, look } of checksOf(kubectl, env)) {
      try {
        const saw = await look();
        passed += 1;
        progress.say(`ok      ${name}: ${saw}`);
      } catch (error) {
        failed += 1;
        progress.say(`FAILED  ${name}: ${(error as Error).message}`);
      }
    }
  } finally {
    await attempt(["kubectl", "delete", "namespace", NAMESPACE, WAIT], { env }); // SM2
  }
  console.log(`${passed} passed, ${failed} failed`);
  if (failed > 0 || passed === 0)
    throw new Stop("the cluster does not do what clusters do", "npm run e2e:cluster -- down, then up and smoke again");
}

function checksOf(kubectl: (...args: readonly string[]) => Promise<string>, env: NodeJS.ProcessEnv): readonly Check[] {
  return [
    {
      name: "three nodes are ready",
      look: async () => {
        const path = 'jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}';
        const nodes = (await kubectl("get", "nodes", "-o", path)).trim().split(" ");
        must(nodes.length === 3 && nodes.every((node) => node.endsWith("=True")), nodes.join(" "));
        return nodes.join(" ");
      },
    },
    {
      name: "a deployment is rolled out, one pod on each worker",
      look: async () => {
        await kubectl("rollout", "status", "deployment/web", WAIT);
        const nodes = words(await kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].spec.nodeName}"));
        must(new Set(nodes).size === 2, nodes.join(" "));
        return nodes.join(" ");
      },
    },
    {
      name: "from each of them the Service's name resolves to its address, and both answer there",
      look: async () => {
        const wanted = words(await kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"))[0];
        const pods = words(await kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"));
        must(pods.length === 2, `pods: ${pods.join(" ")}`);
        for (const pod of pods) {
          const output = await kubectl("exec", pod, "--", "node", "-e", ASK, SERVICE);
          const seen = JSON.parse(/^seen (.*)$/mu.exec(output)?.[1] ?? "{}") as { address?: string; nodes?: string[] };
          must(seen.address === wanted && seen.nodes?.length === 2, `${pod}: ${output}`);
        }
        return `${SERVICE} is ${wanted}`;
      },
    },
    {
      name: "a volume claim is bound and written to",
      look: async () => {
        await kubectl("wait", "--for=condition=Ready", "pod/writer", WAIT);
        const phase = await kubectl("get", "pvc", "data", "-o", "jsonpath={.status.phase}");
        const read = 'console.log(require("fs").readFileSync("/data/word", "utf8"))';
        const word = await kubectl("exec", "writer", "--", "node", "-e", read);
        must(phase === "Bound" && word.trim() === "kept", `${phase}, ${word}`);
        return `${phase}, with what was written`;
      },
    },
    {
      name: "helm installs a chart",
      look: async () => {
        const chart = join(MANIFESTS, "smoke-chart");
        await run(["helm", "-n", NAMESPACE, "install", "smoke", chart, "--set", "word=there", "--wait"], { env });
        const word = await kubectl("get", "configmap", "smoke-word", "-o", "jsonpath={.data.word}");
        must(word === "there", word);
        return "its object holds the value that was given";
      },
    },
    {
      name: "a pod that is deleted is gone",
      look: async () => {
        await kubectl("delete", "pod", "writer", WAIT);
        const { code, output } = await attempt(["kubectl", "-n", NAMESPACE, "get", "pod", "writer"], { env });
        must(code !== 0 && output.includes("NotFound"), output);
        return "NotFound";
      },
    },
    {
      name: "a pod that is deleted is replaced by its deployment",
      look: async () => {
        const uids = async (): Promise<readonly string[]> =>
          words(await kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}"));
        const before = await uids();
        const [pod = ""] = words(
          await kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}"),
        );
        await kubectl("delete", "pod", pod, WAIT);
        await kubectl("rollout", "status", "deployment/web", WAIT);
        const fresh = (await uids()).filter((uid) => !before.includes(uid));
        must(before.length === 2 && fresh.length === 1, `${before.length} before, ${fresh.length} new`);
        return "one pod has another uid";
      },
    },
  ];
}

function words(text: string): readonly string[] {
  return text.split(/\s+/u).filter((word) => word !== "");
}

function must(holds: boolean, otherwise: string): void {
  if (!holds) throw new Error(`saw ${otherwise}`);
}
