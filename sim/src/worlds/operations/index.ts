// Public module of worlds/operations/.

export { runOperationsWorld } from "./world.ts";
