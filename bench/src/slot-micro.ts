// One slot in this thread, without processes: what a record of KeyedSum costs from source to sink, for profiles and comparisons.
//
//   node bench/src/slot-micro.ts [keys] [rounds] [seconds per round]
//
// Not here: checkpoints, other threads, the JobManager (keyed-sum/).

import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as immediate } from "node:timers/promises";
import { NodeClock, NodeLog } from "@sluice/kit/env/node";
import { buildGraph } from "@sluice/runtime/internal/datastream";
import { buildPlan, enumerateSplits } from "@sluice/runtime/internal/graph";
import { NOTHING_READ } from "@sluice/runtime/internal/model";
import type { AttemptNumber, ChannelSpec, Epoch, SlotCommand, SlotPort } from "@sluice/runtime/internal/model";
import { allocateMailbox, allocateRing, Doorbell } from "@sluice/runtime/internal/network";
import { noUploads } from "@sluice/runtime/internal/operators";
import { buildSlot, readSlotCounters, slotCountersBytes } from "@sluice/runtime/internal/task";

const [keys = "1000", rounds = "5", seconds = "2"] = process.argv.slice(2);
const moduleUrl = new URL("keyed-sum/job.ts", import.meta.url).href;
const graph = await buildGraph({
  job: moduleUrl,
  arguments: [keys, "long", mkdtempSync(join(tmpdir(), "sluice-bench-"))],
  configuration: { "parallelism.default": "1" },
  jobName: "keyed-sum",
});
const plan = buildPlan(graph, { splits: await enumerateSplits(graph), bundleHash: "" });
const doorbell = Doorbell.allocate();
const tasks = plan.vertices.map(({ id }) => ({ subtask: { vertexId: id, subtaskIndex: 0 }, restore: undefined }));
const channels = plan.vertices.flatMap((vertex) =>
  vertex.inputs.map((edge): ChannelSpec => ({
    edgeId: edge.id,
    source: { vertexId: edge.sourceVertexId, subtaskIndex: 0 },
    target: { vertexId: vertex.id, subtaskIndex: 0 },
    ring: allocateRing(),
    peerDoorbell: doorbell,
  })),
);
const commands: SlotCommand[] = [];
const counters = new SharedArrayBuffer(slotCountersBytes(tasks.length));
const port: SlotPort = {
  poll: () => commands.shift(),
  send: (event) => {
    if (event.type === "taskState" && event.failure !== undefined) console.error(event.failure.message);
  },
  submitSnapshot: () => {
    throw new Error("nobody triggers checkpoints here");
  },
  fetchParts: () => Promise.resolve({ contents: [], read: NOTHING_READ }),
};
const runner = buildSlot(
  {
    slotIndex: 0,
    epoch: 1 as Epoch,
    attempt: 0 as AttemptNumber,
    lineage: "bench",
    moduleUrl,
    plan,
    tasks,
    channels,
    endsAtOnce: false,
    doorbell,
    mailbox: allocateMailbox(),
    counters,
    plantedBugs: [],
  },
  graph,
  { mode: "EXACTLY_ONCE", checkpointingEnabled: true, bufferTimeoutMs: 100 },
  {
    clock: new NodeClock(),
    log: new NodeLog({ level: "warn" }),
    port,
    yieldToEvents: () => immediate(),
    readEnvironment: () => undefined,
    openUploads: noUploads,
  },
);
const running = runner.run();
const keepAlive = setInterval(() => undefined, 1_000);
const rows = (): number => readSlotCounters(counters, tasks.length).tasks[1]?.numRecordsIn ?? 0;
const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const figures: number[] = [];
let before = { rows: 0, cpu: 0 };
for (let round = -2; round < Number(rounds); round += 1) {
  const untilMs = performance.now() + Number(seconds) * 1_000;
  while (performance.now() < untilMs) await new Promise((resolve) => setTimeout(resolve, 20));
  const now = { rows: rows(), cpu: cpuSeconds() };
  if (round >= 0) figures.push((now.rows - before.rows) / (now.cpu - before.cpu) / 1e6);
  before = now;
}
commands.push({ type: "cancel" });
new Doorbell(doorbell).ring();
await running;
clearInterval(keepAlive);
figures.sort((a, b) => a - b);
console.log(
  `${keys} keys: ${figures.map((figure) => figure.toFixed(2)).join(" ")} M records per CPU-second, median ${(figures[figures.length >> 1] ?? 0).toFixed(2)}`,
);
