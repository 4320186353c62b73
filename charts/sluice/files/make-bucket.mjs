// Makes the bucket of the trial object store, once it answers. Run by `node -e` in the image, with its library for S3.
//
// Environment: ENDPOINT, BUCKET, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.

import { setTimeout as sleep } from "node:timers/promises";

import { Client } from "minio";

const { ENDPOINT, BUCKET, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey } = process.env;
const RETRY_INTERVAL_MS = 1_000;
/** The Job's own deadline comes earlier. */
const ATTEMPTS_MAX = 600;

const { hostname, port } = new URL(ENDPOINT);
const client = new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey, secretKey });

for (let attempt = 1; ; attempt += 1) {
  try {
    if (await client.bucketExists(BUCKET)) {
      console.log(`bucket ${BUCKET} is there`);
    } else {
      await client.makeBucket(BUCKET);
      console.log(`made bucket ${BUCKET}`);
    }
    break;
  } catch (error) {
    console.log(`${ENDPOINT} does not answer yet: ${error.message}`);
    if (attempt === ATTEMPTS_MAX) throw error;
    await sleep(RETRY_INTERVAL_MS);
  }
}
