// Another module with the same graph: under the name of a job of positions-job.ts it is a foreign one.

export { main } from "../support/positions-job.ts";
