// A sink's client that dies at any moment of publication loses nothing and doubles nothing; more rounds: `npm run soak -- publication`.

import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { minio, startMinio } from "@sluice/tools/peers";
import type { MinioServer } from "@sluice/tools/peers";
import { describeWithPeer } from "@sluice/tools/peers/jest";

import { makeBucket } from "../support/store.ts";
import { publicationRounds, type Rounds, type Way } from "./publication.ts";

const ROUNDS: Readonly<Record<Way, number>> = { staged: 60, "staged-in-parts": 10, "uploads-completed-late": 60 };
const TEST_TIMEOUT_MS = 240_000;

describeWithPeer(minio, "publishing on S3", () => {
  let server: MinioServer;
  let rounds: Rounds;

  beforeAll(async () => {
    server = await startMinio();
    await makeBucket(server, "publication");
    rounds = await publicationRounds(server);
  }, TEST_TIMEOUT_MS);
  afterAll(async () => {
    await rounds?.close();
    await server?.stop();
  });

  async function play(way: Way): Promise<{ readonly wrong: readonly string[]; readonly insideCount: number }> {
    const wrong: string[] = [];
    let insideCount = 0;
    for (let seed = 0; seed < ROUNDS[way]; seed += 1) {
      const outcome = await rounds.run(way, seed);
      if (outcome.isCutInside) insideCount += 1;
      if (outcome.wrong !== undefined) wrong.push(`${way}, seed ${seed}: ${outcome.wrong}`);
    }
    return { wrong, insideCount };
  }

  test.each(["staged", "staged-in-parts"] as const)(
    "OF7: cut off at any moment: %s",
    async (way) => {
      const { wrong, insideCount } = await play(way);
      expect(wrong).toEqual([]);
      expect(insideCount).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "the rounds notice a way of publishing that loses: uploads completed after the commit",
    async () => {
      const { wrong } = await play("uploads-completed-late");
      expect(wrong.length).toBeGreaterThan(0);
    },
    TEST_TIMEOUT_MS,
  );
});
