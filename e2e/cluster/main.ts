// `npm run e2e:cluster [-- COMMAND]`: a Kubernetes cluster on this machine. README.md tells what it takes and does.

import { parseArgs } from "node:util";

import { down, exportsOf, findCluster, runningNodes, up } from "./cluster.ts";
import { readRecord, withLock } from "./places.ts";
import { smoke } from "./smoke.ts";
import { startStore } from "./store.ts";
import { load } from "./load.ts";
import { Progress, Stop } from "./terminal.ts";

const USAGE = `npm run e2e:cluster [-- COMMAND]
  up             make the cluster, or find that it is there (the default)
  status         whether it is up, and of what it is made; exit code 1 if it is not
  env            print what a shell must export: eval "$(npm run -s e2e:cluster -- env)"
  load [IMAGE…]  put images of the engine into all nodes; sluice:dev if none is named
  store          MinIO in the namespace sluice-e2e
  smoke          check that the cluster does what clusters do
  down           remove it`;

const COMMANDS: Readonly<Record<string, (progress: Progress, args: readonly string[]) => Promise<void>>> = {
  up: async (progress) => {
    const cluster = await withLock(() => up(progress));
    console.error(progress.table());
    console.log(exportsOf(cluster));
  },
  status: async () => {
    const { engine, record } = await findCluster();
    const nodes = await runningNodes(engine);
    console.log(`up: ${nodes.length} nodes (${nodes.join(", ")}) of ${record.nodeImage}`);
    for (const [image, id] of Object.entries(record.loaded)) console.log(`loaded: ${image} ${id}`);
  },
  env: async () => {
    if (readRecord() === undefined) throw new Stop("there is no cluster", "make one with: npm run e2e:cluster");
    console.log(exportsOf(await findCluster()));
  },
  load: async (progress, images) => {
    const cluster = await findCluster();
    await withLock(() => load(cluster, images.length === 0 ? ["sluice:dev"] : images, progress));
  },
  store: async (progress) => {
    const cluster = await findCluster();
    await withLock(() => startStore(cluster, progress));
  },
  smoke: async (progress) => smoke(await findCluster(), progress),
  down: (progress) => withLock(() => down(progress)),
};

async function main(argv: readonly string[]): Promise<number> {
  const { positionals } = parseArgs({ args: [...argv], allowPositionals: true });
  const [name = "up", ...args] = positionals;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (command === undefined) {
    console.error(`unknown command "${name}"\n${USAGE}`);
    return 2;
  }
  try {
    await command(new Progress(), args);
    return 0;
  } catch (error) {
    if (!(error instanceof Stop)) throw error;
    console.error(`${error.message}\nWhat to do: ${error.remedy}`);
    return 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
