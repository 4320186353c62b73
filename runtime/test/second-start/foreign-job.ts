// Another module under the same job name: another identity, whatever it does.

export { main } from "../support/numbers-job.ts";
