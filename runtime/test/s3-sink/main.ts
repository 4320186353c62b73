// `npm run soak -- publication`: the file sink's publication on a real MinIO, its client cut off at random moments.
//
//   --seeds N     rounds of each way (default 1,000)
//   --from S      the first seed (default 0)
//   --planted     publishes as it was done before: the run then succeeds when a loss is noticed
//
// A line per wrong round, at the end one of JSON. Exit code 0: no round was wrong (with --planted: one was), and many were cut inside.

import { startMinio } from "@sluice/tools/peers";
import { parseArgs } from "node:util";

import { makeBucket } from "../support/store.ts";
import { publicationRounds, type Way } from "./publication.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "0" },
    planted: { type: "boolean", default: false },
  },
});
const [first, count] = [Number(values.from), Number(values.seeds)];
const ways: readonly Way[] = values.planted ? ["uploads-completed-late"] : ["staged", "staged-in-parts"];

const server = await startMinio();
try {
  await makeBucket(server, "publication");
  const rounds = await publicationRounds(server);
  let [wrongCount, insideCount] = [0, 0];
  for (const way of ways) {
    for (let seed = first; seed < first + count; seed += 1) {
      const { wrong, isCutInside } = await rounds.run(way, seed);
      if (isCutInside) insideCount += 1;
      if (wrong === undefined) continue;
      wrongCount += 1;
      console.log(`${way}, seed ${seed}: ${wrong}`);
    }
  }
  await rounds.close();
  console.log(JSON.stringify({ ways, rounds: ways.length * count, insideCount, wrongCount }));
  const isNoticed = wrongCount > 0;
  process.exitCode = isNoticed === values.planted && insideCount > 0 ? 0 : 1;
} finally {
  await server.stop();
}
